"""What the figures of a run are computed from: its accounted steps, and their sums."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.barrier.processed import Processed
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.trace.trace import FloatArray


@dataclass(frozen=True)
class WindowSteps:
    """The accounted steps of a window, with what is known of the run. Times in ms."""

    accounts: BarrierAccounts
    model: StepTimeModel
    max_num_seqs: int | None
    makespan_ms: float
    """End of the last step - start of the first."""
    kv_capacity: int | None = None
    """KV tokens that fit on a rank, where that is known."""
    lacks: Load | None = None
    """The load that the trace lacks; the other stands in for it in the accounts."""
    processed: Processed | None = None
    """The tokens that the steps process, prefill among them; None where there is no prefill."""

    @cached_property
    def tokens_processed(self) -> Processed:
        """How evenly the tokens that the steps process fall on the ranks."""
        return self.processed or Processed.of_decode(self.accounts)

    @cached_property
    def balanced_ms(self) -> float:
        """Sum of the step times if every rank took the mean rank time of its step."""
        return float(self.accounts.balanced_ms.sum())

    @cached_property
    def totals(self) -> RunTotals:
        """The sums of the steps."""
        return RunTotals.of(self.accounts, self.model)

    def idle_percentile(self, share: int) -> float:
        """Percentile over the steps that take time of the share of a step's rank-time that is barrier idle."""
        return float(np.percentile(self.accounts.idle_fraction[self.accounts.step_ms > 0], share))

    def loaded_mean(self, ratios: FloatArray) -> float:
        """Mean of (S,) ratios of loads over the steps in which some rank holds a token; NaN where there is none."""
        loaded = self.accounts.loaded
        return float(ratios[loaded].mean()) if loaded.any() else float("nan")


def straggler_tokens(accounts: BarrierAccounts, model: StepTimeModel) -> FloatArray:
    """(S,) KV tokens of the straggler of every step, over its speed."""
    if not model.rank_speeds:
        return accounts.straggler_kv_tokens
    return np.asarray(accounts.straggler_kv_tokens * model.slowness(accounts.dp_size)[accounts.straggler])


@dataclass(frozen=True)
class RunTotals:
    """Sums over the steps of a run: all that its time and energy depend on. Times in ms."""

    dp_size: int
    steps: int
    time_ms: float
    idle_ms: float
    """Barrier idle, over all ranks."""
    tokens: float
    straggler_kv_tokens: float
    """Of the straggler of every step, over its speed."""
    power_curve: float
    """Sums of f(n) over ranks and steps, and the same weighted by step time and by idle."""
    power_curve_ms: float
    power_curve_idle_ms: float
    load_curve: float
    """Sums of (L/max(L))^gamma over ranks and steps, and the same weighted by step time."""
    load_curve_ms: float

    @classmethod
    def of(cls, accounts: BarrierAccounts, model: StepTimeModel) -> RunTotals:
        """The totals of accounts that were taken with a model."""
        return cls(
            dp_size=accounts.dp_size,
            steps=len(accounts),
            time_ms=float(accounts.step_ms.sum()),
            idle_ms=float(accounts.idle_ms.sum()),
            tokens=float(accounts.running.sum()),
            straggler_kv_tokens=float(straggler_tokens(accounts, model).sum()),
            power_curve=float(accounts.power_curve.sum()),
            power_curve_ms=float((accounts.step_ms * accounts.power_curve).sum()),
            power_curve_idle_ms=float(accounts.power_curve_idle_ms.sum()),
            load_curve=float(accounts.load_curve.sum()),
            load_curve_ms=float((accounts.step_ms * accounts.load_curve).sum()),
        )

    def with_longer_steps(self, extra_ms: float) -> RunTotals:
        """The same loads with this much more of shared work in every step: idle does not change."""
        return replace(
            self,
            time_ms=self.time_ms + extra_ms * self.steps,
            power_curve_ms=self.power_curve_ms + extra_ms * self.power_curve,
            load_curve_ms=self.load_curve_ms + extra_ms * self.load_curve,
        )

    @property
    def rank_ms(self) -> float:
        """G * time."""
        return self.dp_size * self.time_ms

    @property
    def work_ms(self) -> float:
        """Rank-time that is no idle; perfect balance keeps it."""
        return self.rank_ms - self.idle_ms

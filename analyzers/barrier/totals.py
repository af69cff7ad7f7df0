"""The sums of the accounted steps of a run: most of its figures are computed from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from lbal.analyzers.barrier.account_pass import PREFILL
from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.trace.trace import FloatArray


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
    kv_tokens: float = 0.0
    """Over all ranks."""
    imbalance_tokens: float = 0.0
    """G*max(L) - sum(L)."""
    balanced_ms: float = 0.0
    """Step times if every rank took the mean rank time of its step."""
    loaded_steps: int = 0
    """Steps in which some rank holds a token."""
    balance_ratio: float = 0.0
    """Over these, as is the next: mean(L)/max(L), and max(L)/mean(L)."""
    imbalance_ratio: float = 0.0
    prefill_steps: int = 0
    """Steps in which any rank prefills."""
    prefill_tokens: float = 0.0
    prefill_ms: float = 0.0
    """What prefill takes under the model, over all ranks."""
    prefill_idle_ms: float = 0.0
    """Barrier idle that even prefill would do away with, over all ranks; below 0 where it would add some."""
    power_curve_prefill_ms: float = 0.0
    """Sum of f(n) over ranks and steps, weighted by what prefill takes."""
    padding_ms: float = 0.0
    """What padding takes under the model, over all ranks."""

    @classmethod
    def of(cls, accounts: BarrierAccounts, model: StepTimeModel) -> RunTotals:
        """The totals of accounts that were taken with a model."""
        loaded = accounts.loaded
        ratio = accounts.balance_ratio[loaded]
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
            kv_tokens=float(accounts.total_kv_tokens.sum()),
            imbalance_tokens=float(accounts.imbalance_tokens.sum()),
            balanced_ms=float(accounts.balanced_ms.sum()),
            loaded_steps=int(loaded.sum()),
            balance_ratio=float(ratio.sum()),
            imbalance_ratio=float((1 / ratio).sum()),
            prefill_steps=int((accounts.prefill_tokens > 0).sum()),
            prefill_tokens=float(accounts.prefill_tokens.sum()),
            prefill_ms=float(accounts.prefill_ms.sum()),
            prefill_idle_ms=float(accounts.causes_ms[:, PREFILL].sum()),
            power_curve_prefill_ms=float(accounts.power_curve_prefill_ms.sum()),
            padding_ms=float(accounts.padding_ms.sum()),
        )

    def __add__(self, other: RunTotals) -> RunTotals:
        """Of both: their steps are those of one run."""
        sums: dict[str, Any] = {
            field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)
        }
        return replace(self, **{**sums, "dp_size": self.dp_size})

    def loaded_mean(self, ratios: float) -> float:
        """The mean of ratios that were summed over the steps with load; NaN where there is none."""
        return ratios / self.loaded_steps if self.loaded_steps else math.nan

    def with_longer_steps(self, extra_ms: float) -> RunTotals:
        """The same loads with this much more of shared work in every step: idle does not change."""
        return replace(
            self,
            time_ms=self.time_ms + extra_ms * self.steps,
            balanced_ms=self.balanced_ms + extra_ms * self.steps,
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

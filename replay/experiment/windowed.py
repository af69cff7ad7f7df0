"""A replay in a window: the steps and requests that its figures are over, gathered once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.barrier.accounts import BarrierAccounts, join
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.barrier.window import Landmarks, Window
from lbal.analyzers.metrics.steps import idle_fraction, tokens_per_second
from lbal.analyzers.requests.latency import RequestTimes
from lbal.analyzers.requests.token_gaps import TokenGaps, TokenSteps, token_gaps
from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.engine.engine import Phase, Replay

ORDER: tuple[Phase, ...] = ("ramp", "full", "drain")


@dataclass(frozen=True)
class Windowed:
    """This replay, in this window. What is asked for is computed at the first time and kept."""

    replayed: Replay
    window: Window
    rows: slice
    """The steps of the window."""

    @classmethod
    def of(cls, replayed: Replay, window: Window) -> Windowed:
        """A replay in a window; raises `UsageError` for a window without steps."""
        ramp, full, drain = (len(replayed.accounts[phase]) if phase in replayed.accounts else 0 for phase in ORDER)
        marks = Landmarks(ramp + full + drain, ramp if full else None, ramp + full)
        return cls(replayed, window, marks.rows(window, replayed.policy.label))

    @cached_property
    def accounts(self) -> BarrierAccounts:
        """The accounts of the steps of the window, under the model of the replay."""
        return self._accounts(self.replayed.accounts)

    @cached_property
    def fold(self) -> AccountFold:
        """What figures need of them."""
        fold = AccountFold.of(self.accounts, self.replayed.step_model)
        fold.totals = replace(fold.totals, tokens=fold.totals.tokens + self.tokens_of_prompts(self.rows))
        return fold

    def tokens_of_prompts(self, rows: slice) -> float:
        """Tokens that steps give at the ends of prompts, beside those of decodes."""
        ended = self.replayed.ended_prompts
        return 0.0 if ended is None else float(ended[rows].sum())

    @property
    def totals(self) -> RunTotals:
        """Their sums."""
        return self.fold.totals

    @cached_property
    def by_slopes(self) -> list[BarrierAccounts]:
        """The accounts under the model of the replay, then under each of the other models that it was given."""
        return [self.accounts, *map(self._accounts, self.replayed.also)]

    @cached_property
    def step_ms_by_slopes(self) -> list[FloatArray]:
        """(S,) for each of these models the times of all steps of the replay, those outside of the window too."""
        return [
            np.concatenate([phases[phase].step_ms for phase in ORDER if phase in phases])
            for phases in (self.replayed.accounts, *self.replayed.also)
        ]

    @cached_property
    def admitted(self) -> NDArray[np.bool_]:
        """(N,) whether each request was admitted in a step of the window."""
        step = self.replayed.admitted_step
        return np.asarray((step >= self.rows.start) & (step < self.rows.stop))

    @cached_property
    def requests(self) -> pl.DataFrame:
        """The requests that count: those admitted in the window, all of them in the window of all steps."""
        requests = self.replayed.trace.requests
        assert requests is not None
        return requests if self.window == "all" else requests.filter(self.admitted)

    @cached_property
    def times(self) -> RequestTimes:
        """The latencies of `requests`."""
        return RequestTimes(self.requests, self._gaps(), has_first_token=self.replayed.prefills)

    def _gaps(self) -> TokenGaps | None:
        """The gaps between all tokens of `requests`, those after the window too; None where some were preempted."""
        replayed, requests = self.replayed, self.requests
        if replayed.preempted is not None and replayed.preempted.preemptions > 0:
            return None
        chosen, moments = slice(None) if self.window == "all" else self.admitted, replayed.moments
        steps = TokenSteps(
            first=moments.first_token_step[chosen],
            last=moments.last_step[chosen],
            tokens=requests["output_tokens"].to_numpy(),
            rank=requests["rank"].to_numpy(),
        )
        return token_gaps(replayed.start_ms + replayed.step_ms, steps, replayed.stalled)

    @property
    def waited_steps(self) -> IntArray:
        """The steps that each of `requests` waited."""
        waited = self.replayed.waited_steps
        return waited if self.window == "all" else waited[self.admitted]

    @property
    def makespan_ms(self) -> float:
        """End of the last step of the window - start of its first."""
        first, last = self.rows.start, self.rows.stop - 1
        replayed = self.replayed
        return float(replayed.start_ms[last] + replayed.step_ms[last] - replayed.start_ms[first])

    @property
    def of_run(self) -> dict[str, dict[str, float]]:
        """How much of the run the window is; nothing where it is all of it."""
        if self.window == "all":
            return {}
        step_ms, steps = self.replayed.step_ms, self.rows.stop - self.rows.start
        share = float(step_ms[self.rows].sum() / step_ms.sum())
        return {"window": {"steps": float(steps), "of_steps": float(len(step_ms)), "time_fraction": share}}

    @property
    def elsewhere(self) -> dict[str, dict[str, Any]]:
        """Idle and throughput in the window that the verdict may turn round in: the whole run, or, beside it, the steps
        up to the last admission. Nothing where that window has the same steps, or none."""
        other: Window = "admissions" if self.window == "all" else "all"
        phases = ORDER if other == "all" else ORDER[:-1]
        parts = [self.replayed.accounts[phase] for phase in phases if len(self.replayed.accounts.get(phase, ()))]
        steps = sum(map(len, parts))
        if steps in (0, self.rows.stop - self.rows.start):
            return {}
        totals = reduce(add, (RunTotals.of(accounts, self.replayed.step_model) for accounts in parts))
        totals = replace(totals, tokens=totals.tokens + self.tokens_of_prompts(slice(0, steps)))
        if totals.time_ms <= 0:
            return {}
        found = {"barrier_idle_fraction": idle_fraction(totals), "tokens_per_second": tokens_per_second(totals)}
        return {"elsewhere": {"window": other, "steps": float(steps), **found}}

    def _accounts(self, phases: Mapping[Phase, BarrierAccounts]) -> BarrierAccounts:
        """The accounts of the phases that lie in the window: its ends are ends of phases."""
        parts, stop = [], 0
        for phase in ORDER:
            start, stop = stop, stop + (len(phases[phase]) if phase in phases else 0)
            if self.rows.start <= start < stop <= self.rows.stop:
                parts.append(phases[phase])
        accounts = join(parts)
        assert len(accounts) == self.rows.stop - self.rows.start
        assert (accounts.step == np.arange(self.rows.start, self.rows.stop)).all()
        return accounts

"""Which requests are active in the steps of a trace, as far as it tells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from lbal.analyzers.barrier.bounds import Admissions, RequestLoads, SingleLoads, single_loads
from lbal.analyzers.barrier.clock import Starts
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays, Trace


@dataclass(frozen=True)
class Growth:
    """How the load of a request grows: `per_step` tokens per step, from min(prompt, window) up to the window."""

    per_step: float = 1.0
    window: float = np.inf


@dataclass(frozen=True)
class ActiveRequests:
    """Who is active when, by rows of all steps; told for some of the steps at a time, as they are too many at once."""

    admissions: Admissions
    growth: Growth

    @cached_property
    def _behind(self) -> IntArray:
        """(N,) the first step in which each is no longer active."""
        return np.asarray(self.admissions.first + self.admissions.steps)

    @cached_property
    def _in_order(self) -> tuple[IntArray, IntArray]:
        """The steps in which requests begin, and those in which they are no longer active."""
        return np.sort(self.admissions.first), np.sort(self._behind)

    def missing(self, row: int, steps: StepArrays) -> FloatArray:
        """(S,) running requests that the admissions do not account for; below 0 where they are too many.

        `steps` are those from `row` on.
        """
        rows = np.arange(row, row + len(steps))
        begun, ended = (np.searchsorted(each, rows, side="right") for each in self._in_order)
        return np.asarray(steps.num_running.sum(axis=1) - (begun - ended))

    def account_for(self, steps: StepBlocks) -> bool:
        """Whether the admissions account for every running request of all steps."""
        row = 0
        for block in steps:
            if self.missing(row, block).any():
                return False
            row += len(block)
        return True

    def single_loads(self, row: int, steps: StepArrays) -> SingleLoads:
        """The largest and smallest load of one active request in each of the steps from `row` on.

        Steps in which more requests would be active than were running are left open, and the smallest load also where
        it would be fewer.
        """
        here = (self.admissions.first < row + len(steps)) & (self._behind > row)
        prompts, active = self.admissions.prompt_tokens[here], self.admissions.steps[here]
        window = self.growth.window
        loads = RequestLoads(
            steps=active,
            entering_tokens=np.asarray(np.minimum(prompts, window), np.int64),
            growing_steps=np.asarray(np.minimum(active, np.maximum(window - prompts, 0)), np.int64),
            growth=self.growth.per_step,
        )
        single = single_loads(loads, self.admissions.first[here] - row, len(steps))
        missing = self.missing(row, steps)
        return SingleLoads(
            np.where(missing >= 0, single.largest, np.nan), np.where(missing == 0, single.smallest, np.nan)
        )


def active_requests(trace: Trace, starts: Starts | None, growth: Growth) -> ActiveRequests | None:
    """Who was active when; None where the trace does not tell.

    A request is taken to be active in the steps that start from its admission on and before its finish, at most one
    per output token.
    """
    requests = trace.requests
    if (
        requests is None
        or starts is None
        or not starts.rise
        or not {"admitted_ms", "finish_ms"} <= set(requests.columns)
    ):
        return None
    requests = requests.filter(pl.col("admitted_ms").is_not_null() & pl.col("finish_ms").is_not_null())
    if requests.is_empty():
        return None
    first = np.searchsorted(starts.start_ms, requests["admitted_ms"].to_numpy())
    behind = np.searchsorted(starts.start_ms, requests["finish_ms"].to_numpy())
    active = np.clip(behind - first, 0, requests["output_tokens"].to_numpy())
    return ActiveRequests(Admissions(first, active, requests["prompt_tokens"].to_numpy()), growth)

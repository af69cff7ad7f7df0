"""How sure the difference of two runs is.

Over seeds: the t interval of the differences of the same seeds. Over steps, for single runs: both runs are cut into
equally many stretches (`analyzers/energy/binned_sums.py`). A metric v = k*sum(A)/sum(B) moves with stretch i by
v*(A_i/sum(A) - B_i/sum(B)), to first order; the differences of these residuals between the runs, stretch by stretch,
tell the interval (`analyzers/statistics/long_run.py`). Early and late parts are paired, so what the traffic does to
both cancels. Metrics that are no ratio of sums over steps (percentiles, latencies, totals) have no interval over steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from lbal.analyzers.energy.binned_sums import columns_of, memory_steps, rebinned
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.result.result import Run
from lbal.analyzers.statistics.long_run import sum_estimate
from lbal.analyzers.statistics.student import Estimate, Interval, mean_estimate
from lbal.analyzers.trace.trace import FloatArray

Columns = Mapping[str, FloatArray]


@dataclass(frozen=True)
class Intervals:
    """Where the intervals of the differences of two runs come from."""

    over: Literal["seeds", "steps"] | None
    pairs: Mapping[str, Sequence[float]]
    """Over seeds: differences by metric, one for each seed that both have."""
    columns: tuple[Columns, Columns] = ({}, {})
    memory: float = 1.0
    """Stretches that the requests make a run remember."""
    reason: str = ""
    """Why there is none of either kind."""

    @classmethod
    def of(cls, base: Run, head: Run) -> Intervals:
        """Over seeds where both runs have two of them in common, else over steps where both have sums of stretches."""
        pairs = _seed_pairs(base, head)
        if pairs:
            return cls("seeds", pairs)
        if base.repeats or head.repeats:
            return cls(None, {}, reason="the runs have no two seeds in common")
        columns = columns_of(base.series), columns_of(head.series)
        sizes = [len(part.get("steps", ())) for part in columns]
        if min(sizes) < 2:
            return cls(None, {}, reason="a run has no sums over its steps")
        cut = rebinned(columns[0], min(sizes)), rebinned(columns[1], min(sizes))
        remembered = [
            memory_steps(run.series) / (part["steps"].sum() / min(sizes))
            for run, part in zip((base, head), cut, strict=True)
        ]
        return cls("steps", {}, cut, max(1.0, *remembered))

    def of_metric(self, name: str, base: float, head: float) -> Estimate | str:
        """How sure head - base is; why that is not known, if so."""
        if self.over is None:
            return self.reason
        if self.over == "seeds":
            return mean_estimate(self.pairs[name]) if name in self.pairs else "unknown for some seeds"
        ratio = METRICS[name].ratio
        if not math.isfinite(head - base):
            return "one of the runs has no value"
        if ratio is None or any(part not in columns for part in ratio for columns in self.columns):
            return "no ratio of sums over steps: only repeats (--repeat) tell how sure it is"
        residuals = [_residuals(*each, ratio) for each in zip((base, head), self.columns, strict=True)]
        change = residuals[1] - residuals[0]
        if head == base and not change.any():
            return Estimate(Interval(0.0, 0.0), 1.0)
        return sum_estimate(head - base, change, self.memory)


def _residuals(value: float, columns: Columns, ratio: tuple[str, str]) -> FloatArray:
    """(bins,) what each stretch moves the value by; they add up to 0."""
    above, below = (columns[name] for name in ratio)
    if not value or not above.sum() or not below.sum():
        return np.zeros(len(above))
    return np.asarray(value * (above / above.sum() - below / below.sum()))


def _seed_pairs(base: Run, head: Run) -> dict[str, list[float]]:
    seeds = [list(run.repeats.get("seeds", [])) for run in (base, head)]
    common = [seed for seed in seeds[0] if seed in seeds[1]]
    same_draws = base.repeats.get("resample") == head.repeats.get("resample")
    if len(common) < 2 or not same_draws:
        return {}
    rows = [[seeds[side].index(seed) for seed in common] for side in (0, 1)]
    values: list[Any] = [run.repeats["values"] for run in (base, head)]
    return {
        name: [_known(values[1][name][b]) - _known(values[0][name][a]) for a, b in zip(rows[0], rows[1], strict=True)]
        for name in values[0]
        if name in values[1]
    }


def _known(value: float | None) -> float:
    return math.nan if value is None else value

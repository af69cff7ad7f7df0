"""Comparing results: differences of metrics, how sure they are, and whether the results can be compared at all.

An interval is that of head - base with 95% confidence. Over seeds: the t interval of the differences of the same seeds.
Over steps, for single runs: both runs are cut into equally many stretches (`analyzers/energy/binned_sums.py`), the
same stretches of both are drawn anew in moving blocks, and the middle 95% of the differences are kept. Metrics that
are no ratio of sums over steps (percentiles, latencies, totals) have no interval over steps; they are judged by their
values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lbal.analyzers.compare.intervals import (
    FEWEST_BINS,
    Blocks,
    Interval,
    bootstrap,
    mean_interval,
    percentile_interval,
)
from lbal.analyzers.energy.binned_sums import columns_of, rebinned
from lbal.analyzers.metrics import METRICS, Better, Measure
from lbal.analyzers.result.reading import Stored
from lbal.analyzers.result.result import Run

Mark = Literal["better", "worse", "equal", "inconclusive", "changed"]
"""`changed` is for metrics of which neither direction is better."""
EQUAL_WITHIN = 1e-3
"""An interval that stays within this share of the base is told as equal."""
ROUNDING = 1e-9
MISMATCHES = ("trace", "dp_size", "slots", "model", "schema")
"""What makes results incomparable, unless it is allowed by name."""
DESCRIPTIONS = ("source", "confidence", "unit", "gpu")
"""Parts of a model that change no number."""
FITTED = "fitted"
"""The model that `analyze` fits to measured times: no figure that was measured rests on it."""


@dataclass(frozen=True)
class Difference:
    """One metric of two runs."""

    metric: str
    unit: str
    better: Better
    base: float
    """NaN where it is missing or unknown."""
    head: float
    interval: Interval | None = None
    over: Literal["seeds", "steps"] | None = None
    """What the interval is over."""

    @property
    def absolute(self) -> float:
        """head - base."""
        return self.head - self.base

    @property
    def relative(self) -> float | None:
        """head / base - 1; None where the base is 0."""
        return self.absolute / abs(self.base) if self.base else None

    @property
    def mark(self) -> Mark:
        """What the difference says."""
        if math.isnan(self.absolute):
            return "inconclusive"
        if self._is_equal():
            return "equal"
        if self.interval is not None and self.interval.holds_zero:
            return "inconclusive"
        if self.better == "neither":
            return "changed"
        return "better" if (self.absolute < 0) == (self.better == "lower") else "worse"

    def _is_equal(self) -> bool:
        size = max(abs(self.base), abs(self.head))
        if abs(self.absolute) <= ROUNDING * size:
            return True
        within = EQUAL_WITHIN * abs(self.base)
        return self.interval is not None and max(abs(self.interval.low), abs(self.interval.high)) <= within

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        record = {
            "metric": self.metric,
            "unit": self.unit,
            "better": self.better,
            "base": self.base,
            "head": self.head,
            "absolute": self.absolute,
            "relative": self.relative,
            "mark": self.mark,
        }
        if self.interval is not None:
            record |= {"low": self.interval.low, "high": self.interval.high, "interval_over": self.over}
        return record


def figures(run: Run) -> dict[str, Measure]:
    """All metrics of a run by name, those of headroom among them."""
    return {**run.metrics, **run.headroom}


def differences(base: Run, head: Run, seed: int = 0) -> list[Difference]:
    """The metrics that either run has, in the order of the table."""
    known = figures(base), figures(head)
    intervals = Intervals.of(base, head, seed)
    values = [{name: part[name].value if name in part else math.nan for name in METRICS} for part in known]
    present = [name for name in METRICS if name in known[0] or name in known[1]]
    return [intervals.difference(name, values[0][name], values[1][name]) for name in present]


@dataclass(frozen=True)
class Intervals:
    """Where the intervals of the differences of two runs come from."""

    over: Literal["seeds", "steps"] | None
    pairs: Mapping[str, Sequence[float]]
    """Over seeds: differences by metric, one for each seed that both have."""
    columns: tuple[dict[str, Any], dict[str, Any]]
    blocks: Blocks | None

    @classmethod
    def of(cls, base: Run, head: Run, seed: int) -> Intervals:
        """Over seeds where both runs have two of them in common, else over steps where both have enough."""
        pairs = _seed_pairs(base, head)
        if pairs:
            return cls("seeds", pairs, ({}, {}), None)
        columns = columns_of(base.series), columns_of(head.series)
        sizes = [len(part["steps"]) if "steps" in part else 0 for part in columns]
        repeated = base.repeats or head.repeats
        if repeated or min(sizes) < FEWEST_BINS:
            return cls(None, {}, ({}, {}), None)
        cut = rebinned(columns[0], min(sizes)), rebinned(columns[1], min(sizes))
        return cls("steps", {}, cut, Blocks.drawn(min(sizes), seed))

    def difference(self, name: str, base: float, head: float) -> Difference:
        """The difference of a metric between these values, with its interval."""
        metric, interval = METRICS[name], self.of_metric(name, base, head)
        return Difference(name, metric.unit, metric.better, base, head, interval, self.over if interval else None)

    def of_metric(self, name: str, base: float, head: float) -> Interval | None:
        """The interval of head - base, where it is known."""
        if name in self.pairs:
            return mean_interval(self.pairs[name])
        ratio = METRICS[name].ratio
        if self.blocks is None or ratio is None or not math.isfinite(head - base):
            return None
        if any(part not in columns for part in ratio for columns in self.columns):
            return None
        resampled = [
            value * bootstrap(columns, self.blocks, ratio) if value else 0.0
            for value, columns in zip((base, head), self.columns, strict=True)
        ]
        change = resampled[1] - resampled[0]
        return (
            Interval(0.0, 0.0) if isinstance(change, float) else percentile_interval(change, head - base, self.blocks)
        )


def _seed_pairs(base: Run, head: Run) -> dict[str, list[float]]:
    seeds = [list(run.repeats.get("seeds", [])) for run in (base, head)]
    common = [seed for seed in seeds[0] if seed in seeds[1]]
    same_draws = base.repeats.get("resample") == head.repeats.get("resample")
    if len(common) < 2 or not same_draws:
        return {}
    rows = [[seeds[side].index(seed) for seed in common] for side in (0, 1)]
    values = [run.repeats["values"] for run in (base, head)]
    return {
        name: [_known(values[1][name][b]) - _known(values[0][name][a]) for a, b in zip(rows[0], rows[1], strict=True)]
        for name in values[0]
        if name in values[1]
    }


def _known(value: float | None) -> float:
    return math.nan if value is None else value


def mismatches(base: Stored, head: Stored) -> dict[str, tuple[Any, Any]]:
    """What makes two results incomparable: name -> what the base and the head have."""
    sides = [_identity(stored) for stored in (base, head)]
    return {name: (sides[0][name], sides[1][name]) for name in MISMATCHES if sides[0][name] != sides[1][name]}


def _identity(stored: Stored) -> dict[str, Any]:
    config = stored.result.config
    return {
        "trace": [item.get("sha256") or item.get("name") for item in stored.result.inputs],
        "dp_size": config.get("dp_size"),
        "slots": config.get("max_num_seqs"),
        "model": [_model(config.get("step_model")), _model(config.get("power_model"))],
        "schema": stored.schema,
    }


def _model(record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    if record.get("name") == FITTED:
        return FITTED
    return {key: value for key, value in record.items() if key not in DESCRIPTIONS}


def config_changes(base: Stored, head: Stored) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by their path, such as `step_model.C`; None where one side has none."""
    sides = [
        {"lbal_version": each.lbal_version, "command": each.result.command, **_flat(each.result.config)}
        for each in (base, head)
    ]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return {
        name: (sides[0].get(name), sides[1].get(name)) for name in names if sides[0].get(name) != sides[1].get(name)
    }


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in record.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found

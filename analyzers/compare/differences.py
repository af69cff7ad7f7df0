"""Comparing results: differences of metrics, how sure they are, and whether the results can be compared at all.

An interval is that of head - base with 95% confidence (`intervals.py`). Differences without one are shown, not judged.
Verdicts on all metrics of two runs are corrected for their number (Holm), so that of two runs that do not differ at
most one pair in twenty has any metric called better, worse or changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lbal.analyzers.barrier.step_time import FITTED
from lbal.analyzers.compare.intervals import Intervals
from lbal.analyzers.metrics import METRICS, Better, Measure
from lbal.analyzers.result.reading import Stored
from lbal.analyzers.result.result import Run
from lbal.analyzers.statistics.long_run import holm
from lbal.analyzers.statistics.student import Interval

Mark = Literal["better", "worse", "equal", "inconclusive", "changed", "not judged"]
"""`changed` is for metrics of which neither direction is better; `not judged` for those without an interval."""
EQUAL_WITHIN = 1e-3
"""An interval that stays within this share of the base is told as equal."""
ROUNDING = 1e-9
MISMATCHES = ("trace", "dp_size", "slots", "model", "schema")
"""What makes results incomparable, unless it is allowed by name."""
DESCRIPTIONS = ("source", "confidence", "unit", "gpu")
"""Parts of a model that change no number."""


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
    p_value: float | None = None
    """The probability of a difference so large if there is none."""
    is_sure: bool = True
    """Whether the difference from 0 stays sure when the number of metrics that are judged is taken into account."""
    reason: str = ""
    """Why there is no interval."""

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
        if self.interval is None:
            return "not judged"
        if self.interval.holds_zero or not self.is_sure:
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
            record |= {"p_value": self.p_value}
        elif self.reason:
            record |= {"reason": self.reason}
        return record


def figures(run: Run) -> dict[str, Measure]:
    """All metrics of a run by name, those of headroom among them."""
    return {**run.metrics, **run.headroom}


def differences(base: Run, head: Run) -> list[Difference]:
    """The metrics that either run has, in the order of the table; verdicts are corrected for their number.

    How far ranks are apart is told in many figures that say nearly the same: they would blunt all other verdicts, and
    are compared only by a gate that asks for them.
    """
    known = figures(base), figures(head)
    intervals = Intervals.of(base, head)
    values = [{name: part[name].value if name in part else math.nan for name in METRICS} for part in known]
    present = [
        name for name, metric in METRICS.items() if metric.group != "spread" and (name in known[0] or name in known[1])
    ]
    return corrected([difference(intervals, name, values[0][name], values[1][name]) for name in present])


def difference(intervals: Intervals, name: str, base: float, head: float) -> Difference:
    """The difference of a metric between these values, with its interval; not corrected for the number of metrics."""
    metric, found = METRICS[name], intervals.of_metric(name, base, head)
    if isinstance(found, str):
        return Difference(name, metric.unit, metric.better, base, head, reason=found)
    return Difference(name, metric.unit, metric.better, base, head, found.interval, intervals.over, found.p_value)


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """The same differences, of which those are sure that stay so among as many (Holm)."""
    refused = iter(holm([each.p_value for each in found if each.p_value is not None]))
    return [each if each.p_value is None else replace(each, is_sure=next(refused)) for each in found]


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

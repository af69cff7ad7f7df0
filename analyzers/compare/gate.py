"""Gates: limits on metrics that fail a check.

    barrier_idle_fraction:+5%                  at most 5% above the baseline
    energy_joules_per_token:+3%,+0.5           at most 3% or 0.5 J above it, whichever allows more
    tokens_per_second:-2%                      at most 2% below it
    steps:±0%                                  neither above nor below: has the number moved?
    tpot_ms_p99<=60                            a threshold; no baseline

A limit of a change is judged with the interval of the change, where that is known: it fails where the whole interval is
beyond the limit, passes where none of it is, and is inconclusive otherwise. Without an interval the values decide, and
with ± they always do: it asks whether a number moved, not whether the system is worse. A threshold is judged by the
value, or by its interval over seeds. A metric that is missing or not a number fails.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lbal.analyzers.compare.differences import Difference, difference, figures
from lbal.analyzers.compare.intervals import Intervals
from lbal.analyzers.compare.pairs import Pair
from lbal.analyzers.errors import UsageError, shown, unknown_name
from lbal.analyzers.metrics import METRICS, Measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.statistics.student import Interval, mean_interval

Severity = Literal["fail", "warn"]
Verdict = Literal["passed", "failed", "inconclusive"]
Direction = Literal["+", "-", "±"]

NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
THRESHOLD = re.compile(rf"\s*([\w.]+)\s*(<=|>=|<|>)\s*([+-]?{NUMBER})\s*(%?)\s*")
CHANGE = re.compile(r"\s*([\w.]+)\s*:\s*(.+?)\s*")
LIMIT = re.compile(rf"\s*(\+-|±|\+|-)\s*({NUMBER})\s*(%?)\s*")
FORMS = "METRIC:+5%, METRIC:-2%, METRIC:+3%,+0.5, METRIC:±0% or METRIC<=60"
ROUNDING = 1e-12


@dataclass(frozen=True)
class Gate:
    """One limit on one metric: a threshold, or a largest change against the baseline."""

    text: str
    """As it was given."""
    metric: str
    severity: Severity
    operator: str | None = None
    threshold: float = math.nan
    direction: Direction = "+"
    relative: float | None = None
    absolute: float | None = None

    @property
    def needs_baseline(self) -> bool:
        """It limits a change."""
        return self.operator is None

    def allowed(self, base: float) -> float:
        """How much of a change it allows, against that value: the larger of the two limits."""
        limits = [self.relative * abs(base) if self.relative is not None else None, self.absolute]
        return max(limit for limit in limits if limit is not None)


@dataclass(frozen=True)
class Outcome:
    """What a gate says of a run."""

    gate: Gate
    run: str
    verdict: Verdict
    reason: str = ""
    """Why there is no value to judge; empty where there is."""
    base: float | None = None
    head: float | None = None
    limit: float | None = None
    """The value of the head beyond which the gate fails; of two the one on the side of the change."""
    difference: Difference | None = None
    interval: Interval | None = None
    """Of the head itself, for a threshold."""

    def fails(self, *, strict: bool) -> bool:
        """It fails the check."""
        return self.gate.severity == "fail" and (
            self.verdict == "failed" or (strict and self.verdict == "inconclusive")
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        record: dict[str, Any] = {
            "gate": self.gate.text,
            "severity": self.gate.severity,
            "metric": self.gate.metric,
            "unit": METRICS[self.gate.metric].unit,
            "run": self.run,
            "verdict": self.verdict,
            "reason": self.reason,
            "base": self.base,
            "head": self.head,
            "limit": self.limit,
        }
        if self.difference is not None:
            record["difference"] = self.difference.as_dict()
        return record


def parse_gate(text: str, severity: Severity) -> Gate:
    """A gate as it is written. Raises `UsageError` that says what does not fit."""
    if found := THRESHOLD.fullmatch(text):
        metric, operator, number, percent = found.groups()
        _check_metric(text, metric)
        return Gate(text, metric, severity, operator, _size(text, number, percent))
    if not (found := CHANGE.fullmatch(text)):
        raise UsageError(f"{shown(text)} is no gate, expected {FORMS}")
    metric, limits = found.groups()
    _check_metric(text, metric)
    direction: Direction | None = None
    sizes: dict[str, float] = {}
    for part in limits.split(","):
        if not (limit := LIMIT.fullmatch(part)):
            raise UsageError(f"{shown(text)}: {part.strip()!r} is no limit of a change, expected {FORMS}")
        sign, number, percent = limit.groups()
        sign = "±" if sign == "+-" else sign
        if direction not in (None, sign):
            raise UsageError(f"{shown(text)}: its limits differ in direction, expected one direction (or two gates)")
        if percent in sizes:
            raise UsageError(f"{shown(text)}: it has two limits of one kind, expected one in % and one without")
        direction, sizes[percent] = sign, _size(text, number, percent)  # type: ignore[assignment]
    assert direction is not None
    _check_direction(text, metric, direction)
    return Gate(text, metric, severity, None, math.nan, direction, sizes.get("%"), sizes.get(""))


def direction_notes(gates: Sequence[Gate]) -> list[str]:
    """Thresholds that a better value breaks: allowed, as one may want to hold a figure down, but seldom meant."""
    return [
        f"'{gate.text}' fails where {gate.metric} is better: {better} is better for it"
        for gate in gates
        if gate.operator is not None
        and ((better := METRICS[gate.metric].better), gate.operator[0]) in (("higher", "<"), ("lower", ">"))
    ]


def _size(text: str, number: str, percent: str) -> float:
    """A limit as a number; one that is not finite would let everything pass."""
    size = float(number) / (100 if percent else 1)
    if not math.isfinite(size):
        raise UsageError(f"{shown(text)}: its limit is too large, expected {FORMS}")
    return size


def _check_metric(text: str, metric: str) -> None:
    if metric not in METRICS:
        raise UsageError(f"{shown(text)}: {unknown_name('metric', metric, METRICS)}")


def _check_direction(text: str, metric: str, direction: Direction) -> None:
    better = METRICS[metric].better
    if (direction, better) in (("+", "higher"), ("-", "lower")):
        other = "-" if direction == "+" else "+"
        raise UsageError(
            f"{shown(text)}: {better} is better for {metric}, so this would fail improvements; "
            f"expected {other} (or ± for changes of either kind)"
        )


def judge(gates: Sequence[Gate], pairs: Sequence[Pair]) -> list[Outcome]:
    """Every gate on every pair of runs, pair by pair. Without a baseline the runs of the base are None."""
    found = []
    for base, head in pairs:
        intervals = Intervals.of(base, head) if base is not None and head is not None else None
        for gate in gates:
            found.append(_judged(gate, base, head, intervals))
    return found


def _judged(gate: Gate, base: Run | None, head: Run | None, intervals: Intervals | None) -> Outcome:
    if head is None:
        assert base is not None
        return Outcome(gate, base.label, "failed", "the run is missing in the head")
    value = figures(head).get(gate.metric)
    if reason := _unknown(gate.metric, value, "the head"):
        return Outcome(gate, head.label, "failed", reason)
    assert value is not None
    if not gate.needs_baseline:
        return _threshold(gate, head, value.value)
    before = None if base is None else figures(base).get(gate.metric)
    reason = "the run is missing in the baseline" if base is None else _unknown(gate.metric, before, "the baseline")
    if reason:
        return Outcome(gate, head.label, "failed", reason, head=value.value)
    assert before is not None
    assert intervals is not None
    return _change(gate, head.label, before.value, value.value, intervals)


def _unknown(metric: str, value: Measure | None, where: str) -> str:
    if value is None:
        return f"{metric} is missing in {where}"
    return "" if math.isfinite(value.value) else f"{metric} is not a number in {where}"


def _threshold(gate: Gate, head: Run, value: float) -> Outcome:
    values = head.repeats.get("values", {}).get(gate.metric, ())
    interval = mean_interval([math.nan if each is None else each for each in values])
    ends = (value, value) if interval is None else interval
    holds = [_holds(gate, end) for end in ends]
    verdict: Verdict = "passed" if all(holds) else "inconclusive" if any(holds) else "failed"
    return Outcome(gate, head.label, verdict, head=value, limit=gate.threshold, interval=interval)


def _holds(gate: Gate, value: float) -> bool:
    limit = gate.threshold
    return {"<=": value <= limit, ">=": value >= limit, "<": value < limit, ">": value > limit}[str(gate.operator)]


def _change(gate: Gate, label: str, base: float, head: float, intervals: Intervals) -> Outcome:
    change = difference(intervals, gate.metric, base, head)
    interval = change.interval
    allowed = gate.allowed(base)
    by_value = interval is None or gate.direction == "±"
    ends = (change.absolute,) * 2 if by_value else interval
    assert ends is not None
    slack = allowed + ROUNDING * max(abs(base), abs(head))
    verdict = _beyond(gate.direction, ends[0], ends[1], slack)
    limit = base - allowed if _falls(gate, change.absolute) else base + allowed
    return Outcome(gate, label, verdict, base=base, head=head, limit=limit, difference=change)


def _falls(gate: Gate, change: float) -> bool:
    """The limit that matters is below the base."""
    return gate.direction == "-" or (gate.direction == "±" and change < 0)


def _beyond(direction: Direction, low: float, high: float, slack: float) -> Verdict:
    if direction == "-":
        low, high = -high, -low
    if direction == "±":
        return "failed" if max(abs(low), abs(high)) > slack else "passed"
    return "failed" if low > slack else "passed" if high <= slack else "inconclusive"

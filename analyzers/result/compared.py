"""What reports rely on in a stored comparison or check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lbal.analyzers.metrics import METRICS
from lbal.analyzers.result.shapes import Number

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]
Changes = dict[str, Annotated[list[Any], Meta(min_length=2, max_length=2)]]


class ResultInput(Struct, frozen=True):
    """A result that was read."""

    name: str
    command: str
    runs: list[str]
    traces: list[dict[str, Any]]


class Difference(Struct, frozen=True):
    """A metric of two runs."""

    metric: MetricName
    unit: str
    better: str
    base: Number
    head: Number
    absolute: Number
    relative: Number
    mark: Literal["better", "worse", "equal", "inconclusive", "changed"]
    low: float | UnsetType = UNSET
    high: float | UnsetType = UNSET
    interval_over: str | UnsetType = UNSET


class Pair(Struct, frozen=True):
    """Two runs that were compared."""

    base: str
    base_run: str | None
    head: str
    head_run: str | None
    config_changes: Changes
    differences: list[Difference]


class Comparison(Struct, frozen=True):
    """All pairs."""

    pairs: list[Pair]


class Gate(Struct, frozen=True):
    """A gate and its verdict."""

    gate: str
    severity: Literal["fail", "warn"]
    metric: MetricName
    unit: str
    run: str
    verdict: Literal["passed", "failed", "inconclusive"]
    reason: str
    base: Number
    head: Number
    limit: Number
    fails: bool
    difference: Difference | UnsetType = UNSET


class Check(Struct, frozen=True):
    """A check of gates."""

    head: str
    baseline: str | None
    strict: bool
    gates: list[Gate]
    config_changes: Changes


class Compared(Struct, frozen=True):
    """What reports show of a comparison."""

    inputs: list[ResultInput]
    comparison: Comparison


class Checked(Struct, frozen=True):
    """What reports show of a check."""

    inputs: list[ResultInput]
    check: Check


class Replayed(Struct, frozen=True):
    """What reports show of seeds that were compared."""

    comparison: Comparison | UnsetType = UNSET

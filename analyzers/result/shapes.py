"""The shapes of a stored result, as far as what works on one relies on them; other keys are left alone.

They follow the published schema (`result.schema.json`), which says more of what a result of this version holds.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from lbal.analyzers.barrier.thinned import IDLE_BINS, MOST_MAP_RANKS, MOST_MAP_STEPS

Number = float | None
Numbers = list[Number]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Steps = Annotated[list[Count], Meta(min_length=1)]
Points = Annotated[Numbers, Meta(min_length=1)]


class MeasureShape(Struct, frozen=True):
    """A value of a metric."""

    value: Number = None
    unit: str = ""
    basis: str = "modelled"
    low: Number = None
    high: Number = None
    fidelity: Number = None


class FoundShape(Struct, frozen=True):
    """What was found, in words."""

    findings: list[str] = []


class RankShape(Struct, frozen=True):
    """A rank of a run."""

    rank: Count
    idle_fraction: Number
    straggler_fraction: Number
    empty_fraction: Number
    kv_tokens_mean: Number
    num_running_mean: Number
    work_factor: Number = None
    idle_by_cause: dict[str, Number] = {}


class WorstStepShape(Struct, frozen=True):
    """One of the steps that idle most."""

    step: Count
    step_ms: Number
    idle_fraction: Number
    straggler: Count
    kv_tokens_straggler: Number = None
    kv_tokens_mean: Number = None
    num_running: Number = None


class SeriesShape(Struct, frozen=True):
    """Sums over bins of steps."""

    columns: dict[str, Numbers] = {}
    memory_steps: float = 1.0


class RepeatsShape(Struct, frozen=True):
    """Values over seeds."""

    seeds: list[int] = []
    values: dict[str, Numbers] = {}
    intervals: dict[str, dict[str, Number]] = {}


class LoadsShape(Struct, frozen=True):
    """The stored map of loads."""

    steps_per_bucket: Positive
    ranks_per_row: Positive
    dp_size: Positive
    first_step: Annotated[list[Count], Meta(min_length=1, max_length=MOST_MAP_STEPS)]
    last_step: Steps
    unit_tokens: Positive
    kv_tokens: list[Annotated[list[Count | None], Meta(min_length=1, max_length=MOST_MAP_RANKS)]]


class DrawnShape(Struct, frozen=True):
    """The stored steps, thinned."""

    steps: Positive
    steps_per_bucket: Positive
    first_step: Steps
    last_step: Steps
    idle_fraction: Points
    idle_fraction_max: Points
    imbalance_ratio: Points
    idle_bins: Annotated[list[Count], Meta(min_length=1, max_length=IDLE_BINS)]
    loads: LoadsShape | None = None


class LoadApartShape(Struct, frozen=True):
    """One load over the stored steps."""

    largest: Points
    mean: Points
    smallest: Points
    over_mean: Points


class ApartShape(Struct, frozen=True):
    """How far ranks are apart over the stored steps."""

    steps_per_bucket: Positive
    first_step: Steps
    last_step: Steps
    num_running: LoadApartShape | None = None
    kv_tokens: LoadApartShape | None = None


class RunShape(Struct, frozen=True):
    """A run."""

    label: str
    policy: str | None = None
    parameters: dict[str, Any] = {}
    metrics: dict[str, MeasureShape] = {}
    headroom: dict[str, MeasureShape] = {}
    ranks: list[RankShape] = []
    attribution: dict[str, Number] = {}
    worst_steps: list[WorstStepShape] = []
    solver: dict[str, Any] = {}
    series: SeriesShape = SeriesShape()
    repeats: RepeatsShape = RepeatsShape()
    drawn: DrawnShape | None = None
    apart: ApartShape | None = None


class NextShape(Struct, frozen=True):
    """What to do next."""

    command: str = ""
    advice: str = ""


class ResultShape(Struct, frozen=True):
    """A result."""

    runs: list[RunShape]
    command: str = ""
    headline: str = ""
    notes: list[str] = []
    inputs: list[dict[str, Any]] = []
    config: dict[str, Any] = {}
    headroom: FoundShape = FoundShape()
    energy: FoundShape = FoundShape()
    bands: FoundShape = FoundShape()
    fidelity: FoundShape = FoundShape()
    calibration: dict[str, Any] = {}
    comparison: dict[str, Any] = {}
    check: dict[str, Any] = {}
    advice: dict[str, Any] = {}
    workload: dict[str, Any] = {}
    next: NextShape = NextShape()
    items: list[dict[str, Any]] = []

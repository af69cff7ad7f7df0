"""What reports rely on in a stored result beyond its shape: what its command always tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lbal.analyzers.result.compared import Checked, Compared, Replayed
from lbal.analyzers.result.fitting import fitted
from lbal.analyzers.result.result import Result
from lbal.analyzers.result.shapes import Count, Number, Positive

Name = Annotated[str, Meta(min_length=1)]


class Band(Struct, frozen=True):
    """A value with its range."""

    low: float
    high: float
    nominal: float | None = None


class StepModel(Struct, frozen=True):
    """A step-time model."""

    name: str
    C: float
    a: float
    b: float
    b_mean: float
    p: float | None = None
    e: float | None = None
    C_x: float | None = None
    bands: dict[str, Band] = {}
    rank_speed: dict[str, float] = {}


class Watts(Band, frozen=True, kw_only=True):
    """Power of an accelerator: what is known of it."""

    nominal: float


class PowerModel(Struct, frozen=True):
    """A power model: watts while busy and while waiting, or by load."""

    name: str
    gpus_per_rank: Positive
    wait_watts: Watts | UnsetType = UNSET
    busy_watts: Watts | UnsetType = UNSET
    idle_watts: float | UnsetType = UNSET
    max_watts: float | UnsetType = UNSET
    costs: dict[str, str] = {}


class Config(Struct, frozen=True):
    """The configuration of any command."""

    window: str | None = None
    step_model: StepModel | None = None
    power_model: PowerModel | None = None
    dp_size: int | None = None
    max_num_seqs: int | None = None


class PrefillUsed(Struct, frozen=True):
    """The rule by which prompts are computed."""

    rule: str
    label: str
    parameters: dict[str, Any]
    budget_tokens: Positive
    mixes: bool
    chunks: bool
    padding: Literal["never", "largest", "half-full"]
    kv: Literal["growth", "reserve"]


class ReplayConfig(Config, frozen=True, kw_only=True):
    """The configuration of a replay."""

    dp_size: Positive
    max_num_seqs: Positive
    kv_capacity: int | None
    arrivals: str
    pool: int | None
    rate_scale: float | None
    drift: str
    seed: int
    prefill: PrefillUsed | None = None


class Staleness(Struct, frozen=True):
    """How old the signals of a policy are."""

    ms: float
    steps: int
    lag_ms: float = 0.0
    """How long a request is on its way before they count it."""


class ReplayRun(Struct, frozen=True):
    """A replayed run."""

    binding: str
    looks_at: str
    staleness: Staleness
    uses_true_lengths: bool


class Found(Struct, frozen=True):
    """What was found, in words, where anything was looked for."""

    findings: list[str]


class Shown(Struct, frozen=True):
    """What reports show of any result."""

    inputs: list[dict[str, Any]]
    config: Config
    headroom: Found | None = None
    energy: Found | None = None
    fidelity: dict[str, Any] | None = None


class ReplayShown(Struct, frozen=True):
    """What reports show of a replay."""

    config: ReplayConfig
    runs: list[ReplayRun]


class Change(Struct, frozen=True):
    """A relative change, with its range where bands give one."""

    nominal: float
    low: float | UnsetType = UNSET
    high: float | UnsetType = UNSET


class SettingTried(Struct, frozen=True):
    """A setting of an engine."""

    label: str
    flags: str
    verdict: str
    changes: dict[str, Change]


class Advice(Found, frozen=True):
    """What is advised."""

    settings: list[SettingTried]


class Advised(Struct, frozen=True):
    """What reports show of advice."""

    advice: Advice


class Errors(Struct, frozen=True):
    """How far modelled step times are off."""

    steps: Count
    bias: float
    p50: float
    p95: float
    r2: float


class Estimate(Band, frozen=True, kw_only=True):
    """A fitted value with its interval."""

    value: float


class RankFit(Struct, frozen=True):
    """A rank in a calibration."""

    rank: Count
    observations: Count
    factor: Estimate | None
    residual_p50: Number
    residual_p95: Number


class Coefficients(Struct, frozen=True):
    """The coefficients that were fitted."""

    C: Estimate | UnsetType = UNSET
    a: Estimate | UnsetType = UNSET
    b: Estimate | UnsetType = UNSET
    b_mean: Estimate | UnsetType = UNSET
    p: Estimate | UnsetType = UNSET
    e: Estimate | UnsetType = UNSET
    C_x: Estimate | UnsetType = UNSET


class Calibration(Struct, frozen=True):
    """What a calibration fitted."""

    fitted_to: str
    coefficients: Coefficients
    errors: Errors
    held_out: Errors | None
    observations: Count
    outliers: Count
    idle_measured: Number
    idle_modelled: float
    ranks: list[RankFit]


class Calibrated(Struct, frozen=True):
    """What reports show of a calibration."""

    calibration: Calibration


class Lengths(Struct, frozen=True, kw_only=True):
    """A workload without times."""

    requests: Count
    replay_command: str
    prompt_tokens_mean: Number
    prompt_tokens_p50: Number
    prompt_tokens_p90: Number
    prompt_tokens_p99: Number
    prompt_tokens_max: Number
    prompt_tokens_total: Number
    output_tokens_mean: Number
    output_tokens_p50: Number
    output_tokens_p90: Number
    output_tokens_p99: Number
    output_tokens_max: Number
    output_tokens_total: Number


class Demand(Lengths, frozen=True, kw_only=True):
    """A workload with times."""

    duration_s: Number
    arrivals_per_second: Number
    interarrival_cv: Number
    peak_to_mean_10s: Number
    output_tokens_per_second: Number


class LengthsShown(Struct, frozen=True):
    """What reports show of requests without times."""

    workload: Lengths


class DemandShown(Struct, frozen=True):
    """What reports show of requests with times."""

    workload: Demand


class Input(Struct, frozen=True):
    """An input, be it a trace or a result."""

    name: Name
    format: str
    requests: Count = 0
    steps: Count = 0


class Inputs(Struct, frozen=True):
    """All inputs."""

    inputs: list[Input]


def check_showable(result: Result, name: str) -> None:
    """Raise `InputError`, which calls the result by `name`, for the first part that its reports need and that lacks."""
    record = result.as_dict()
    for shape in _shapes(result):
        fitted(record, shape, name)


def _shapes(result: Result) -> Iterator[Any]:
    yield Shown
    if result.command in ("compare", "check"):
        yield Compared if result.command == "compare" else Checked
    if result.command in ("analyze", "replay", "advise", "calibrate"):
        yield Inputs
    if result.command in ("replay", "advise"):
        yield from (ReplayShown, Replayed)
    if result.advice or result.command == "advise":
        yield Advised
    if result.calibration or result.command == "calibrate":
        yield Calibrated
    if result.workload or (result.command == "analyze" and not result.runs):
        yield DemandShown if "arrivals_per_second" in result.workload else LengthsShown

"""What a replay is asked to do, checked as far as that goes without a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import get_args

from lbal.analyzers.barrier.window import WINDOWS
from lbal.analyzers.errors import Parameter, UsageError, one_of
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.models.step_models import refuse_without_prefill
from lbal.analyzers.requests.slo import Slo, parse_slo
from lbal.analyzers.trace.trace import Trace
from lbal.replay.experiment.repeats import MOST_REPEATS, Resample
from lbal.replay.experiment.scenario import Scenario
from lbal.replay.experiment.suited import DEFAULT_POLICIES, RECORDED, suited_model, suited_policies
from lbal.replay.policy.policy import Binding, Policy, parse_policy
from lbal.replay.prefill.rule import PrefillRule, parse_prefill
from lbal.replay.scenario.arrivals import asked_arrivals
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import parse_drift
from lbal.replay.scenario.workload import Workload

BINDINGS: tuple[Binding, ...] = get_args(Binding)
RESAMPLES: tuple[Resample, ...] = get_args(Resample)
DEFAULT_DP_SIZE, DEFAULT_MAX_NUM_SEQS = 8, 64
"""The cluster that is assumed where neither the trace nor the caller tells it."""


@dataclass(frozen=True)
class ReplayOptions:
    """The options of a replay; `replay` says what each is. Raises `UsageError` for what cannot be."""

    dp_size: int | None = None
    max_num_seqs: int | None = None
    policies: Sequence[str] | None = None
    """None for those that suit the trace, see `suited_to`."""
    arrivals: str | None = None
    rate_scale: float | None = None
    pool: int | None = None
    binding: str | None = None
    kv_capacity: int | None = None
    drift: str = "1"
    prefill: str | None = None
    """None, as `none`, for ranks that only decode."""
    padding: bool | None = None
    """None for what the engine of the prefill rule does."""
    slot_use: float | None = None
    models: ModelChoice = field(default_factory=ModelChoice)
    bands: bool = False
    slo: str | None = None
    window: str = "all"
    seed: int = 0
    repeat: int = 1
    resample: str = "blocks"
    jobs: int | None = None

    def __post_init__(self) -> None:
        one_of(self.window, WINDOWS, "window")
        if self.arrivals is not None:
            asked_arrivals(self.arrivals)
        if self.binding is not None:
            one_of(self.binding, BINDINGS, "binding")
        _ = self.parsed_policies
        one_of(self.resample, RESAMPLES, "resample")
        if not 1 <= self.repeat <= MOST_REPEATS:
            raise UsageError(
                f"{self.repeat} does not fit, expected a whole number from 1 to {MOST_REPEATS:,}", parameter="repeat"
            )
        if self.repeat > 1 and self.bands:
            raise UsageError(
                "its intervals and ",
                Parameter("bands"),
                " are not shown together, expected one of them",
                parameter="repeat",
            )
        parse_drift(self.drift)
        self._slo()
        if self.parsed_prefill is None and self.padding is not None:
            raise UsageError(
                "steps without prefill have none, expected ",
                Parameter("prefill", "NAME"),
                " beside it",
                parameter="padding",
            )

    @cached_property
    def parsed_prefill(self) -> PrefillRule | None:
        """The rule by which prompts are computed, if they are; `UsageError` for one that is not known."""
        return parse_prefill(self.prefill)

    @cached_property
    def parsed_policies(self) -> list[Policy]:
        """The policies that are named, else all that may be taken; `UsageError` where one stands twice."""
        policies = [parse_policy(spec) for spec in self.policies or (RECORDED, *DEFAULT_POLICIES)]
        labels = [each.label for each in policies]
        for label in labels:
            if labels.count(label) > 1:
                raise UsageError("stands twice, expected each policy once", parameter=Parameter("policy", label))
        return policies

    def suited_to(self, trace: Trace) -> tuple[ReplayOptions, list[str]]:
        """These options with the policies to replay, and a note where `recorded` cannot be one of them."""
        if self.policies:
            return self, []
        binding = None if self.binding is None else one_of(self.binding, BINDINGS, "binding")
        policies, notes = suited_policies(Workload.of(trace), self._size(trace)[0], binding)
        return replace(self, policies=policies), notes

    def scenario(self, trace: Trace) -> tuple[Scenario, list[str]]:
        """What is to be replayed of a trace, and notes on the step-time model."""
        ranks, slots, assumed = self._size(trace)
        workload = Workload.of(trace)
        arrivals = self._arrivals(workload)
        model, notes = suited_model(trace, self.models, ranks, slots)
        conditions = Conditions(
            arrivals=arrivals,
            rate_scale=1.0 if self.rate_scale is None else self.rate_scale,
            pool=self.pool,
            binding=None if self.binding is None else one_of(self.binding, BINDINGS, "binding"),
            drift=parse_drift(self.drift),
            seed=self.seed,
        )
        if self.parsed_prefill is None:
            model = model.without_prefill()
        else:
            refuse_without_prefill(model)
        cluster = Cluster(ranks, slots, model, self.kv_capacity, self.parsed_prefill, self.padding)
        window = one_of(self.window, WINDOWS, "window")
        view = self.models.energy_view(model)
        return Scenario(workload, cluster, conditions, window, view, self._slo()), [*assumed, *notes]

    def _slo(self) -> Slo | None:
        """The limits on latency. Raises `UsageError`."""
        slo = None if self.slo is None else parse_slo(self.slo)
        if slo is not None and "ttft" in slo.limits_ms and self.parsed_prefill is None:
            raise UsageError(
                "without prefill no time to the first token is modelled, expected ",
                Parameter("prefill", "NAME"),
                " beside it, or no ttft",
                parameter="slo",
            )
        return slo

    def _size(self, trace: Trace) -> tuple[int, int, list[str]]:
        """The ranks and the slots of each: those asked for, else those of the trace, else assumed ones with a note."""
        known = [
            (self.dp_size, trace.meta.dp_size, DEFAULT_DP_SIZE),
            (self.max_num_seqs, trace.meta.max_num_seqs, DEFAULT_MAX_NUM_SEQS),
        ]
        ranks, slots = (next(size for size in sizes if size is not None) for sizes in known)
        is_assumed = any(asked is None and told is None for asked, told, _default in known)
        return ranks, slots, [size_note(ranks, slots)] if is_assumed else []

    def _arrivals(self, workload: Workload) -> str:
        """How requests arrive: as asked for, else at the times of the trace if it has them.

        Raises `UsageError` for another option that has no meaning beside it.
        """
        arrivals = self.arrivals
        if arrivals is None:
            arrivals = "trace" if workload.arrival_ms is not None else "backlog"
        arriving = asked_arrivals(arrivals)
        for name, value, fits, other in (
            ("pool", self.pool, arriving.kind == "backlog", "backlog"),
            ("rate_scale", self.rate_scale, arriving.can_be_scaled, "trace"),
            ("slot_use", self.slot_use, arriving.can_be_scaled, "trace"),
        ):
            if value is not None and not fits:
                raise UsageError(
                    f"{value:g} has no meaning with {arriving.in_words}, expected ",
                    Parameter("arrivals", other),
                    " beside it",
                    parameter=name,
                )
        return arrivals


def size_note(ranks: int, slots: int) -> str:
    """That the size of the cluster is assumed."""
    return f"the trace does not tell the size of the cluster: {ranks} x {slots} slots are assumed"

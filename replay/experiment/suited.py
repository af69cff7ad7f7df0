"""What a replay takes where nobody says: the policies and the step-time model that suit its trace.

A trace of a real run tells where each request went and how long steps took. Then `recorded` comes first and the model
is fitted to the trace, so that the figures of `recorded` are those that `analyze` gives of the same trace.
"""

from __future__ import annotations

from dataclasses import replace

from lbal.analyzers.analysis.analysis import model_in_header
from lbal.analyzers.analysis.own_model import has_measured_times, own_model
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.numbers import count, listed
from lbal.replay.policy.policy import Binding
from lbal.replay.scenario.workload import NO_RANK, Workload

DEFAULT_POLICIES = ("round-robin", "jsq", "jsq-kv")
"""Replayed where none is named; `recorded` before them where it can be."""
RECORDED = "recorded"


def suited_policies(workload: Workload, dp_size: int, binding: Binding | None) -> tuple[tuple[str, ...], list[str]]:
    """The policies to replay, by name. A note says why `recorded` is not among them though ranks are known."""
    ranks = workload.recorded_rank
    if ranks is None or (ranks == NO_RANK).all():
        return DEFAULT_POLICIES, []
    reason = None
    if (ranks == NO_RANK).any():
        reason = f"{count(int((ranks == NO_RANK).sum()), 'request')} of {len(ranks):,} have no rank in the trace"
    elif ranks.max() >= dp_size:
        reason = f"the trace has rank {ranks.max()} and the replay {count(dp_size, 'rank')}"
    elif binding == "pool":
        reason = "the placement of the trace has no pool"
    if reason is not None:
        return DEFAULT_POLICIES, [f"{RECORDED} is not replayed: {reason}"]
    return (RECORDED, *DEFAULT_POLICIES), []


def suited_model(trace: Trace, models: ModelChoice, dp_size: int, max_num_seqs: int) -> tuple[StepTimeModel, list[str]]:
    """The step-time model that was asked for, else the one that suits the trace, and notes on it.

    It suits the trace if it made it (a replayed trace names it) or was fitted to its measured times. Where the fit
    cannot be, or misses the times by more than the default does, another stands in for it, as a note says.
    """
    given, notes = models.given_step_model(max_num_seqs)
    if given is not None:
        return given, notes
    default = models.default_step_model(max_num_seqs)
    model = model_in_header(trace)
    if model is None:
        model, notes = own_model(trace, default) if has_measured_times(trace) else (default, [])
    model, lost = _for_ranks(model, dp_size)
    return models.with_speeds(model), [*notes, *lost]


def _for_ranks(model: StepTimeModel, dp_size: int) -> tuple[StepTimeModel, list[str]]:
    """The model without the speeds of ranks that the replay does not have, and a note where it had some."""
    kept = {rank: speed for rank, speed in model.rank_speeds if rank < dp_size}
    lost = [f"rank {rank}" for rank, _speed in model.rank_speeds if rank >= dp_size]
    if not lost:
        return model, []
    return replace(model, rank_speeds=tuple(kept.items())), [
        f"the step model has a speed for {listed(lost)}, which the replay of {count(dp_size, 'rank')} does not have"
    ]

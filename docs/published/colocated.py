"""Replays of ranks that compute prompts beside decoding, for the fidelity page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.prefill.rule import parse_prefill
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload


@dataclass(frozen=True)
class Served:
    """What a benchmark client prints of a run."""

    tokens_per_second: float
    requests_per_second: float
    itl_ms_median: float
    """The median over tokens of the time since the token before."""
    tpot_ms_mean: float
    """The mean over requests of (finish - first token) / (tokens - 1)."""
    ttft_ms_mean: float


def served(
    requests: Workload, ranks: int, slots: int, model: StepTimeModel, rule: str, policy: str, conditions: Conditions
) -> Served:
    """Replay requests on ranks that prefill by a rule."""
    cluster = Cluster(ranks, slots, model, prefill=parse_prefill(rule))
    done = replay(requests, cluster, parse_policy(policy), conditions)
    steps, table = done.trace.step_arrays(), done.trace.requests
    assert table is not None
    times = {name: table[name].to_numpy() for name in ("arrival_ms", "first_token_ms", "finish_ms")}
    seconds = (times["finish_ms"].max() - times["arrival_ms"].min()) / 1e3
    decoding_ms = times["finish_ms"] - times["first_token_ms"]
    return Served(
        tokens_per_second=float(requests.output_tokens.sum() / seconds),
        requests_per_second=float(len(requests) / seconds),
        itl_ms_median=weighted_median(done.step_ms, steps.num_running.sum(axis=1)),
        tpot_ms_mean=float((decoding_ms / np.maximum(requests.output_tokens - 1, 1)).mean()),
        ttft_ms_mean=float((times["first_token_ms"] - times["arrival_ms"]).mean()),
    )


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weight lies: where decodes do not stall, each step is the gap of its tokens."""
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(below, below[-1] / 2)])

"""Small replays with prefill, written out: what every rank computes in every step."""

from __future__ import annotations

import numpy as np
import polars as pl

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.engine.engine import Replay, replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.prefill.rule import parse_prefill
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

STEP_MS = 10.0
CLOCK = StepTimeModel("clock", shared_s=STEP_MS / 1e3, per_token_s=0.0)
"""Every step takes as long as any other."""


def served(rule: str, requests, *, ranks: int = 1, slots: int = 8, binding="immediate", capacity=None) -> Replay:
    """A replay of (step of arrival, rank, prompt tokens, output tokens), each sent to that rank if bound on arrival."""
    steps, where, prompts, outputs = (np.array(column) for column in zip(*requests, strict=True))
    workload = Workload(
        source="by hand",
        request_id=pl.Series("request_id", np.arange(len(requests))),
        prompt_tokens=prompts.astype(np.int64),
        output_tokens=outputs.astype(np.int64),
        arrival_ms=steps * STEP_MS,
        recorded_rank=where.astype(np.int64),
    )
    cluster = Cluster(ranks, slots, CLOCK, capacity, parse_prefill(rule))
    policy = "recorded" if binding == "immediate" else "round-robin"
    return replay(workload, cluster, parse_policy(policy), Conditions(binding=binding))


def steps_of(rule: str, requests, **where) -> list[str]:
    """A line for every step: of each rank, the prompt tokens it computes + the requests that decode, `5+2`."""
    steps = served(rule, requests, **where).trace.step_arrays()
    return [
        " ".join(f"{int(new)}+{int(decodes)}" for new, decodes in zip(*row, strict=True))
        for row in zip(steps.prefill_tokens, steps.num_running, strict=True)
    ]

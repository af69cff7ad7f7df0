"""SGLang's in-tree schedule simulator: how balanced batch sizes and sequence lengths are, by its own formula."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from lbal.analyzers.models.step_models import step_model
from lbal.analyzers.trace.trace import FloatArray
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload
from published.lengths import log_normal, workload
from published.row import Comparison, Row

RANKS, SLOTS, REQUESTS = 8, 32, 2_000


@cache
def lengths() -> Workload:
    """All requests at once, as its synthetic source gives them."""
    generator = np.random.default_rng(0)
    drawn = (log_normal(generator, mean, 0.8, REQUESTS) for mean in (1_000.0, 300.0))
    return workload(*drawn, np.zeros(REQUESTS))


@cache
def restated(figure: str) -> float:
    """Its round robin over all requests at once and its first-come scheduler: the mean over steps of mean/max.

    Written anew from its semantics: a step gives each running request of a rank one token, those that are complete
    leave, and then the ranks are looked at; where all are empty the figure is 1.
    """
    requests = lengths()
    queues = [list(range(rank, REQUESTS, RANKS)) for rank in range(RANKS)]
    running: list[dict[int, int]] = [{} for _ in range(RANKS)]
    seen = []
    while any(queues) or any(running):
        for rank in range(RANKS):
            while queues[rank] and len(running[rank]) < SLOTS:
                running[rank][queues[rank].pop(0)] = 0
            grown = {request: tokens + 1 for request, tokens in running[rank].items()}
            running[rank] = {
                request: tokens for request, tokens in grown.items() if tokens < requests.output_tokens[request]
            }
        if figure == "batch sizes":
            loads = [len(batch) for batch in running]
        else:
            loads = [sum(int(requests.prompt_tokens[r]) + tokens for r, tokens in batch.items()) for batch in running]
        seen.append(sum(loads) / RANKS / max(loads) if max(loads) else 1.0)
    return float(np.mean(seen))


@cache
def replayed() -> tuple[FloatArray, FloatArray]:
    """Batch sizes and KV tokens of each rank after each step, of the replay: those that enter less those that leave."""
    requests = lengths()
    cluster = Cluster(RANKS, SLOTS, step_model("paper-release", SLOTS))
    done = replay(requests, cluster, parse_policy("round-robin"), Conditions(binding="immediate"))
    steps, table = done.trace.step_arrays(), done.trace.requests
    assert table is not None
    running, tokens = steps.num_running.copy(), steps.kv_tokens + steps.num_running
    last = done.admitted_step + requests.output_tokens - 1
    where = (last, table["rank"].to_numpy())
    np.subtract.at(running, where, 1)
    np.subtract.at(tokens, where, requests.prompt_tokens + requests.output_tokens)
    return running, tokens


def ours(figure: str) -> float:
    """The same figure from lbal's replay."""
    loads = replayed()[0 if figure == "batch sizes" else 1]
    most = loads.max(axis=1)
    return float(np.divide(loads.mean(axis=1), most, out=np.ones(len(loads)), where=most > 0).mean())


COMPARISON = Comparison(
    title="How balanced batches are, by SGLang's formula",
    source="SGLang, debug_utils/schedule_simulator",
    facts="its formula (mean over steps of mean/max, looked at after each step) and its round robin, stated anew",
    assumed=f"{REQUESTS:,} requests at once with log-normal lengths (1,000 in, 300 out), {RANKS} ranks, {SLOTS} slots",
    rows=[
        Row(
            f"balancedness of {figure}",
            partial(restated, figure),
            "consistency check",
            partial(ours, figure),
            within=1e-9,
        )
        for figure in ("batch sizes", "sequence lengths")
    ],
    verdict="The same to the last digits, as it should be: both have no time, no arrivals and no prefill here.",
)

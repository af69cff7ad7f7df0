"""The same requests at the same admission times, placed anew by the solver: what placement alone wins back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from lbal.analyzers.barrier.accounts import join
from lbal.analyzers.barrier.bounds import Admissions
from lbal.replay.engine.engine import Progress, Replay, replay
from lbal.replay.policies.bf_io import BfIo
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload


def admissions_of(replayed: Replay, workload: Workload) -> Admissions:
    """When a replay admitted the requests of its workload."""
    return Admissions(replayed.admitted_step, workload.output_tokens, workload.prompt_tokens)


def idle_placed_anew(
    admissions: Admissions,
    cluster: Cluster,
    drift: Drift,
    rows: slice,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> float:
    """Share of the rank-time of the chosen steps that is idle if `bf-io` places every request when it is admitted.

    Under the cluster's model, whose slots must suffice for all that were active at a time. The solver knows how long
    each request stayed, which the trace tells afterwards: this is no policy that could have run, but a placement that
    was possible. Requests that were active in no step are left out.
    """
    chosen = np.flatnonzero(admissions.steps > 0)
    chosen = chosen[np.argsort(admissions.first[chosen], kind="stable")]
    workload = Workload(
        source="the same admissions",
        request_id=pl.Series("request_id", chosen),
        prompt_tokens=admissions.prompt_tokens[chosen],
        output_tokens=admissions.steps[chosen],
        arrival_ms=admissions.first[chosen].astype(np.float64),
        recorded_rank=None,
    )
    policy = BfIo(predictor="oracle", horizon=5, worst_wait=0)
    conditions = Conditions("steps", drift=drift)
    replayed = replay(workload, cluster, policy, conditions, keep_steps=False, on_progress=on_progress)
    assert (replayed.waited_steps == 0).all()
    accounts = join(list(replayed.accounts.values()))
    order = np.argsort(accounts.step)
    idle_ms, step_ms = accounts.idle_ms[order][rows], accounts.step_ms[order][rows]
    return float(idle_ms.sum() / (cluster.dp_size * step_ms.sum()))

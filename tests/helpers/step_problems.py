"""Step problems as a replay meets them: a plain-Python policy that notes the problem of every step it decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from lbal.analyzers.models.step_models import step_model
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.view import STEP
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload
from lbal.replay.solver.problem import StepProblem

Placement = tuple[np.ndarray, np.ndarray]
"""Indices into the pool, and their ranks."""


def backlog_problem(view, waiting, weights) -> StepProblem:
    """The problem of this step with true lengths: active requests grow by a token per step until they end."""
    horizon = np.arange(len(weights))
    active = view.active[view.active >= 0]
    age = int(view.clock[STEP]) - view.admitted_step[active]
    loads = np.zeros((view.dp_size, len(weights)))
    np.add.at(loads, view.rank[active], _profiles(view, active, age, horizon))
    count = len(waiting)
    return StepProblem(
        loads=loads,
        free_slots=view.max_num_seqs - view.num_running,
        profiles=_profiles(view, waiting, np.zeros(count, np.int64), horizon),
        weights=np.asarray(weights, np.float64),
        overflow=float(view.dp_size),
        room=view.free_kv.copy(),
        reserved=view.reserved_tokens[waiting],
        forced=np.zeros(count, np.bool_),
        allowed=np.ones(count, np.bool_),
    )


def _profiles(view, requests, age, horizon):
    alive = horizon < (view.output_tokens[requests] - age)[:, None]
    return alive * ((view.prompt_tokens[requests] + age)[:, None] + horizon).astype(np.float64)


def first_to_least_loaded(problem: StepProblem) -> Placement:
    """Oldest requests first, each to the rank that is least loaded now and has room."""
    loads, free, room = problem.loads[:, 0].copy(), problem.free_slots.copy(), problem.room.copy()
    requests, ranks = [], []
    for request in np.flatnonzero(problem.allowed):
        fits = (free > 0) & (problem.reserved[request] <= room)
        if not fits.any():
            continue
        rank = int(np.argmin(np.where(fits, loads, np.inf)))
        loads[rank] += problem.profiles[request, 0]
        free[rank] -= 1
        room[rank] -= problem.reserved[request]
        requests.append(request)
        ranks.append(rank)
    return np.array(requests, np.int64), np.array(ranks, np.int64)


def problems_of_a_replay(
    workload: Workload,
    shape: tuple[int, int],
    weights: list[float],
    *,
    decide: Callable[[StepProblem], Placement] = first_to_least_loaded,
    pool: int | None = None,
    kv_capacity: int | None = None,
    keep: Callable[[int], bool] = lambda step: True,
) -> list[StepProblem]:
    """The problems that a backlog replay under `decide` meets, in order of the steps that `keep` accepts."""
    problems: list[StepProblem] = []

    @dataclass(frozen=True)
    class Noting(Selector):
        """Notes the problem of every step."""

        name: ClassVar[str] = "noting"
        looks_at: ClassVar[str] = "requests"
        compiled: ClassVar[bool] = False
        uses_true_lengths: ClassVar[bool] = True

        @staticmethod
        def place(view, pool, size, requests, ranks) -> int:
            problem = backlog_problem(view, pool[:size], weights)
            if keep(int(view.clock[STEP])):
                problems.append(problem)
            chosen, where = decide(problem)
            requests[: len(chosen)] = pool[chosen]
            ranks[: len(chosen)] = where
            return len(chosen)

    cluster = Cluster(*shape, step_model("paper-release", shape[1]), kv_capacity)
    replay(workload, cluster, Noting(), Conditions(arrivals="backlog", pool=pool), keep_steps=False)
    return problems


def bursty_lengths(count: int, seed: int) -> Workload:
    """Lengths as in BurstGPT, roughly: log-normal prompts, and outputs of which some are very short."""
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(5.8, 1.1, count), 4, 8000).astype(np.int64)
    short = rng.random(count) < 0.7
    outputs = np.where(short, rng.integers(1, 10, count), rng.lognormal(3.8, 0.8, count).astype(np.int64) + 1)
    return Workload("bursty lengths", pl.Series("request_id", np.arange(count)), prompts, outputs, None, None)

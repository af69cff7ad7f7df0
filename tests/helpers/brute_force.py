"""The best placement of a step by trying all of them: what the solver must equal on small problems."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lbal.replay.solver.problem import StepProblem

NOT_PLACED = -1


@dataclass(frozen=True)
class Best:
    """How many forced requests and how many requests can be placed, and the least J of those placements."""

    forced: int
    placed: int
    objective: float


def best_of_all(problem: StepProblem) -> Best:
    """Forced requests first, then as many as fit, then the least J; over (G+1)**R placements."""
    ranks = len(problem.loads)
    best = (0, 0, np.inf)
    for where in itertools.product(range(NOT_PLACED, ranks), repeat=len(problem.profiles)):
        placed = [request for request, rank in enumerate(where) if rank != NOT_PLACED]
        chosen = np.array([where[request] for request in placed], np.int64)
        if _is_possible(problem, placed, chosen):
            forced = sum(bool(problem.forced[request]) for request in placed)
            if (forced, len(placed)) < best[:2]:
                continue
            objective = problem.objective(np.array(placed, np.int64), chosen)
            best = min(best, (forced, len(placed), objective), key=lambda entry: (-entry[0], -entry[1], entry[2]))
    return Best(*best)


def _is_possible(problem, requests, ranks) -> bool:
    if not all(problem.allowed[request] for request in requests):
        return False
    for rank in range(len(problem.loads)):
        here = [request for request, where in zip(requests, ranks, strict=True) if where == rank]
        if len(here) > problem.free_slots[rank] or sum(problem.reserved[here]) > problem.room[rank]:
            return False
    return True

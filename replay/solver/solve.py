"""Solves a step's placement problem by the method that the caller names: `fast` or `exact`."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Literal

import numpy as np

from lbal.replay.solver.fast import EFFORT, fast_placement
from lbal.replay.solver.problem import Solution, StepProblem

Method = Literal["fast", "exact"]


def solve(problem: StepProblem, method: Method = "fast", **limits: float) -> Solution:
    """A placement with a low J: about the least with `fast`, the least with `exact`.

    Limits: of `fast`, `effort` (evaluations after which it ends); of `exact`, which starts from what `fast` finds,
    `gap`, `deterministic_limit` and `seed`, as in `solve_exact`. `fast` proves nothing: no bound, and `feasible`.
    """
    if method == "fast":
        return solve_fast(problem, **limits)
    from lbal.replay.solver.exact import solve_exact  # OR-Tools takes a second to import

    return solve_exact(problem, start=solve_fast(problem), **limits)  # type: ignore[arg-type]


def solve_fast(problem: StepProblem, *, effort: float = EFFORT) -> Solution:
    """Place as many forced requests, then as many others, as it finds room for, with a J that is about the least."""
    most = len(problem.profiles)
    requests, ranks = np.zeros(most, np.int64), np.zeros(most, np.int64)
    fields = (
        np.ascontiguousarray(problem.loads, np.float64),
        np.ascontiguousarray(problem.profiles, np.float64),
        np.asarray(problem.weights, np.float64),
        float(problem.overflow),
        np.asarray(problem.free_slots, np.int64),
        np.asarray(problem.room, np.float64),
        np.asarray(problem.reserved, np.int64),
        np.asarray(problem.forced, np.bool_),
        np.asarray(problem.allowed, np.bool_),
    )
    search = _compiled()
    began = time.perf_counter()
    placed = search(*fields, requests, ranks, float(effort))
    seconds = time.perf_counter() - began
    requests, ranks = requests[:placed], ranks[:placed]
    return Solution(
        requests=requests,
        ranks=ranks,
        objective=problem.objective(requests, ranks),
        bound=None,
        status="feasible",
        seconds=seconds,
    )


@cache
def _compiled() -> Any:
    from numba import types

    from lbal.replay.engine.compiling import compiled_helper

    matrix, numbers = types.float64[:, ::1], types.float64[::1]
    integers, flags = types.int64[::1], types.boolean[::1]
    of_problem = (matrix, matrix, numbers, types.float64, integers, numbers, integers, flags, flags)
    return compiled_helper(fast_placement, types.int64(*of_problem, integers, integers, types.float64))

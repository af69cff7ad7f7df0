"""Small placement problems of one step, drawn by hypothesis, and what every solution of one must fulfil."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lbal.replay.solver.problem import Solution, StepProblem

UNLIMITED = np.inf


def problem_of(loads, slots, profiles, *, weights=None, overflow=None, room=None, reserved=None, forced=(), barred=()):
    """A problem from lists; `forced` and `barred` (not allowed) are requests by index."""
    loads = np.atleast_2d(np.array(loads, np.float64))
    profiles = np.array(profiles, np.float64).reshape(-1, loads.shape[1])
    count = np.arange(len(profiles))
    return StepProblem(
        loads=loads,
        free_slots=np.array(slots, np.int64),
        profiles=profiles,
        weights=np.ones(loads.shape[1]) if weights is None else np.array(weights, np.float64),
        overflow=float(len(loads) if overflow is None else overflow),
        room=np.full(len(loads), UNLIMITED) if room is None else np.array(room, np.float64),
        reserved=np.zeros(len(profiles), np.int64) if reserved is None else np.array(reserved, np.int64),
        forced=np.isin(count, forced),
        allowed=~np.isin(count, barred),
    )


@st.composite
def small_problems(draw, *, limited: bool, whole: bool) -> StepProblem:
    """Up to 6 requests and 3 ranks; few distinct values, so that equal requests and equal ranks are common."""
    ranks, requests = draw(st.integers(1, 3)), draw(st.integers(0, 6))
    steps = draw(st.integers(1, 4))
    load = st.sampled_from([0, 3, 10, 17]) if whole else st.floats(0, 20, width=32)
    profile = st.sampled_from([0, 1, 4, 5, 9]) if whole else st.floats(0, 9, width=32)
    weight = st.sampled_from([0, 1, 1, 2]) if whole else st.sampled_from([0.0, 1.0, 0.6, 0.36, 1e-7])
    # Whole rows are drawn from a small set: rows that agree in all steps are what the grouping looks for.
    load_rows = [[draw(load) for _ in range(steps)] for _ in range(2)]
    profile_rows = [[draw(profile) for _ in range(steps)] for _ in range(draw(st.integers(1, 6)))]
    room = st.one_of(st.just(UNLIMITED), st.integers(0, 12)) if limited else st.just(UNLIMITED)
    pick = [draw(st.sampled_from(profile_rows)) for _ in range(requests)]
    return problem_of(
        [draw(st.sampled_from(load_rows)) for _ in range(ranks)],
        [draw(st.integers(0, 3)) for _ in range(ranks)],
        np.array(pick).reshape(requests, steps),
        weights=[draw(weight) for _ in range(steps)],
        overflow=draw(st.sampled_from([0.0, 0.5, 1.0, float(ranks), 2.0 * ranks])),
        room=[draw(room) for _ in range(ranks)],
        reserved=[draw(st.sampled_from([0, 1, 3, 5, 7])) for _ in range(requests)],
        forced=draw(st.sets(st.integers(0, 5), max_size=3).map(sorted)),
        barred=draw(st.sets(st.integers(0, 5), max_size=2).map(sorted)),
    )


def assert_is_possible(problem: StepProblem, solution: Solution) -> None:
    assert len(set(solution.requests.tolist())) == len(solution.requests)
    assert problem.allowed[solution.requests].all()
    for rank in range(len(problem.loads)):
        here = solution.requests[solution.ranks == rank]
        assert len(here) <= problem.free_slots[rank]
        assert problem.reserved[here].sum() <= problem.room[rank]
    assert solution.objective == problem.objective(solution.requests, solution.ranks)

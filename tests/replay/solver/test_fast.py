"""The fast solver: possible placements, never better than the best, and how near to it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from brute_force import best_of_all
from hypothesis import HealthCheck, given, settings
from small_problems import UNLIMITED, assert_is_possible, problem_of, small_problems
from step_problems import bursty_lengths, problems_of_a_replay

from lbal.replay.solver import Solution, StepProblem, solve
from lbal.replay.solver.fast import fast_placement
from lbal.replay.solver.solve import solve_fast

PROFILE = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def scale_of(problem: StepProblem) -> float:
    """What J can be made of; differences are told from rounding by it."""
    return float(problem.weights.sum() * (problem.overflow + len(problem.loads)) * 100) + 1e-9


def load_of(problem: StepProblem, solution: Solution) -> float:
    """sum_h w_h * sum_g L_g(h) with the placed requests."""
    return float(problem.weights @ (problem.loads.sum(axis=0) + problem.profiles[solution.requests].sum(axis=0)))


@pytest.mark.parametrize("whole", [True, False], ids=["whole numbers", "floats"])
@pytest.mark.parametrize(("limited", "share"), [(False, 0.99), (True, 0.95)], ids=["no limit", "KV room"])
def test_on_small_problems_it_is_never_better_and_hardly_ever_worse_than_brute_force(limited, share, whole):
    equal = []

    @PROFILE
    @given(small_problems(limited=limited, whole=whole))
    def check(problem):
        solution, best = solve(problem), best_of_all(problem)
        assert_is_possible(problem, solution)
        assert (solution.bound, solution.status) == (None, "feasible")
        reached = (int(problem.forced[solution.requests].sum()), len(solution.requests))
        if limited:
            assert reached <= (best.forced, best.placed)
        else:
            assert reached == (best.forced, best.placed)
        if reached == (best.forced, best.placed):
            assert solution.objective >= best.objective - 1e-9 * scale_of(problem)
        near = solution.objective <= best.objective + 1e-8 * scale_of(problem)
        equal.append(reached == (best.forced, best.placed) and near)

    check()
    assert np.mean(equal) >= share


def test_nothing_more_fits_beside_what_is_placed():
    @PROFILE
    @given(small_problems(limited=True, whole=True))
    def check(problem):
        solution = solve(problem)
        waiting = np.setdiff1d(np.flatnonzero(problem.allowed), solution.requests)
        for rank in range(len(problem.loads)):
            here = solution.requests[solution.ranks == rank]
            if len(here) < problem.free_slots[rank]:
                assert (problem.reserved[here].sum() + problem.reserved[waiting] > problem.room[rank]).all()

    check()


def captured(shape, pool, weights, *, count, keep, most=1_000):
    """Steps of a replay of bursty lengths under the fast solver itself, with a choice and at most so many to place."""

    def decide(problem):
        solution = solve(problem)
        return solution.requests, solution.ranks

    requests = shape[0] * shape[1] * 8
    problems = problems_of_a_replay(bursty_lengths(requests, 3), shape, weights, pool=pool, decide=decide, keep=keep)
    return [problem for problem in problems if 1 <= problem.num_placed <= min(most, len(problem.profiles) - 1)][:count]


@pytest.mark.parametrize("horizon", [0, 4, 20])
def test_at_8_ranks_of_16_slots_it_is_nearly_always_optimal(horizon):
    problems = captured((8, 16), 32, [1.0] * (horizon + 1), count=15, keep=lambda step: step >= 30, most=4)
    assert len(problems) == 15
    pairs = [(solve(problem).objective, solve(problem, "exact")) for problem in problems]
    assert all(exact.status == "optimal" for _, exact in pairs)
    assert all(fast >= exact.objective for fast, exact in pairs)
    assert np.mean([fast == exact.objective for fast, exact in pairs]) >= 0.9
    assert sum(fast for fast, _ in pairs) <= 1.002 * sum(exact.objective for _, exact in pairs)


@pytest.mark.parametrize(("horizon", "discount"), [(0, 1.0), (5, 0.6)])
def test_at_16_ranks_of_72_slots_it_is_within_half_a_percent_of_the_load(horizon, discount):
    weights = [discount**step for step in range(horizon + 1)]
    problems = captured((16, 72), 64, weights, count=8, keep=lambda step: step >= 60 and step % 7 == 0)
    assert len(problems) == 8
    gaps = []
    for problem in problems:
        fast = solve(problem)
        exact = solve(problem, "exact", deterministic_limit=0.4)
        assert exact.bound is not None
        assert exact.bound <= exact.objective <= fast.objective
        assert fast.objective - exact.objective <= 0.005 * load_of(problem, fast)
        gaps.append((fast.objective - exact.objective) / load_of(problem, fast))
    assert np.mean(gaps) <= 0.001, "of the load: at H=0 the least J is nearly 0"


def test_the_same_problem_has_the_same_solution_twice():
    for problem in captured((8, 16), 32, [1.0, 0.6], count=10, keep=lambda step: step >= 30):
        first, second = solve(problem), solve(problem)
        np.testing.assert_array_equal(first.requests, second.requests)
        np.testing.assert_array_equal(first.ranks, second.ranks)


def test_more_effort_is_never_worse():
    for problem in captured((8, 16), 32, [1.0] * 4, count=15, keep=lambda step: step >= 30):
        found = [solve(problem, effort=effort).objective for effort in (0, 5_000, 45_000)]
        assert found == sorted(found, reverse=True)


def test_it_runs_the_same_without_compilation():
    for problem in captured((4, 8), 16, [1.0, 0.6], count=5, keep=lambda step: step >= 30):
        requests, ranks = np.zeros(16, np.int64), np.zeros(16, np.int64)
        placed = fast_placement(
            problem.loads, problem.profiles, problem.weights, problem.overflow, problem.free_slots, problem.room,
            problem.reserved, problem.forced, problem.allowed, requests, ranks, 45_000.0,
        )  # fmt: skip
        compiled = solve_fast(problem)
        np.testing.assert_array_equal(requests[:placed], compiled.requests)
        np.testing.assert_array_equal(ranks[:placed], compiled.ranks)


def test_a_constant_load_on_all_ranks_changes_nothing():
    for problem in captured((8, 16), 32, [1.0] * 3, count=10, keep=lambda step: step >= 30):
        higher = dataclasses.replace(problem, loads=problem.loads + 512.0)
        assert solve(higher).objective == solve(problem).objective


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(problem_of([[3, 4], [5, 0]], [2, 1], np.zeros((0, 2))), id="empty pool"),
        pytest.param(problem_of([[3, 4], [5, 0]], [0, 0], [[1, 2], [2, 3]]), id="no free slots"),
        pytest.param(problem_of([[3, 4], [5, 0]], [2, 1], [[1, 2], [2, 3]], barred=[0, 1]), id="nobody allowed"),
        pytest.param(problem_of([[3]], [1], [[1]], room=[0], reserved=[1]), id="nobody fits"),
        pytest.param(problem_of([[0], [0]], [1, 1], [[0], [0], [0]]), id="no load at all"),
        pytest.param(problem_of([[3, 4]], [2], [[1, 2], [2, 3], [1, 1]]), id="one rank"),
    ],
)
def test_corner_cases_have_an_answer(problem):
    solution, best = solve(problem), best_of_all(problem)
    assert_is_possible(problem, solution)
    assert (len(solution.requests), solution.objective) == (best.placed, best.objective)


def test_one_free_slot_takes_the_longest_request_below_the_largest_load():
    problem = problem_of([[100], [60]], [0, 1], [[20], [35], [45], [70]])
    assert solve(problem).objective == 5.0


def test_the_exact_method_starts_from_the_fast_one_and_passes_limits_on():
    problem = captured((8, 16), 32, [1.0] * 3, count=1, keep=lambda step: step >= 30)[0]
    stopped = solve(problem, "exact", deterministic_limit=0.0)
    assert stopped.objective <= solve(problem).objective
    assert stopped.bound is not None
    assert UNLIMITED > solve(problem, "exact", gap=0.1).objective >= solve(problem, "exact").objective

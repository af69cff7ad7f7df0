"""The exact solver: equal to brute force on small problems and to a second solver on captured ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from brute_force import best_of_all
from hypothesis import HealthCheck, given, settings
from small_problems import assert_is_possible, problem_of, small_problems
from step_problems import bursty_lengths, problems_of_a_replay

from lbal.replay.solver import linear_program
from lbal.replay.solver.exact import solve_exact
from lbal.replay.solver.problem import Solution, StepProblem

pytest.importorskip("ortools")


def assert_is_best(problem: StepProblem, solution: Solution) -> None:
    assert_is_possible(problem, solution)
    best = best_of_all(problem)
    assert problem.forced[solution.requests].sum() == best.forced
    assert len(solution.requests) == best.placed
    scale = float(problem.weights.sum() * (problem.overflow + len(problem.loads)) * 100)
    assert solution.objective == pytest.approx(best.objective, abs=1e-6 * scale + 1e-12)
    assert solution.status == "optimal"
    assert solution.bound is not None
    assert solution.bound <= best.objective + 1e-9 * scale + 1e-12


@pytest.mark.parametrize("whole", [True, False], ids=["whole numbers", "floats"])
@pytest.mark.parametrize("limited", [True, False], ids=["KV room", "no limit"])
@pytest.mark.parametrize("tightened", [True, False], ids=["tightened", "as given"])
def test_it_equals_brute_force_on_small_problems(limited, whole, tightened, monkeypatch):
    if not tightened:
        monkeypatch.setattr(linear_program, "LARGEST_SIZE", 0)

    @settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(small_problems(limited=limited, whole=whole))
    def check(problem):
        assert_is_best(problem, solve_exact(problem))

    check()


def captured_problems(horizon: int, count: int, *, discount: float = 1.0) -> list[StepProblem]:
    """Steps of a replay at (G, B) = (4, 8) with a pool of 16, from the first full occupancy on."""
    problems = problems_of_a_replay(
        bursty_lengths(900, seed=horizon),
        (4, 8),
        [discount**step for step in range(horizon + 1)],
        pool=16,
        keep=lambda step: step >= 20,
    )
    with_choice = [problem for problem in problems if 2 <= problem.num_placed < len(problem.profiles)]
    return with_choice[:count]


@pytest.mark.parametrize("horizon", [0, 1, 2, 3])
def test_it_equals_a_second_solver_on_captured_steps(horizon):
    from second_solver import least_objective

    problems = captured_problems(horizon, 50)
    assert len(problems) == 50
    for problem in problems:
        solution = solve_exact(problem)
        assert_is_possible(problem, solution)
        assert len(solution.requests) == problem.num_placed
        assert solution.status == "optimal"
        assert solution.bound == solution.objective == least_objective(problem)


def test_a_discounted_window_is_solved_within_the_rounding():
    for problem in captured_problems(3, 12, discount=0.6):
        solution = solve_exact(problem)
        assert solution.status == "optimal"
        assert solution.gap is not None
        assert 0 <= solution.gap <= 1e-6 * problem.overflow * problem.loads.max()


def test_one_free_slot_takes_the_longest_request_below_the_largest_load():
    # Loads 100 and 60: 35 leaves 5 to spare, 45 exceeds by 5 and then costs 2 * 5 - 45 + 35 = 0 less, no gain.
    problem = problem_of([[100], [60]], [0, 1], [[20], [35], [45], [70]])
    solution = solve_exact(problem)
    assert solution.requests.tolist() in ([1], [2])
    assert (solution.objective, solution.bound, solution.status) == (5.0, 5.0, "optimal")


def test_a_forced_request_is_placed_whatever_it_costs():
    problem = problem_of([[100], [60]], [0, 1], [[20], [35], [45], [70]], forced=[3])
    solution = solve_exact(problem)
    assert solution.requests.tolist() == [3]
    assert solution.objective == 30.0


def test_forced_requests_come_first_even_where_more_others_would_fit():
    # The forced request takes all the room that two others could share.
    problem = problem_of([[0]], [2], [[1], [1], [9]], room=[10], reserved=[5, 5, 10], forced=[2])
    assert solve_exact(problem).requests.tolist() == [2]
    unforced = dataclasses.replace(problem, forced=np.zeros(3, np.bool_))
    assert solve_exact(unforced).requests.tolist() == [0, 1]


def test_room_is_used_for_as_many_requests_as_fit():
    # Whoever gives rank 0 its one large slot first leaves the large request without room.
    problem = problem_of([[0], [0]], [1, 1], [[5], [4]], room=[10, 3], reserved=[10, 3])
    solution = solve_exact(problem)
    assert sorted(zip(solution.requests.tolist(), solution.ranks.tolist(), strict=True)) == [(0, 0), (1, 1)]


def test_of_equal_requests_the_oldest_is_placed():
    problem = problem_of([[10], [0]], [0, 2], [[3], [3], [3], [3]])
    assert solve_exact(problem).requests.tolist() == [0, 1]


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(problem_of([[3, 4], [5, 0]], [2, 1], np.zeros((0, 2))), id="empty pool"),
        pytest.param(problem_of([[3, 4], [5, 0]], [0, 0], [[1, 2], [2, 3]]), id="no free slots"),
        pytest.param(problem_of([[3, 4], [5, 0]], [2, 1], [[1, 2], [2, 3]], barred=[0, 1]), id="nobody allowed"),
        pytest.param(problem_of([[3]], [1], [[1]], room=[0], reserved=[1]), id="nobody fits"),
    ],
)
def test_nothing_to_place_is_an_optimal_answer(problem):
    solution = solve_exact(problem)
    assert len(solution.requests) == len(solution.ranks) == 0
    assert solution.status == "optimal"
    assert solution.gap == 0


def test_where_all_are_forced_and_fit_only_their_ranks_are_chosen():
    problem = problem_of([[10, 9], [8, 9], [7, 6]], [2, 2, 1], [[5, 4], [3, 3], [2, 0], [1, 1]], forced=[0, 1, 2, 3])
    solution = solve_exact(problem)
    assert solution.requests.tolist() == [0, 1, 2, 3]
    assert_is_best(problem, solution)


def test_the_order_of_ranks_and_requests_does_not_change_the_optimum():
    rng = np.random.default_rng(5)
    for problem in captured_problems(3, 10):
        ranks, requests = rng.permutation(len(problem.loads)), rng.permutation(len(problem.profiles))
        shuffled = dataclasses.replace(
            problem,
            loads=problem.loads[ranks],
            free_slots=problem.free_slots[ranks],
            room=problem.room[ranks],
            profiles=problem.profiles[requests],
            reserved=problem.reserved[requests],
            forced=problem.forced[requests],
            allowed=problem.allowed[requests],
        )
        assert solve_exact(shuffled).objective == solve_exact(problem).objective


def test_the_same_problem_has_the_same_solution_twice():
    for problem in captured_problems(3, 5):
        for limit in (0.001, 10.0):
            first, second = (solve_exact(problem, deterministic_limit=limit, seed=3) for _ in range(2))
            np.testing.assert_array_equal(first.requests, second.requests)
            np.testing.assert_array_equal(first.ranks, second.ranks)
            assert (first.objective, first.bound, first.status) == (second.objective, second.bound, second.status)


def test_a_start_is_never_made_worse_and_an_optimal_one_is_kept():
    for problem in captured_problems(2, 5):
        best = solve_exact(problem)
        again = solve_exact(problem, start=best)
        np.testing.assert_array_equal(again.requests, best.requests)
        stopped = solve_exact(problem, start=best, deterministic_limit=0.0)
        assert stopped.objective == best.objective
        assert stopped.bound is not None
        assert stopped.bound <= best.objective


def test_a_start_that_breaks_a_constraint_is_not_used():
    problem = problem_of([[3], [5]], [1, 0], [[1], [2]])
    for requests, ranks in (([0], [1]), ([0, 1], [0, 0]), ([0, 0], [0, 0]), ([], [])):
        start = Solution(np.array(requests, np.int64), np.array(ranks, np.int64), -99.0, None, "feasible", 0.0)
        assert_is_best(problem, solve_exact(problem, start=start))


def test_a_gap_ends_the_search_within_that_gap():
    for problem in captured_problems(3, 10):
        solution, best = solve_exact(problem, gap=0.1), solve_exact(problem)
        assert solution.bound is not None
        assert solution.bound <= best.objective
        assert solution.objective <= best.objective + 0.1 * abs(solution.objective) + 1e-9


def test_a_search_that_is_cut_short_still_has_a_valid_bound():
    problem = captured_problems(3, 1)[0]
    stopped, best = solve_exact(problem, deterministic_limit=0.0), solve_exact(problem)
    assert len(stopped.requests) == problem.num_placed
    assert stopped.bound is not None
    assert stopped.bound <= best.objective <= stopped.objective


def test_loads_in_seconds_are_solved_as_well_as_loads_in_tokens():
    for problem in captured_problems(2, 5):
        in_seconds = dataclasses.replace(problem, loads=problem.loads * 2.7e-7, profiles=problem.profiles * 2.7e-7)
        solution = solve_exact(in_seconds)
        assert solution.status == "optimal"
        assert solution.objective == pytest.approx(solve_exact(problem).objective * 2.7e-7, rel=1e-6)

"""BF-IO: the step's placement as an integer program."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy import fifo_waits
from lbal.replay.policy.compilable import jitable
from lbal.replay.policy.fifo_waits import check_limits, note_admissions, usual_limit, waited, worst_limit
from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.predictors import Predicting
from lbal.replay.policy.projection import load_units, project_active, project_waiting
from lbal.replay.policy.view import View
from lbal.replay.solver import StepProblem, solve
from lbal.replay.solver.fast import EFFORT, fast_placement

USUAL_WAIT = 3.0
"""Times FIFO's p99 wait from which on requests are due where more than one in a hundred wait that long."""
TIME = 0
"""`load=time` among its choices."""


@dataclass(frozen=True)
class BfIo(Predicting, Selector):
    """Chooses which waiting requests go where so that the projected imbalance of the next steps is least.

    Of all placements that fill the free slots, that with the least J = sum_h w_h * (overflow * max_g L_g(h) - sum_g
    L_g(h)), h = 0..H, w_h = discount^h, with the expected loads of `replay/policy/projection.py`. H = 0 needs no
    prediction and reads no lengths. Where KV room keeps the placement from filling a slot that some request outside
    the choice (`slack`) would fit, the first such ones fill it. Fairness: of U requests that are placed, the choice
    is among the first U + 3G/8, which keeps most waits short; and what has waited too long goes first: `max_wait`
    steps, or `worst_wait` times what FIFO would let the longest wait, which is known online
    (`replay/policy/fifo_waits.py`), or three times its p99 where too many wait as long.
    """

    name: ClassVar[str] = "bf-io"
    looks_at: ClassVar[str] = "rank times, prompts and predicted lengths"
    source: ClassVar[str] = "arXiv 2601.17855"
    memory: ClassVar[Memory] = fifo_waits.MEMORY.with_parts(decisions=1, proven=1, gap=1, objective=1)
    """After FIFO's waits, with `exact`: steps decided, those proven optimal, and sums of gaps and of J."""

    horizon: int = 0
    """H, steps looked ahead."""
    load: Literal["time", "kv"] = "time"
    """What is balanced: rank time by the step model, or KV tokens as in the paper."""
    discount: float = 0.6
    """Weight of each step relative to the one before it."""
    overflow: float = 0.0
    """Weight of the largest load; 0 for G."""
    slack: int = -1
    """Only the first U+slack waiting requests are considered, U of them placed; -1 for 3G/8, all at worst_wait=0."""
    max_wait: int = 0
    """Requests that have waited that many steps go first, as far as they fit; 0 for never."""
    worst_wait: float = 10.0
    """Times FIFO's longest wait that any request waits, about; 0 for free choice."""
    method: Literal["fast", "exact"] = "fast"
    """`exact` proves placements optimal, and takes up to seconds for each."""
    gap: float = 0.0
    """With `exact`: a J that is proven to be within this share of the least is good enough."""
    limit: float = 1.0
    """With `exact`: time for a step, of the solver's own clock (0.3 to 0.6 of it pass in a second)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("horizon", 0), ("slack", -1), ("max_wait", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too few, expected at least {least}")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount: {self.discount} is no discount, expected a number above 0 and at most 1")
        if not 0 <= self.overflow < math.inf:
            raise ValueError(f"overflow: {self.overflow} is no weight, expected a number above 0, or 0 for G")
        check_limits(0.0, self.worst_wait)
        if not 0 <= self.gap < 1:
            raise ValueError(f"gap: {self.gap} is no gap, expected a number of at least 0 and below 1")
        if not 0 < self.limit < math.inf:
            raise ValueError(f"limit: {self.limit} is no limit, expected a number above 0")
        for name, usual in (("gap", 0.0), ("limit", 1.0)):
            if self.method != "exact" and getattr(self, name) != usual:
                raise ValueError(f"{name}: the method {self.method} proves nothing, expected method=exact with it")

    @property
    def uses_true_lengths(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().uses_true_lengths

    @property
    def uses_draws(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().uses_draws

    @property
    def learns_lengths(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().learns_lengths

    @property
    def compiled(self) -> bool:  # type: ignore[override]
        """True for `fast`."""
        return self.method == "fast"

    def statistics(self, memory: FloatArray) -> dict[str, Any]:
        """With `exact`: decisions, the share of them proven optimal, and sums of gaps and of J."""
        if self.compiled:
            return {}
        decisions = int(memory[M.decisions])
        return {
            "method": self.method,
            "decisions": decisions,
            "proven_optimal_fraction": float(memory[M.proven]) / decisions if decisions else 1.0,
            "gap_sum": float(memory[M.gap]),
            "objective_sum": float(memory[M.objective]),
        }

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """The placement with about the least J (`solver.fast`)."""
        loads, profiles, weights, overflow, free, room, reserved, forced, allowed = step_problem(view, pool, size)
        placed = fast_placement(
            loads, profiles, weights, overflow, free, room, reserved, forced, allowed, requests, ranks, EFFORT
        )
        for index in range(placed):
            requests[index] = pool[requests[index]]
        placed = fill_what_fits(view, pool, size, requests, ranks, placed)
        note_admissions(view, requests, placed, USUAL_WAIT)
        return int(placed)

    def decide(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """The placement with the least J (`solver.exact`), as far as the limit allows."""
        problem = problem_of(view, pool, size)
        if problem.num_placed == 0:
            return 0
        solution = solve(problem, "exact", gap=self.gap, deterministic_limit=self.limit)
        placed = len(solution.requests)
        requests[:placed], ranks[:placed] = pool[solution.requests], solution.ranks
        memory = view.memory
        memory[M.decisions] += 1
        memory[M.proven] += solution.status == "optimal"
        memory[M.gap] += solution.gap or 0.0
        memory[M.objective] += solution.objective
        placed = fill_what_fits(view, pool, size, requests, ranks, placed)
        note_admissions(view, requests, placed, USUAL_WAIT)
        return placed


P, M = parameters_of(BfIo), BfIo.memory.places


def problem_of(view: View, pool: IntArray, size: int) -> StepProblem:
    """The problem that `bf-io` solves in this step."""
    loads, profiles, weights, overflow, free, room, reserved, forced, allowed = _compiled_problem()(view, pool, size)
    return StepProblem(loads, free, profiles, weights, overflow, room, reserved, forced, allowed)


@cache
def _compiled_problem() -> Any:
    from numba import types

    from lbal.replay.engine.compiling import compiled_helper, view_type, waiting_type

    return compiled_helper(step_problem, (view_type(), waiting_type(), types.int64))


@jitable
def step_problem(
    view: View, pool: IntArray, size: int
) -> tuple[
    FloatArray, FloatArray, FloatArray, float, IntArray, FloatArray, IntArray, NDArray[np.bool_], NDArray[np.bool_]
]:
    """The fields of this step's `StepProblem`, in the order of `fast_placement`."""
    numbers = view.parameters
    per_token, per_request = load_units(view, numbers[P.load] == TIME)
    steps = int(numbers[P.horizon]) + 1
    loads, profiles = np.zeros((view.dp_size, steps)), np.zeros((size, steps))
    project_active(view, per_token, per_request, loads)
    project_waiting(view, pool, size, per_token, per_request, profiles)
    weights = np.ones(steps)
    for h in range(1, steps):
        weights[h] = weights[h - 1] * numbers[P.discount]
    free = view.max_num_seqs - view.num_running
    forced, allowed = np.zeros(size, np.bool_), np.ones(size, np.bool_)
    due = usual_limit(view, USUAL_WAIT, worst_limit(view, numbers[P.worst_wait]))
    if numbers[P.max_wait] > 0:
        due = min(due, numbers[P.max_wait])
    for index in range(size):
        forced[index] = waited(view, pool[index]) >= due
    slack = numbers[P.slack] if numbers[P.slack] >= 0 or numbers[P.worst_wait] == 0 else float(view.dp_size * 3 // 8)
    if slack >= 0:
        allowed[min(int(min(free.sum(), size) + slack), size) :] = False
    overflow = numbers[P.overflow] if numbers[P.overflow] > 0 else float(view.dp_size)
    return (
        loads,
        profiles,
        weights,
        overflow,
        free,
        view.free_kv.copy(),
        view.reserved_tokens[pool[:size]],
        forced,
        allowed,
    )


@jitable
def fill_what_fits(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray, placed: int) -> int:
    """Give the free slots that are left to waiting requests, in order, each to the rank with most KV room."""
    free, free_kv = view.max_num_seqs - view.num_running, view.free_kv.copy()
    left = min(free.sum(), size) - placed
    if left == 0:
        return placed
    for index in range(placed):
        free[ranks[index]] -= 1
        free_kv[ranks[index]] -= view.reserved_tokens[requests[index]]
    taken = np.zeros(size, np.bool_)
    for index in range(size):
        for other in range(placed):
            taken[index] |= requests[other] == pool[index]
    for index in range(size):
        if taken[index]:
            continue
        best = -1
        for rank in range(view.dp_size):
            if free[rank] > 0 and (best < 0 or free_kv[rank] > free_kv[best]):
                best = rank
        if best < 0:
            break
        if view.reserved_tokens[pool[index]] <= free_kv[best]:
            requests[placed], ranks[placed] = pool[index], best
            free[best] -= 1
            free_kv[best] -= view.reserved_tokens[pool[index]]
            placed += 1
    return placed

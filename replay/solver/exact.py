"""One step's placement solved to proven optimality, with OR-Tools CP-SAT in one deterministic worker.

Equal requests become one class with an integer count per rank, equal ranks are ordered, and the largest loads are
written as an excess over a lower bound of theirs: with z_h = M_h - base_h >= 0,

    J = constant + sum_h w_h * overflow * z_h - sum_i c_i,  c_i = sum_h w_h * p_i(h), i the placed requests.

What makes proofs quick, beside the relaxation (`linearization_level=2`, without CP-SAT's own cuts): a rank with one
free slot takes one request, so that z_h >= sum_i max(0, L_g(h) + p_i(h) - base_h) * x_ig, and a request goes to one
rank, so that the same holds summed over g. Both are much tighter than the plain rows, and the tighter the higher the
base. The base starts from the largest load without placement and is raised by linear programs: the least M_h of any
relaxed placement that is better than the best one known (`relaxation`). Only such placements are then searched for
(`integers` has the rounding). So the better the start, the quicker the proof.
"""

from __future__ import annotations

import itertools
import time

import numpy as np

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.solver.counting import CountModel, most_placed, solved, weighted
from lbal.replay.solver.integers import Integers, is_whole
from lbal.replay.solver.linear_program import Cuts
from lbal.replay.solver.problem import Solution, StepProblem
from lbal.replay.solver.reduced import Reduced
from lbal.replay.solver.relaxation import Tightened, tighten

ROUNDS = 3
"""How often the bounds of the largest loads are tightened before the search."""
WHOLE_STEP = 0.99
"""A better placement is better by at least this where every J is a whole number (by 1, less rounding)."""
FLOAT_ERROR = 1e-12
"""Relative error of sums in floating point, by which the cut-off is relaxed."""
RESOLUTION = 1e-8
"""Otherwise, the improvement that is not searched for, as a share of overflow * sum_h w_h * M_h."""


def solve_exact(
    problem: StepProblem,
    *,
    start: Solution | None = None,
    gap: float = 0.0,
    deterministic_limit: float = 10.0,
    seed: int = 0,
) -> Solution:
    """The placement with the least J, and a proven lower bound of J over all placements.

    As many forced requests are placed as fit (of those that are allowed), then as many requests as fit beside them; of
    these placements it is the one with the least J. Loads and profiles must be at least 0.

    `start` is a placement to improve on; one that breaks a constraint, or places too few, is not used. The search ends
    once J is proven to be within the relative `gap` of the least, or after `deterministic_limit` of CP-SAT's own time
    (of which 0.6 to 0.9 pass in a second), so that the result depends on no clock. Then it is the best placement
    found, with status `feasible` and its bound, which is None where even the number of requests that fit is unknown.
    """
    began = time.perf_counter()
    reduced = Reduced.of(problem)
    known = None if start is None else reduced.counts_of(start.requests, start.ranks)
    counts, is_most = most_placed(reduced, known, deterministic_limit, seed)
    counts, bound, tolerance = _improved(reduced, counts, gap, deterministic_limit, seed)
    requests, ranks = reduced.placement_of(counts)
    objective = problem.objective(requests, ranks)
    return Solution(
        requests=requests,
        ranks=ranks,
        objective=objective,
        bound=min(bound, objective) if is_most else None,
        status="optimal" if is_most and objective - bound <= tolerance else "feasible",
        seconds=time.perf_counter() - began,
    )


def _improved(reduced: Reduced, counts: IntArray, gap: float, limit: float, seed: int) -> tuple[IntArray, float, float]:
    """The best placement with the numbers of `counts`, a bound of J, and how far apart both are when it is optimal."""
    first = _objective(reduced, counts)
    size = float(reduced.prices @ (reduced.base + reduced.profiles.max(axis=0, initial=0.0)))
    whole = is_whole(reduced)
    resolution = 0.0 if whole else RESOLUTION * size
    tolerance = 2 * resolution + FLOAT_ERROR * (size + abs(first))
    if counts.sum() == 0:
        return counts, first, tolerance
    cutoff = first - max(WHOLE_STEP if whole else resolution, gap * abs(first))
    floor = first if whole and cutoff >= first - 1 else cutoff
    placed, forced = int(counts.sum()), int(counts[reduced.forced > 0].sum())
    tight = tighten(reduced, placed, forced, cutoff, ROUNDS)
    if tight.bound >= cutoff:
        return counts, floor, tolerance
    search = _Search(tight, placed, forced, cutoff, reduced.in_order(counts))
    found, bound = search.run(gap, limit, seed)
    bound = max(bound, tight.bound)
    if whole and np.isfinite(bound):
        bound = np.ceil(bound - (1 - WHOLE_STEP))
    if found is not None and _objective(reduced, found) < first:
        counts = found
    return counts, min(floor, bound), tolerance + search.integers.rounding


def _objective(reduced: Reduced, counts: IntArray) -> float:
    return reduced.problem.objective(*reduced.placement_of(counts))


class _Search:
    """The CP-SAT search for the placement with the least J, among those with J at most a cut-off."""

    def __init__(self, tight: Tightened, placed: int, forced: int, cutoff: float, known: IntArray) -> None:
        self.reduced = tight.reduced
        self.integers = Integers.of(tight, placed)
        self.counting = CountModel(tight.reduced)
        self.model = self.counting.model
        self.excess = [self.model.new_int_var(0, most, "") for most in self.integers.most_excess.tolist()]
        self._place(placed, forced)
        self._order_equal_ranks()
        self._measure_loads()
        self._cut(tight.cuts)
        self._minimize(cutoff)
        self.counting.hint(known)

    def _place(self, placed: int, forced: int) -> None:
        everything = np.ones(len(self.reduced.members), np.bool_)
        self.model.add(self.counting.number(everything) == placed)
        self.model.add(self.counting.number(self.reduced.forced > 0) == forced)
        if placed == self.reduced.slots.sum():
            for pairs, slots in zip(self.counting.of_rank, self.reduced.slots.tolist(), strict=True):
                self.model.add(self.counting.total(pairs, everything.astype(np.int64)) == slots)

    def _order_equal_ranks(self) -> None:
        key, of_rank = self.reduced.order_key(), self.counting.of_rank
        for group in self.reduced.equal_ranks():
            for first, second in itertools.pairwise(group):
                self.model.add(self.counting.total(of_rank[first], key) <= self.counting.total(of_rank[second], key))

    def _measure_loads(self) -> None:
        numbers = self.integers
        for rank, pairs in enumerate(self.counting.of_rank):
            classes = [index for index, _ in pairs]
            for step, excess in enumerate(self.excess):
                if self.reduced.slots[rank] > 1 and numbers.may_exceed[rank, step]:
                    placed = self.counting.total(pairs, numbers.profiles[:, step])
                    self.model.add(placed - excess <= int(numbers.slack[rank, step]))
                if numbers.beyond[classes, rank, step].any():
                    self.model.add(self.counting.total(pairs, numbers.beyond[:, rank, step]) <= excess)

    def _cut(self, cuts: Cuts) -> None:
        for index, step in sorted(cuts):
            pairs = self.counting.of_class[index]
            variables = [self.counting.variables[pair] for pair in pairs]
            beyond = self.integers.beyond[index, [rank for _, rank in pairs], step]
            self.model.add(weighted(variables, beyond) <= int(self.reduced.multiplicity[index]) * self.excess[step])

    def _minimize(self, cutoff: float) -> None:
        numbers = self.integers
        cost = weighted(self.excess, numbers.prices) - self.counting.total(self.counting.pairs, numbers.values)
        self.constant = int(np.floor(numbers.constant * numbers.cost_scale))
        most = (cutoff - numbers.constant) * numbers.cost_scale
        self.model.add(cost <= int(np.floor(most + FLOAT_ERROR * (abs(most) + abs(self.constant)))))
        self.model.minimize(cost + self.constant)

    def run(self, gap: float, limit: float, seed: int) -> tuple[IntArray | None, float]:
        """Counts (K, G') of the best placement found, if any, and a lower bound of J; infinite where there is none."""
        solver, status = solved(self.model, limit, seed, gap)
        if status == "INFEASIBLE":
            return None, np.inf
        found = self.counting.counts(solver) if status in ("OPTIMAL", "FEASIBLE") else None
        bound = (float(solver.best_objective_bound) - self.constant) / self.integers.cost_scale
        return found, bound + self.integers.constant

"""Which requests can be placed at all: the constraints of a step as a CP-SAT model, and the most that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.solver.reduced import Reduced


class CountModel:
    """A CP-SAT model with one count per class of equal requests and rank, within slots and KV room."""

    def __init__(self, reduced: Reduced) -> None:
        from ortools.sat.python import cp_model

        self.reduced = reduced
        self.model = cp_model.CpModel()
        self.pairs = [(int(k), int(g)) for k, g in zip(*np.nonzero(reduced.limit), strict=True)]
        self.variables = {pair: self.model.new_int_var(0, int(reduced.limit[pair]), "") for pair in self.pairs}
        self.of_class: list[list[tuple[int, int]]] = [[] for _ in reduced.members]
        self.of_rank: list[list[tuple[int, int]]] = [[] for _ in reduced.ranks]
        for pair in self.pairs:
            self.of_class[pair[0]].append(pair)
            self.of_rank[pair[1]].append(pair)
        ones = np.ones(len(reduced.members), np.int64)
        for pairs, most in zip(self.of_class, reduced.multiplicity.tolist(), strict=True):
            self.model.add(self.total(pairs, ones) <= most)
        for pairs, slots, room in zip(self.of_rank, reduced.slots.tolist(), reduced.room.tolist(), strict=True):
            self.model.add(self.total(pairs, ones) <= slots)
            if np.isfinite(room):
                self.model.add(self.total(pairs, reduced.reserved) <= int(np.floor(room)))

    def total(self, pairs: list[tuple[int, int]], sizes: IntArray) -> Any:
        """Sum over the pairs of their counts times `sizes` (K,) of the class."""
        return weighted([self.variables[pair] for pair in pairs], sizes[[index for index, _ in pairs]])

    def number(self, chosen: NDArray[np.bool_]) -> Any:
        """How many requests of the chosen classes are placed."""
        return self.total(self.pairs, chosen.astype(np.int64))

    def hint(self, counts: IntArray) -> None:
        """Tell the solver to start its search from these counts (K, G')."""
        for pair, variable in self.variables.items():
            self.model.add_hint(variable, int(counts[pair]))

    def counts(self, solver: Any) -> IntArray:
        """The counts (K, G') that the solver found."""
        counts = np.zeros_like(self.reduced.limit)
        for pair, variable in self.variables.items():
            counts[pair] = solver.value(variable)
        return counts


def most_placed(reduced: Reduced, known: IntArray | None, limit: float, seed: int) -> tuple[IntArray, bool]:
    """Counts (K, G') with the most forced requests and then the most requests, and whether they are proven so.

    `known` are the counts of a placement to prefer, if it places as many.
    """
    is_forced = reduced.forced > 0
    slots = int(np.minimum(reduced.slots, reduced.limit.sum(axis=0)).sum())
    fitting = np.minimum(reduced.multiplicity, reduced.limit.sum(axis=1))
    wanted = min(slots, int(fitting[is_forced].sum())), min(slots, int(fitting.sum()))
    candidates = [greedy(reduced)] if known is None else [known, greedy(reduced)]
    numbers = [(int(counts[is_forced].sum()), int(counts.sum())) for counts in candidates]
    best = numbers.index(max(numbers))
    if numbers[best] == wanted:
        return candidates[best], True
    return _most_that_fit(reduced, candidates[best], limit, seed)


def greedy(reduced: Reduced) -> IntArray:
    """Forced requests first, then the largest, each to the least loaded rank that can take it; counts (K, G')."""
    counts = np.zeros_like(reduced.limit)
    slots, room = reduced.slots.copy(), reduced.room.copy()
    loads, added = reduced.loads @ reduced.prices, reduced.profiles @ reduced.prices
    for index in np.lexsort((-added, reduced.forced == 0)):
        for _ in range(reduced.multiplicity[index]):
            fits = (slots > 0) & (reduced.reserved[index] <= room)
            if not fits.any():
                break
            rank = int(np.argmin(np.where(fits, loads, np.inf)))
            counts[index, rank] += 1
            loads[rank] += added[index]
            slots[rank] -= 1
            room[rank] -= reduced.reserved[index]
    return counts


def _most_that_fit(reduced: Reduced, counts: IntArray, limit: float, seed: int) -> tuple[IntArray, bool]:
    """Where KV room limits the numbers: first the most forced requests, then the most requests beside them."""
    is_forced, proven = reduced.forced > 0, True
    everything = np.ones(len(is_forced), np.bool_)
    for chosen, kept in ((is_forced, ~everything), (everything, is_forced)):
        model = CountModel(reduced)
        model.model.add(model.number(kept) == int(counts[kept].sum()))
        model.model.add(model.number(chosen) >= int(counts[chosen].sum()))
        model.model.maximize(model.number(chosen))
        model.hint(counts)
        solver, status = solved(model.model, limit, seed)
        proven &= status == "OPTIMAL"
        if status in ("OPTIMAL", "FEASIBLE"):
            counts = model.counts(solver)
    return counts, proven


def weighted(variables: list[Any], factors: IntArray) -> Any:
    """Sum of factors times variables."""
    from ortools.sat.python import cp_model

    return cp_model.LinearExpr.weighted_sum(variables, [int(factor) for factor in factors])


def solved(model: Any, limit: float, seed: int, gap: float = 0.0) -> tuple[Any, str]:
    """The solver after its search, and its status: one worker, ended by deterministic time, never by the clock."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.linearization_level = 2
    # Generic cuts hardly move the bound of these models and took half of the time.
    solver.parameters.cut_level = 0
    solver.parameters.max_deterministic_time = limit
    solver.parameters.random_seed = seed
    solver.parameters.relative_gap_limit = gap
    status = solver.solve(model)
    return solver, str(solver.status_name(status))

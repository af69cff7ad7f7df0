"""The relaxation of a step's problem as a linear program for GLOP, with bounds that hold whatever its tolerances.

Every bound is recomputed from the dual values y of its program, clipped to their signs: over the box of the variables,
min c*x >= y*b + sum_j min(d_j * lower_j, d_j * upper_j), d = c - A'y, holds for any y (Neumaier and Shcherbina, 2004).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.solver.reduced import Reduced

LARGEST_SIZE = 150_000
"""Nonzeros above which the linear programs would cost more than they save."""
LEAST_PRICE = 0.02
"""Steps with a price below this share of the largest one are not tightened."""
SAFETY = 1e-9
"""Share of the size of J's terms by which a cut-off is relaxed, against rounding in floating point."""
LARGEST_SEPARATION = 100
"""How many violated cuts are added at a time."""
Cuts = set[tuple[int, int]]
"""(class, step) pairs: a request goes to one rank, so sum_g max(0, L_g + p_k - base)(h) * x_kg <= M_h - base_h."""


@dataclass
class Program:
    """Least costs*x, lower <= x <= upper, rows <= or = their right-hand sides; x = (M_h of each step, pair counts)."""

    costs: FloatArray
    lower: FloatArray
    upper: FloatArray
    rows: Rows
    pairs: tuple[IntArray, IntArray]

    def __post_init__(self) -> None:
        from ortools.linear_solver import pywraplp  # type: ignore[import-untyped,unused-ignore]

        self.solver: Any = pywraplp.Solver.CreateSolver("GLOP")
        bounds = zip(self.lower.tolist(), self.upper.tolist(), strict=True)
        self.variables: list[Any] = [self.solver.NumVar(least, most, "") for least, most in bounds]
        self.constraints: list[Any] = []
        self.solved = False

    @classmethod
    def of(
        cls, reduced: Reduced, ceiling: FloatArray, placed: int, forced: int, cutoff: float, cuts: Cuts
    ) -> Program | None:
        """The relaxation; None where it is too large."""
        classes, ranks = np.nonzero(reduced.limit)
        pairs = (classes.astype(np.int64), ranks.astype(np.int64))
        if len(pairs[0]) * (len(reduced.prices) + 4) > LARGEST_SIZE:
            return None
        rows = Rows(len(reduced.prices), pairs)
        _add_counts(rows, reduced, placed, forced)
        _add_loads(rows, reduced)
        for cut in sorted(cuts):
            _add_cut(rows, reduced, *cut)
        costs = np.concatenate([reduced.prices, -reduced.values[pairs[0]]])
        every = np.arange(len(costs))
        rows.add(every, costs, cutoff - reduced.constant)
        lower = np.concatenate([reduced.base, np.zeros(len(pairs[0]))])
        upper = np.concatenate([np.maximum(ceiling, reduced.base), reduced.limit[pairs].astype(np.float64)])
        program = cls(costs, lower, upper, rows, pairs)
        program.load()
        return program

    def load(self) -> None:
        """Give the solver the rows that it does not have yet."""
        done = len(self.constraints)
        for columns, values, right, equality in list(self.rows)[done:]:
            constraint = self.solver.Constraint(right if equality else -self.solver.infinity(), right)
            for column, value in zip(columns.tolist(), values.tolist(), strict=True):
                constraint.SetCoefficient(self.variables[column], value)
            self.constraints.append(constraint)
        self.row, self.column, self.value, self.right, self.is_equality = self.rows.arrays()

    def separate(self, reduced: Reduced, cuts: Cuts) -> bool:
        """Add the cuts that the solution at hand violates; False where there is none."""
        steps = len(reduced.prices)
        if not self.solved or steps == 0:
            return False
        values = np.array([variable.solution_value() for variable in self.variables])
        counts = np.zeros(reduced.limit.shape)
        counts[self.pairs] = values[steps:]
        excess = values[:steps] - reduced.base
        beyond = np.maximum(reduced.loads[None] + reduced.profiles[:, None] - reduced.base, 0.0)
        violation = np.einsum("kgh,kg->kh", beyond, counts) / reduced.multiplicity[:, None] - excess
        violation[:, reduced.prices < LEAST_PRICE * reduced.prices.max(initial=0.0)] = 0.0
        found = violation * reduced.prices
        chosen = np.flatnonzero(found.ravel() > max(1e-3 * found.max(), 1e-6 * float(np.abs(excess) @ reduced.prices)))
        chosen = chosen[np.argsort(-found.ravel()[chosen], kind="stable")][:LARGEST_SEPARATION]
        new = [(int(index // steps), int(index % steps)) for index in chosen]
        new = [cut for cut in new if cut not in cuts]
        for cut in new:
            _add_cut(self.rows, reduced, *cut)
        cuts.update(new)
        self.load()
        return bool(new)

    def least(self, costs: FloatArray) -> tuple[float, FloatArray]:
        """(a proven lower bound of costs*x, the reduced costs that go with it)."""
        objective = self.solver.Objective()
        objective.Clear()
        for index in np.flatnonzero(costs):
            objective.SetCoefficient(self.variables[index], float(costs[index]))
        objective.SetMinimization()
        self.solved = self.solver.Solve() == self.solver.OPTIMAL
        duals = np.zeros(len(self.right))
        if self.solved:
            duals[:] = [constraint.dual_value() for constraint in self.constraints]
            duals = np.where(self.is_equality, duals, np.minimum(duals, 0.0))
        reduced_costs = costs - np.bincount(self.column, self.value * duals[self.row], len(costs))
        at_best = np.minimum(reduced_costs * self.lower, reduced_costs * self.upper)
        return float(duals @ self.right + at_best.sum()), reduced_costs

    def at_bound(self, sign: float) -> NDArray[np.bool_]:
        """(H',) whether M_h of the solution at hand is its lower (`sign` 1) or upper bound."""
        steps = len(self.variables) - len(self.pairs[0])
        if not self.solved:
            return np.zeros(steps, np.bool_)
        values = np.array([variable.solution_value() for variable in self.variables[:steps]])
        bound = self.lower[:steps] if sign > 0 else self.upper[:steps]
        return np.asarray(sign * (values - bound) <= 1e-7 * np.maximum(1.0, np.abs(bound)))

    def affordable(self, reduced: Reduced, reduced_costs: FloatArray, budget: float) -> IntArray:
        """(K, G') limits of the counts where one more costs more than the `budget` between bound and cut-off."""
        limit = reduced.limit.copy()
        costs = reduced_costs[len(reduced.prices) :]
        dear = np.flatnonzero(costs > 0)
        most = np.floor(max(budget, 0.0) / costs[dear] + SAFETY)
        where = self.pairs[0][dear], self.pairs[1][dear]
        limit[where] = np.minimum(limit[where], np.minimum(most, limit[where])).astype(np.int64)
        return limit


class Rows:
    """Collects sparse rows over the steps and the pairs."""

    def __init__(self, steps: int, pairs: tuple[IntArray, IntArray]) -> None:
        self.steps = steps
        self.classes, self.ranks = pairs
        self.columns: list[IntArray] = []
        self.values: list[FloatArray] = []
        self.right: list[float] = []
        self.equality: list[bool] = []

    def add(self, columns: IntArray, values: FloatArray, right: float, *, equality: bool = False) -> None:
        """One row: sum of values times variables <= right."""
        self.columns.append(columns)
        self.values.append(values)
        self.right.append(right)
        self.equality.append(equality)

    def add_pairs(self, chosen: NDArray[np.bool_], right: float, *, equality: bool = False) -> None:
        """One row: how many are placed in the chosen pairs."""
        columns = np.flatnonzero(chosen) + self.steps
        self.add(columns, np.ones(len(columns)), right, equality=equality)

    def __iter__(self) -> Iterator[tuple[IntArray, FloatArray, float, bool]]:
        return zip(self.columns, self.values, self.right, self.equality, strict=True)

    def arrays(self) -> tuple[IntArray, IntArray, FloatArray, FloatArray, NDArray[np.bool_]]:
        """(row, column, value) of the nonzeros, the right-hand sides, and which rows are equalities."""
        row = np.repeat(np.arange(len(self.right)), [len(columns) for columns in self.columns])
        return (
            row,
            np.concatenate(self.columns),
            np.concatenate(self.values),
            np.array(self.right),
            np.array(self.equality),
        )


def _add_counts(rows: Rows, reduced: Reduced, placed: int, forced: int) -> None:
    all_forced = forced == reduced.forced.sum()
    for index, most in enumerate(reduced.multiplicity.tolist()):
        rows.add_pairs(rows.classes == index, float(most), equality=bool(all_forced and reduced.forced[index] > 0))
    if not all_forced:
        rows.add_pairs(reduced.forced[rows.classes] > 0, float(forced), equality=True)
    full = placed == reduced.slots.sum()
    for rank, most in enumerate(reduced.slots.tolist()):
        rows.add_pairs(rows.ranks == rank, float(most), equality=bool(full))
    if not full:
        rows.add_pairs(np.ones(len(rows.ranks), np.bool_), float(placed), equality=True)
    for rank in np.flatnonzero(np.isfinite(reduced.room)).tolist():
        here = np.flatnonzero(rows.ranks == rank)
        rows.add(here + rows.steps, reduced.reserved[rows.classes[here]].astype(np.float64), float(reduced.room[rank]))


def _add_loads(rows: Rows, reduced: Reduced) -> None:
    """M_h >= L_g(h) + what is placed, and M_h >= base_h + sum_k max(0, L_g(h) + p_k(h) - base_h) * x_kg.

    The second holds for every rank, and with a single slot it implies the first.
    """
    for rank in range(len(reduced.ranks)):
        here = np.flatnonzero(rows.ranks == rank)
        columns, placed = here + rows.steps, reduced.profiles[rows.classes[here]]
        for step in range(rows.steps):
            slack = reduced.base[step] - reduced.loads[rank, step]
            excess = np.maximum(placed[:, step] - slack, 0.0)
            if reduced.slots[rank] > 1:
                _add_load(rows, step, columns, placed[:, step], -reduced.loads[rank, step])
            if excess.any():
                _add_load(rows, step, columns, excess, -reduced.base[step])


def _add_load(rows: Rows, step: int, columns: IntArray, values: FloatArray, right: float) -> None:
    used = values != 0
    rows.add(np.append(columns[used], step), np.append(values[used], -1.0), float(right))


def _add_cut(rows: Rows, reduced: Reduced, index: int, step: int) -> None:
    """A request goes to one rank: sum_g max(0, L_g(h) + p_k(h) - base_h) * x_kg <= multiplicity_k * (M_h - base_h)."""
    here = np.flatnonzero(rows.classes == index)
    values = reduced.loads[rows.ranks[here], step] + reduced.profiles[index, step] - reduced.base[step]
    columns = here[values > 0] + rows.steps
    most = float(reduced.multiplicity[index])
    rows.add(np.append(columns, step), np.append(values[values > 0], -most), -most * float(reduced.base[step]))

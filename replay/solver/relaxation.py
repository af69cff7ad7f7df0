"""Tighter bounds of the largest loads and of the counts, from linear programs over a step's problem.

Optimality-based bound tightening: minimise and maximise each M_h over the relaxed placements that are good enough,
drop the pairs of request and rank that exceed what was found or cost too much, and go on from there. A higher base
tightens the rows M_h >= base_h + what exceeds the base, so that the rounds help each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lbal.analyzers.trace.trace import FloatArray
from lbal.replay.solver.linear_program import LEAST_PRICE, SAFETY, Cuts, Program
from lbal.replay.solver.reduced import Reduced

SEPARATIONS = 8
"""How often violated cuts are looked for in a round."""


@dataclass(frozen=True)
class Tightened:
    """What the relaxation proves of all placements with J at most the cut-off."""

    reduced: Reduced
    """With a higher base, and pairs that no such placement uses removed."""
    ceiling: FloatArray
    """(H',) upper bound of M_h."""
    bound: float
    """Lower bound of J."""
    cuts: Cuts
    """(class, step) pairs whose cut was violated along the way: sum_g beyond_kgh * x_kg <= multiplicity_k * z_h."""


def tighten(reduced: Reduced, placed: int, forced: int, cutoff: float, rounds: int) -> Tightened:
    """Bounds that hold for every placement of `placed` requests, `forced` forced ones among them, with J <= `cutoff`.

    `rounds` limits how often the bounds are used to tighten the next ones.
    """
    ceiling = _ceiling(reduced, placed, cutoff)
    margin = SAFETY * (float(reduced.prices @ np.abs(ceiling)) + abs(reduced.constant) + abs(cutoff))
    reduced = _within(reduced, ceiling)
    bound = float(reduced.constant + reduced.prices @ reduced.base - reduced.largest_value(placed))
    cuts: Cuts = set()
    for _ in range(rounds):
        program = Program.of(reduced, ceiling, placed, forced, cutoff + margin, cuts)
        if program is None:
            break
        before = float(reduced.prices @ (ceiling - reduced.base)), int((reduced.limit > 0).sum())
        root, reduced_costs = program.least(program.costs)
        for _ in range(SEPARATIONS):
            if not program.separate(reduced, cuts):
                break
            root, reduced_costs = program.least(program.costs)
        root += reduced.constant - margin
        bound = max(bound, root)
        if bound >= cutoff:
            break
        limit = program.affordable(reduced, reduced_costs, cutoff + margin - root)
        base, ceiling = _tightened_loads(program, reduced, ceiling)
        reduced = _within(reduced.with_limits(base, limit), ceiling)
        after = float(reduced.prices @ (ceiling - base)), int((reduced.limit > 0).sum())
        if after[0] > 0.8 * before[0] and after[1] > 0.8 * before[1]:
            break
    return Tightened(reduced, ceiling, min(bound, cutoff), cuts)


def _ceiling(reduced: Reduced, placed: int, cutoff: float) -> FloatArray:
    """(H',) the most that M_h can be in a placement with J at most `cutoff`, if every other M is at its base."""
    budget = cutoff - reduced.constant + reduced.largest_value(placed) - float(reduced.prices @ reduced.base)
    within_slots = np.maximum((reduced.loads + reduced.largest_added()).max(axis=0, initial=0.0), reduced.base)
    within_cutoff = reduced.base + max(budget, 0.0) / reduced.prices
    return np.asarray(np.minimum(within_slots, within_cutoff * (1 + SAFETY)))


def _within(reduced: Reduced, ceiling: FloatArray) -> Reduced:
    """Forbid the pairs of class and rank where one request alone lifts the rank above the ceiling."""
    slack = ceiling * (1 + SAFETY) + SAFETY - reduced.loads
    fits = (reduced.profiles[:, None, :] <= slack[None, :, :]).all(axis=2)
    return reduced.with_limits(reduced.base, np.where(fits, reduced.limit, 0))


def _tightened_loads(program: Program, reduced: Reduced, ceiling: FloatArray) -> tuple[FloatArray, FloatArray]:
    base, ceiling = reduced.base.copy(), ceiling.copy()
    worth = np.flatnonzero(reduced.prices >= LEAST_PRICE * reduced.prices.max(initial=0.0))
    for sign, bounds in ((1.0, base), (-1.0, ceiling)):
        open_steps = set(worth.tolist())
        for step in worth.tolist():
            if step not in open_steps:
                continue
            costs = np.zeros(len(program.costs))
            costs[step] = sign
            found = sign * program.least(costs)[0]
            tolerance = SAFETY * max(1.0, abs(found))
            bounds[step] = max(base[step], found - tolerance) if sign > 0 else min(ceiling[step], found + tolerance)
            # Where this solution has another M at its bound, that bound cannot be improved.
            open_steps -= set(np.flatnonzero(program.at_bound(sign)).tolist())
    return base, np.maximum(base, ceiling)

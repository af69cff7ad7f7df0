"""One step's placement, quickly: constructions, descent, and kicks while effort is left. Written for compilation.

Two constructions, each followed by a descent over `moves`: the least loaded rank takes what lowers J most, again and
again; and the smallest requests, largest first, each onto the least loaded rank. The better one is then kicked (2 to 4
of its requests are exchanged at random) and repaired, again and again; what is no worse is kept. Kicks are drawn from
a fixed seed, and effort is counted in evaluations, not in time: a problem has one answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal, jitable
from lbal.replay.solver.moves import best_instead, set_slack, swap_between_ranks, swap_pairs, swap_with_pool
from lbal.replay.solver.search import (
    EPSILON,
    LANES,
    NONE,
    OVERFLOW,
    WORK,
    Search,
    clear,
    exchange,
    find_tops,
    keep,
    objective,
    place,
    place_chosen,
    place_forced,
    place_if_possible,
    restore,
    touch,
)

ALIGNED, SMALLEST, BY_RESERVATION = range(3)
"""Ways to make a first placement; the last one is tried only where requests reserve KV room."""
EFFORT = 30_000.0
"""Evaluations, of some 10 ns each, after which there are no more kicks."""
EFFORT_PER_CHOICE = 100.0
"""Kicks may take so many evaluations per waiting request and per placed request but the first."""
KICK_WORK = 300.0
"""What a kick costs beside its evaluations."""
SWEEPS, KICK_TRIES = 60, 20
SEED = 12345
IMPROVEMENT = 1e-9
"""A change of J counts as an improvement if it is larger than this share of overflow * sum_h M_h."""


@jitable
def fast_placement(
    loads: FloatArray,
    profiles: FloatArray,
    weights: FloatArray,
    overflow: float,
    free: IntArray,
    room: FloatArray,
    reserved: IntArray,
    forced: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    requests: IntArray,
    ranks: IntArray,
    effort: float,
) -> int:
    """Write a placement with about the least J, as indices into the pool and ranks; returns how many are placed.

    The arguments are the fields of a `StepProblem`, room for the answer (as many as can be placed), and the
    evaluations after which improvement by kicks ends.
    """
    s, members, scaled = search_for(loads, profiles, weights, overflow, free, room, reserved, forced, allowed)
    count = len(members)
    slots = min(free.sum(), count)
    best = np.full(count, NONE, np.int64)
    best_forced, best_placed, least = -1, -1, np.inf
    for start in range(BY_RESERVATION + 1 if len(s.by_reserved) > 0 else BY_RESERVATION):
        clear(s, scaled, free, room)
        place_forced(s)
        if start == ALIGNED:
            start_aligned(s)
        elif start == SMALLEST:
            place_chosen(s, max(count - slots, 0), count)
        for request in s.by_reserved:
            place_if_possible(s, request)
        place_chosen(s, 0, count)
        find_tops(s)
        s.dirty[:] = True
        descend(s, False)
        placed_forced, placed, found = 0, 0, objective(s)
        for request in range(count):
            if s.rank_of[request] != NONE:
                placed += 1
                placed_forced += s.forced[request]
        if (placed_forced, placed) > (best_forced, best_placed) or (
            (placed_forced, placed) == (best_forced, best_placed) and found < least - s.numbers[EPSILON]
        ):
            best_forced, best_placed, least = placed_forced, placed, found
            keep(s, best)
    if best_placed > 0:
        restore(s, scaled, free, room, best)
        more = EFFORT_PER_CHOICE * (best_placed - 1) * count
        shake(s, best, least, scaled, free, room, min(effort, s.numbers[WORK] + more))
    at = 0
    for request in range(count):
        if best[request] != NONE:
            requests[at], ranks[at] = members[request], best[request]
            at += 1
    return at


@frugal
def start_aligned(s: Search) -> None:
    """The least loaded rank takes what lowers J most, again and again."""
    overflow = s.numbers[OVERFLOW]
    find_tops(s)
    while True:
        g = NONE
        for rank in range(len(s.free)):
            if s.free[rank] > 0 and (g == NONE or s.total[rank] < s.total[g]):
                g = rank
        if g == NONE:
            break
        relief = set_slack(s, g)
        _, b = best_instead(s, NONE, -overflow * relief, np.inf, s.room[g])
        if b == NONE:
            s.free[g] = -s.free[g]
            continue
        place(s, g, b)
        touch(s, g)
    for rank in range(len(s.free)):
        s.free[rank] = abs(s.free[rank])


@frugal
def descend(s: Search, by_pairs: bool) -> None:
    """Make moves that lower J until none is left, or `SWEEPS` times over all; `by_pairs` also swaps pairs."""
    for _sweep in range(SWEEPS):
        improved = swap_with_pool(s)
        improved |= swap_between_ranks(s)
        if not improved and by_pairs:
            improved = swap_pairs(s)
        if not improved:
            break
    s.dirty[:] = False


@frugal
def shake(
    s: Search, best: IntArray, least: float, scaled: FloatArray, free: IntArray, room: FloatArray, effort: float
) -> None:
    """Improve the best placement by kicks and descents until the effort is spent; `best` holds the result."""
    state, epsilon = SEED, s.numbers[EPSILON]
    while s.numbers[WORK] < effort:
        state = kick(s, state)
        s.numbers[WORK] += KICK_WORK
        descend(s, False)
        found = objective(s)
        if found < least - epsilon:
            s.dirty[:] = True
            descend(s, False)
            least = objective(s)
            keep(s, best)
        elif found > least + epsilon:
            restore(s, scaled, free, room, best)
    restore(s, scaled, free, room, best)
    s.dirty[:] = True
    descend(s, True)
    place_chosen(s, 0, len(best))
    keep(s, best)


@frugal
def kick(s: Search, state: int) -> int:
    """Exchange 2 to 4 placed requests for others, at random, whatever it costs. Returns the state of the draws."""
    count = len(s.value)
    state = next_draw(state)
    target, done = 2 + (state >> 8) % 3, 0
    for _try in range(KICK_TRIES * target):
        state = next_draw(state)
        a = (state >> 8) % count
        state = next_draw(state)
        b = (state >> 8) % count
        g, other = s.rank_of[a], s.rank_of[b]
        if g == NONE or other == g or s.forced[a] != s.forced[b]:
            continue
        if s.reserved[b] - s.reserved[a] > s.room[g]:
            continue
        if other != NONE and s.reserved[a] - s.reserved[b] > s.room[other]:
            continue
        exchange(s, a, b)
        done += 1
        if done == target:
            break
    return state


@frugal
def next_draw(state: int) -> int:
    """The next number of a linear congruential generator modulo 2**31; its upper bits are good enough here."""
    return (state * 1103515245 + 12345) % 2147483648


@jitable
def search_for(
    loads: FloatArray,
    profiles: FloatArray,
    weights: FloatArray,
    overflow: float,
    free: IntArray,
    room: FloatArray,
    reserved: IntArray,
    forced: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
) -> tuple[Search, IntArray, FloatArray]:
    """Set up the search. Returns its state, its requests' places in the pool (R,), and the weighted loads (G, W)."""
    steps = 0
    for h in range(len(weights)):
        steps += weights[h] > 0
    ranks, width = len(free), max(LANES, (steps + LANES - 1) // LANES * LANES)
    scaled, count = np.zeros((ranks, width)), 0
    for request in range(len(allowed)):
        count += allowed[request]
    unsorted, members = np.zeros((count, width)), np.zeros(count, np.int64)
    value = np.zeros(count)
    at = 0
    for request in range(len(allowed)):
        if allowed[request]:
            members[at] = request
            at += 1
    column = 0
    for h in range(len(weights)):
        if weights[h] > 0:
            for g in range(ranks):
                scaled[g, column] = loads[g, h] * weights[h]
            for r in range(count):
                unsorted[r, column] = profiles[members[r], h] * weights[h]
                value[r] += unsorted[r, column]
            column += 1
    order = np.argsort(-value, kind="mergesort")
    held = np.zeros(count)
    for index in range(count):
        held[index] = reserved[members[order[index]]]
    by_reserved = held.argsort(kind="mergesort")[: count if held.any() else 0]
    search = Search(
        unsorted[order],
        value[order],
        held,
        np.zeros(count, np.bool_),
        by_reserved,
        np.full(count, NONE, np.int64),
        np.zeros((ranks, width)),
        np.zeros(ranks),
        np.zeros(ranks, np.int64),
        np.zeros(ranks, np.bool_),
        np.zeros(ranks),
        np.zeros((width, 3)),
        np.zeros((width, 3), np.int64),
        np.zeros(ranks),
        np.zeros(width),
        np.zeros(3),
    )
    for index in range(count):
        search.forced[index] = forced[members[order[index]]]
    search.numbers[OVERFLOW] = overflow
    scale = 0.0
    for h in range(width):
        peak = 0.0
        for g in range(ranks):
            peak = max(peak, scaled[g, h])
        scale += overflow * peak
    search.numbers[EPSILON] = IMPROVEMENT * (scale + (value.max() if count else 0.0))
    return search, members[order], scaled

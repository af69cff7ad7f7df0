"""The moves of the local search, and what they change.

With loads and profiles multiplied by the weight of their step, J = overflow * sum_h M_h - sum_g sum_h L_g(h), where
M_h is the largest load. A rank that takes b instead of a changes J by

    overflow * (sum_h max(0, p_b(h) - slack_h) - relief) - (value_b - value_a)

with slack_h = p_a(h) + (largest load of the other ranks - its own), relief = sum_h (M_h - largest load of the others),
and value = sum_h p(h): convex in what it takes. Since the first sum is at least value_b - sum_h slack_h, only
requests whose value lies in an interval can improve J; they are kept sorted by value.
"""

from __future__ import annotations

import numpy as np

from lbal.replay.policy.compilable import frugal
from lbal.replay.solver.search import (
    EPSILON,
    LANES,
    NONE,
    OVERFLOW,
    WORK,
    Search,
    add,
    exchange,
    find_drops,
    place,
    touch,
)

MOST_PAIRS = 4_000
"""Pairs of waiting requests that are tried for a pair of placed ones."""
WORK_OF_PAIRS = 500_000
"""Evaluations after which no more pairs are tried."""


@frugal
def set_slack(s: Search, g: int) -> float:
    """Write to `s.slack` how much load rank g can take per step before it exceeds the others. Returns the relief."""
    relief = 0.0
    for h in range(s.loads.shape[1]):
        rest = s.top[h, 1] if s.at[h, 0] == g else s.top[h, 0]
        relief += s.top[h, 0] - rest
        s.slack[h] = rest - s.loads[g, h]
    return relief


@frugal
def widen(s: Search, request: int) -> None:
    """Add to `s.slack` what a request that leaves the rank sets free."""
    for h in range(len(s.slack)):
        s.slack[h] += s.profiles[request, h]


@frugal
def excess(s: Search, request: int, most: float) -> float:
    """sum_h max(0, p(h) - slack_h). Stops once it exceeds `most`: then the result is just some number above it."""
    found = 0.0
    for h in range(0, len(s.slack), LANES):
        first = max(s.profiles[request, h] - s.slack[h], 0.0)
        second = max(s.profiles[request, h + 1] - s.slack[h + 1], 0.0)
        third = max(s.profiles[request, h + 2] - s.slack[h + 2], 0.0)
        fourth = max(s.profiles[request, h + 3] - s.slack[h + 3], 0.0)
        found += (first + second) + (third + fourth)
        if found > most:
            break
    return found


@frugal
def excess_of_two(s: Search, one: int, other: int, most: float) -> float:
    """The `excess` of two requests that come together."""
    found = 0.0
    for h in range(0, len(s.slack), LANES):
        first = max(s.profiles[one, h] + s.profiles[other, h] - s.slack[h], 0.0)
        second = max(s.profiles[one, h + 1] + s.profiles[other, h + 1] - s.slack[h + 1], 0.0)
        third = max(s.profiles[one, h + 2] + s.profiles[other, h + 2] - s.slack[h + 2], 0.0)
        fourth = max(s.profiles[one, h + 3] + s.profiles[other, h + 3] - s.slack[h + 3], 0.0)
        found += (first + second) + (third + fourth)
        if found > most:
            break
    return found


@frugal
def first_up_to(s: Search, most: float) -> int:
    """Index of the first request, in order of falling value, whose value is at most `most`."""
    low, high = 0, len(s.value)
    while low < high:
        middle = (low + high) // 2
        if s.value[middle] > most:
            low = middle + 1
        else:
            high = middle
    return low


@frugal
def total_slack(s: Search) -> float:
    """sum_h slack_h."""
    total = 0.0
    for h in range(len(s.slack)):
        total += s.slack[h]
    return total


@frugal
def largest_value(s: Search, base: float, best: float) -> float:
    """The largest value v with base + overflow*max(0, v - total slack) - v <= best, or infinity."""
    overflow = s.numbers[OVERFLOW]
    if overflow <= 1.0:
        return np.inf
    return float((best - base + overflow * total_slack(s)) / (overflow - 1.0) + s.numbers[EPSILON])


@frugal
def best_instead(s: Search, a: int, base: float, best: float, room: float) -> tuple[float, int]:
    """Find the waiting request b that is best to take in place of a (-1: in a free slot).

    It has the least base + overflow*excess - value below `best`. Returns that number and b; `best` and -1 for none.
    """
    overflow = s.numbers[OVERFLOW]
    found = NONE
    must = a != NONE and s.forced[a]
    first = first_up_to(s, largest_value(s, base, best))
    for b in range(first, len(s.value)):
        left = best - base + s.value[b]
        if left <= 0.0:
            break
        s.numbers[WORK] += 1.0
        if s.rank_of[b] != NONE or s.reserved[b] > room or (must and not s.forced[b]):
            continue
        beyond = excess(s, b, left / overflow if overflow > 0 else np.inf)
        delta = base + overflow * beyond - s.value[b]
        if delta < best:
            best, found = delta, b
    return best, found


@frugal
def swap_with_pool(s: Search) -> bool:
    """Swap every placed request for the best waiting one, where that lowers J. Returns whether it did."""
    overflow, epsilon = s.numbers[OVERFLOW], s.numbers[EPSILON]
    improved = False
    for a in range(len(s.value)):
        g = s.rank_of[a]
        if g == NONE or not s.dirty[g]:
            continue
        relief = set_slack(s, g)
        widen(s, a)
        _, b = best_instead(s, a, s.value[a] - overflow * relief, -epsilon, s.room[g] + s.reserved[a])
        if b != NONE:
            exchange(s, a, b)
            improved = True
    return improved


@frugal
def change_of_two(s: Search, g: int, other: int, a: int, b: int, most: float) -> float:
    """Change of sum_h M_h if rank g gives request a to the rank `other` and gets b for it (b = -1: gets nothing).

    Stops early once it exceeds `most`: then the result is just some number above it.
    """
    found = 0.0
    stop = most + s.drop[g] + s.drop[other]
    risen = 0.0
    s.numbers[WORK] += len(s.slack) / LANES
    for h in range(len(s.slack)):
        moved = s.profiles[a, h]
        if b != NONE:
            moved -= s.profiles[b, h]
        largest = max(s.loads[g, h] - moved, s.loads[other, h] + moved)
        if largest >= s.top[h, 0]:
            risen += largest - s.top[h, 0]
            if risen > stop:
                return float(risen)
        elif s.at[h, 0] == g or s.at[h, 0] == other:
            rest = s.top[h, 1]
            if s.at[h, 1] == g or s.at[h, 1] == other:
                rest = s.top[h, 2]
            found += max(rest, largest) - s.top[h, 0]
    return float(found + risen)


@frugal
def swap_between_ranks(s: Search) -> bool:
    """Move requests off the ranks with the largest loads, for smaller ones of other ranks or into their free slots.

    Returns whether any move lowered J.
    """
    epsilon = s.numbers[EPSILON] / max(s.numbers[OVERFLOW], 1.0)
    improved = False
    find_drops(s)
    for a in range(len(s.value)):
        g = s.rank_of[a]
        if g == NONE or s.drop[g] <= epsilon:
            continue
        best, found, to = -epsilon, NONE, NONE
        for b in range(a + 1, len(s.value)):
            other = s.rank_of[b]
            if other in (NONE, g):
                continue
            if s.reserved[b] - s.reserved[a] > s.room[g] or s.reserved[a] - s.reserved[b] > s.room[other]:
                continue
            delta = change_of_two(s, g, other, a, b, best)
            if delta < best:
                best, found = delta, b
        for other in range(len(s.free)):
            if s.free[other] > 0 and other != g and s.reserved[a] <= s.room[other]:
                delta = change_of_two(s, g, other, a, NONE, best)
                if delta < best:
                    best, to, found = delta, other, NONE
        if to != NONE:
            add(s, g, a, -1.0)
            place(s, to, a)
            touch(s, g)
            touch(s, to)
        elif found != NONE:
            exchange(s, a, found)
        else:
            continue
        improved = True
        find_drops(s)
    return improved


@frugal
def swap_pairs(s: Search) -> bool:
    """Swap two requests of a rank for two waiting ones, where that lowers J. Returns whether it did."""
    overflow, epsilon = s.numbers[OVERFLOW], s.numbers[EPSILON]
    improved = False
    count = len(s.value)
    for a in range(count):
        g = s.rank_of[a]
        if g == NONE or not s.dirty[g]:
            continue
        for other in range(a + 1, count):
            if s.rank_of[other] != g or s.forced[a] or s.forced[other]:
                continue
            relief = set_slack(s, g)
            widen(s, a)
            widen(s, other)
            room = s.room[g] + s.reserved[a] + s.reserved[other]
            base = s.value[a] + s.value[other] - overflow * relief
            best, one, two = -epsilon, NONE, NONE
            if s.numbers[WORK] > WORK_OF_PAIRS:
                return improved
            looked = 0
            for b in range(count):
                if base - 2 * s.value[b] >= best or looked > MOST_PAIRS:
                    break
                if s.rank_of[b] != NONE or s.reserved[b] > room:
                    continue
                most = largest_value(s, base, best) - s.value[b]
                for c in range(max(b + 1, first_up_to(s, most)), count):
                    left = best - base + s.value[b] + s.value[c]
                    if left <= 0.0:
                        break
                    if s.rank_of[c] != NONE or s.reserved[b] + s.reserved[c] > room:
                        continue
                    looked += 1
                    s.numbers[WORK] += 1.0
                    beyond = excess_of_two(s, b, c, left / overflow if overflow > 0 else np.inf)
                    delta = base + overflow * beyond - s.value[b] - s.value[c]
                    if delta < best:
                        best, one, two = delta, b, c
            if one != NONE:
                exchange(s, a, one)
                exchange(s, other, two)
                improved = True
                break
    return improved

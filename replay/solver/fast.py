"""One step's placement, quickly: constructions and a local search. Written for compilation.

With loads and profiles multiplied by the weight of their step, J = overflow * sum_h M_h - sum_g sum_h L_g(h), where
M_h is the largest load. A rank that takes b instead of a changes J by

    overflow * (sum_h max(0, p_b(h) - slack_h) - relief) - (value_b - value_a)

with slack_h = p_a(h) + (largest load of the other ranks - its own), relief = sum_h (M_h - largest load of the others),
and value = sum_h p(h): convex in what it takes. Since the first sum is at least value_b - sum_h slack_h, only
requests whose value lies in an interval can improve J; they are kept sorted by value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace import FloatArray, IntArray
from lbal.replay.jitable import frugal, jitable

LANES = 4
"""Steps of the window that are evaluated at a time; the window is filled up with steps without load."""
NONE = -1
IMPROVEMENT = 1e-9
"""Of overflow * sum_h M_h: the least that counts as one."""


class Search(NamedTuple):
    """A placement in the making; R requests sorted by value (largest first), G ranks, W steps of the window."""

    profiles: FloatArray
    """(R, W) load of each request, weighted."""
    value: FloatArray
    """(R,) its sum."""
    reserved: FloatArray
    forced: NDArray[np.bool_]
    age_order: IntArray
    """(R,) requests, oldest first."""
    rank_of: IntArray
    """(R,) its rank, -1 while it waits."""
    loads: FloatArray
    """(G, W) load of each rank, weighted, with the placed requests."""
    total: FloatArray
    """(G,) its sum."""
    free: IntArray
    room: FloatArray
    top: FloatArray
    """(W, 3) the three largest loads."""
    at: IntArray
    """(W, 3) their ranks."""
    slack: FloatArray
    """(W,) scratch."""
    numbers: FloatArray
    """overflow, epsilon."""


@frugal
def find_top(s: Search, h: int) -> None:
    """Find the three largest loads of step h."""
    first, second, third = -1.0, -1.0, -1.0
    i, j, k = NONE, NONE, NONE
    for g in range(len(s.free)):
        load = s.loads[g, h]
        if load > third:
            if load > second:
                third, k = second, j
                if load > first:
                    second, j = first, i
                    first, i = load, g
                else:
                    second, j = load, g
            else:
                third, k = load, g
    s.top[h, 0], s.top[h, 1], s.top[h, 2] = first, max(second, 0.0), max(third, 0.0)
    s.at[h, 0], s.at[h, 1], s.at[h, 2] = i, j, k


@frugal
def find_tops(s: Search) -> None:
    for h in range(s.loads.shape[1]):
        find_top(s, h)


@frugal
def add(s: Search, g: int, request: int, sign: float) -> None:
    """Give a rank a request (sign 1) or take one from it (-1), without its tops."""
    for h in range(s.loads.shape[1]):
        s.loads[g, h] += sign * s.profiles[request, h]
    s.total[g] += sign * s.value[request]
    s.room[g] -= sign * s.reserved[request]
    s.free[g] -= 1 if sign > 0 else -1


@frugal
def touch(s: Search, g: int) -> None:
    """Bring the largest loads up to date after a rank's load changed."""
    for h in range(s.loads.shape[1]):
        if s.at[h, 0] == g or s.at[h, 1] == g or s.at[h, 2] == g or s.loads[g, h] > s.top[h, 2]:
            find_top(s, h)


@frugal
def place(s: Search, g: int, request: int) -> None:
    s.rank_of[request] = g
    add(s, g, request, 1.0)


@frugal
def set_slack(s: Search, g: int) -> float:
    """Write what every step leaves to a rank below the largest load of the others; returns the relief."""
    relief = 0.0
    for h in range(s.loads.shape[1]):
        rest = s.top[h, 1] if s.at[h, 0] == g else s.top[h, 0]
        relief += s.top[h, 0] - rest
        s.slack[h] = rest - s.loads[g, h]
    return relief


@frugal
def widen(s: Search, request: int) -> None:
    """What a request leaves free on the rank when it goes."""
    for h in range(len(s.slack)):
        s.slack[h] += s.profiles[request, h]


@frugal
def excess(s: Search, request: int, most: float) -> float:
    """sum_h max(0, p(h) - slack_h); where it is above `most`, some number above it."""
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
    """The first request with a value of at most `most`."""
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
    total = 0.0
    for h in range(len(s.slack)):
        total += s.slack[h]
    return total


@frugal
def largest_value(s: Search, base: float, best: float) -> float:
    """The largest value v with base + overflow*max(0, v - total slack) - v <= best, or infinity."""
    overflow = s.numbers[0]
    if overflow <= 1.0:
        return np.inf
    return (best - base + overflow * total_slack(s)) / (overflow - 1.0) + s.numbers[1]


@frugal
def best_instead(s: Search, a: int, base: float, best: float, room: float) -> tuple[float, int]:
    """The waiting request b with the least base + overflow*excess - value below `best`; `a` goes (or is -1)."""
    overflow = s.numbers[0]
    found = NONE
    must = a != NONE and s.forced[a]
    for b in range(first_up_to(s, largest_value(s, base, best)), len(s.value)):
        left = best - base + s.value[b]
        if left <= 0.0:
            break
        if s.rank_of[b] != NONE or s.reserved[b] > room or (must and not s.forced[b]):
            continue
        beyond = excess(s, b, left / overflow if overflow > 0 else np.inf)
        delta = base + overflow * beyond - s.value[b]
        if delta < best:
            best, found = delta, b
    return best, found


@frugal
def swap_with_pool(s: Search) -> bool:
    """Each placed request for the best waiting one."""
    overflow, epsilon = s.numbers[0], s.numbers[1]
    improved = False
    for a in range(len(s.value)):
        g = s.rank_of[a]
        if g == NONE:
            continue
        relief = set_slack(s, g)
        widen(s, a)
        best, b = best_instead(s, a, s.value[a] - overflow * relief, -epsilon, s.room[g] + s.reserved[a])
        if b != NONE:
            exchange(s, a, b)
            improved = True
    return improved


@frugal
def exchange(s: Search, a: int, b: int) -> None:
    """A placed request for another, placed or waiting."""
    g, other = s.rank_of[a], s.rank_of[b]
    add(s, g, a, -1.0)
    if other != NONE:
        add(s, other, b, -1.0)
        place(s, other, a)
    else:
        s.rank_of[a] = NONE
    place(s, g, b)
    touch(s, g)
    if other != NONE:
        touch(s, other)


@frugal
def change_of_two(s: Search, g: int, other: int, a: int, b: int, most: float) -> float:
    """Change of overflow * sum_h M_h where rank g gives a to `other` for b (-1 for nothing); cut above `most`."""
    overflow = s.numbers[0]
    found, relief = 0.0, 0.0
    for h in range(s.loads.shape[1]):
        moved = s.profiles[a, h] - (s.profiles[b, h] if b != NONE else 0.0)
        rest = s.top[h, 0]
        if s.at[h, 0] == g or s.at[h, 0] == other:
            rest = s.top[h, 1]
            if s.at[h, 1] == g or s.at[h, 1] == other:
                rest = s.top[h, 2]
        largest = max(rest, max(s.loads[g, h] - moved, s.loads[other, h] + moved))
        found += overflow * (largest - s.top[h, 0])
    return found


@frugal
def swap_between_ranks(s: Search) -> bool:
    """Requests of the ranks with the largest loads for those of other ranks, or into their free slots."""
    epsilon = s.numbers[1]
    improved = False
    for a in range(len(s.value)):
        g = s.rank_of[a]
        if g == NONE or set_slack(s, g) * s.numbers[0] <= epsilon:
            continue
        best, found, to = -epsilon, NONE, NONE
        for b in range(len(s.value)):
            other = s.rank_of[b]
            if other == NONE or other == g:
                continue
            if s.reserved[b] - s.reserved[a] > s.room[g] or s.reserved[a] - s.reserved[b] > s.room[other]:
                continue
            delta = change_of_two(s, g, other, a, b, best)
            if delta < best:
                best, found = delta, b
        for other in range(len(s.free)):
            if other != g and s.free[other] > 0 and s.reserved[a] <= s.room[other]:
                delta = change_of_two(s, g, other, a, NONE, best)
                if delta < best:
                    best, to, found = delta, other, NONE
        if to != NONE:
            add(s, g, a, -1.0)
            place(s, to, a)
            touch(s, g)
            touch(s, to)
            improved = True
        elif found != NONE:
            exchange(s, a, found)
            improved = True
    return improved


@frugal
def swap_pairs(s: Search) -> bool:
    """Two requests of a rank for two waiting ones."""
    overflow, epsilon = s.numbers[0], s.numbers[1]
    improved = False
    count = len(s.value)
    for a in range(count):
        g = s.rank_of[a]
        if g == NONE:
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
            for b in range(count):
                if base - 2 * s.value[b] >= best:
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


@frugal
def rotate(s: Search) -> bool:
    """a moves to the place of b on another rank, b leaves, and a waiting request takes the place of a."""
    overflow, epsilon = s.numbers[0], s.numbers[1]
    improved = False
    count = len(s.value)
    for a in range(count):
        for b in range(count):
            g, other = s.rank_of[a], s.rank_of[b]
            if g == NONE:
                break
            if other == NONE or other == g:
                continue
            if s.reserved[a] - s.reserved[b] > s.room[other]:
                continue
            # After the exchange of a and b, rank g has b, and gives it away for c: base counts the exchange.
            change = change_of_two(s, g, other, a, b, 0.0)
            if change > overflow * 0.5 * s.value[0]:
                continue
            add(s, g, a, -1.0)
            add(s, other, b, -1.0)
            place(s, other, a)
            touch(s, other)
            touch(s, g)
            relief = set_slack(s, g)
            base = change + s.value[b] - overflow * relief
            best, c = best_instead(s, b, base, -epsilon, s.room[g])
            s.rank_of[b] = NONE
            if c != NONE:
                place(s, g, c)
                touch(s, g)
                improved = True
            else:
                add(s, other, a, -1.0)
                place(s, other, b)
                place(s, g, a)
                touch(s, other)
                touch(s, g)
    return improved


@frugal
def objective(s: Search) -> float:
    found = 0.0
    for h in range(s.loads.shape[1]):
        found += s.numbers[0] * s.top[h, 0]
    for g in range(len(s.free)):
        found -= s.total[g]
    return found


@frugal
def lightest(s: Search, request: int) -> int:
    """The rank with the least load that the request fits on."""
    best = NONE
    for g in range(len(s.free)):
        if s.free[g] > 0 and s.reserved[request] <= s.room[g] and (best == NONE or s.total[g] < s.total[best]):
            best = g
    return best


@frugal
def clear(s: Search, loads: FloatArray, free: IntArray, room: FloatArray) -> None:
    """Back to the ranks without placed requests."""
    for g in range(len(s.free)):
        s.free[g] = free[g]
        s.room[g] = room[g]
        s.total[g] = 0.0
        for h in range(s.loads.shape[1]):
            s.loads[g, h] = loads[g, h]
            s.total[g] += loads[g, h]
    for request in range(len(s.value)):
        s.rank_of[request] = NONE
    find_tops(s)


@frugal
def place_chosen(s: Search, first: int, last: int) -> int:
    """Requests first..last-1 in order of value, longest first, each on the least loaded rank. Returns how many fit."""
    placed = 0
    for request in range(first, last):
        if s.rank_of[request] == NONE:
            g = lightest(s, request)
            if g != NONE:
                place(s, g, request)
                placed += 1
    return placed


@frugal
def place_forced(s: Search) -> None:
    for request in range(len(s.value)):
        if s.forced[request]:
            g = lightest(s, request)
            if g != NONE:
                place(s, g, request)


@frugal
def free_slots_of(s: Search) -> int:
    total = 0
    for g in range(len(s.free)):
        total += s.free[g]
    return total


@frugal
def start_with_oldest(s: Search, slots: int) -> None:
    """The oldest as many as there are slots, longest first, onto the least loaded ranks."""
    marked = 0
    for index in range(len(s.age_order)):
        request = s.age_order[index]
        if s.rank_of[request] == NONE:
            if marked < slots:
                marked += 1
            else:
                s.rank_of[request] = NONE - 1
    place_chosen(s, 0, len(s.value))
    for request in range(len(s.value)):
        if s.rank_of[request] < NONE:
            s.rank_of[request] = NONE


@frugal
def start_aligned(s: Search) -> None:
    """The least loaded rank takes what lowers J most, again and again."""
    overflow = s.numbers[0]
    find_tops(s)
    closed = 0
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
            closed += 1
            continue
        place(s, g, b)
        touch(s, g)
    for rank in range(len(s.free)):
        s.free[rank] = abs(s.free[rank])


@frugal
def descend(s: Search, level: int) -> None:
    find_tops(s)
    for _sweep in range(60):
        improved = swap_with_pool(s)
        improved |= swap_between_ranks(s)
        if not improved and level > 0:
            improved = swap_pairs(s)
        if not improved and level > 1:
            improved = rotate(s)
        if not improved:
            break


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
    """The search over the allowed requests, which of the pool they are, and the ranks' loads, weighted."""
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
    age_order = np.zeros(count, np.int64)
    for index in range(count):
        age_order[order[index]] = index
    search = Search(
        unsorted[order],
        value[order],
        np.zeros(count),
        np.zeros(count, np.bool_),
        age_order,
        np.full(count, NONE, np.int64),
        np.zeros((ranks, width)),
        np.zeros(ranks),
        np.zeros(ranks, np.int64),
        np.zeros(ranks),
        np.zeros((width, 3)),
        np.zeros((width, 3), np.int64),
        np.zeros(width),
        np.zeros(2),
    )
    for index in range(count):
        search.reserved[index] = reserved[members[order[index]]]
        search.forced[index] = forced[members[order[index]]]
    search.numbers[0] = overflow
    scale = 0.0
    for h in range(width):
        peak = 0.0
        for g in range(ranks):
            peak = max(peak, scaled[g, h])
        scale += overflow * peak
    search.numbers[1] = IMPROVEMENT * (scale + (value.max() if count else 0.0))
    return search, members[order], scaled


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
    starts: int,
    level: int,
) -> int:
    s, members, scaled = search_for(loads, profiles, weights, overflow, free, room, reserved, forced, allowed)
    count = len(members)
    slots = min(free.sum(), count)
    best = np.full(count, NONE, np.int64)
    best_forced, best_placed, least = -1, -1, np.inf
    for start in range(4):
        if (starts >> start) & 1 == 0:
            continue
        clear(s, scaled, free, room)
        place_forced(s)
        left = min(free_slots_of(s), count)
        if start == 0:
            start_with_oldest(s, left)
        elif start == 1:
            start_aligned(s)
        elif start == 2:
            place_chosen(s, max(count - slots, 0), count)
        place_chosen(s, 0, count)
        descend(s, level)
        placed_forced, placed, found = 0, 0, objective(s)
        for request in range(count):
            if s.rank_of[request] != NONE:
                placed += 1
                placed_forced += s.forced[request]
        if (placed_forced, placed) > (best_forced, best_placed) or (
            (placed_forced, placed) == (best_forced, best_placed) and found < least - s.numbers[1]
        ):
            best_forced, best_placed, least = placed_forced, placed, found
            best[:] = s.rank_of
    at = 0
    for request in range(count):
        if best[request] != NONE:
            requests[at], ranks[at] = members[request], best[request]
            at += 1
    return at

"""Local search for a step's placement that brings every rank to a common level. Written for compilation.

A rank whose load is x above the level T costs

    phi(x) = OVERSHOOT * x^2 above, x^2 below,

since the largest load is waited for by all ranks and a low one by none. With a window, x is followed until the rank can
be corrected: it grows with the rank's requests, a request that ends takes its load along less the smallest that could
take its slot, and the costs of the steps that follow count less by `discount`, and once x is below 0 by the chance that
nothing has ended yet. The cost of a placement is the sum over ranks, less the price of leaving each admitted request in
the pool (the longer it has waited, the higher). Since the sum separates, a change concerns one rank or two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal, jitable

OVERSHOOT = 16.0
NEAREST = 3
"""Waiting requests on each side of the size that would fit best that are tried, and of the oldest ones."""
MOST_SWEEPS = 30
LEAST_GAIN = 1e-9
"""Relative to the square of the mean size: what counts as an improvement."""
NONE = -1
LEVEL, DISCOUNT, GAIN = range(3)
"""Indices into `Levels.numbers`: the common level, the discount per step, the least gain that counts."""


class Levels(NamedTuple):
    """A placement that is being improved: R waiting requests, G ranks, a window of H steps after the next one."""

    size: FloatArray
    """(R,) load of each request."""
    price: FloatArray
    """(R,) cost of leaving the request in the pool."""
    reserved: IntArray
    """(R,) KV tokens that admitting it reserves."""
    held: NDArray[np.bool_]
    """(R,) whether the search must leave the request where it is."""
    growth: FloatArray
    """(R,) by how much it grows per step."""
    ends: FloatArray
    """(R, H) probability that it ends with step h."""
    shed: FloatArray
    """(R, H) load that it is expected to take along with step h, less the smallest size."""
    order: IntArray
    """(R,) requests by size, smallest first."""
    rank_of: IntArray
    """(R,) the rank of each request, -1 while it waits."""
    load: FloatArray
    """(G,) load of each rank, the placed requests included."""
    rank_growth: FloatArray
    """(G,) by how much it grows per step."""
    rank_ends: FloatArray
    """(G, H) expected number of requests that end with step h."""
    rank_shed: FloatArray
    """(G, H) load that they are expected to take along, less the smallest size each."""
    cost: FloatArray
    """(G,) cost of each rank as it is now (`cost_with`)."""
    free: IntArray
    """(G,) free slots."""
    room: FloatArray
    """(G,) KV tokens that can still be reserved."""
    numbers: FloatArray
    """The three numbers at `LEVEL`, `DISCOUNT` and `GAIN`."""


@jitable
def search(s: Levels, slots_are_plenty: bool) -> None:
    """Improve the placement until no exchange does: singles first, pairs where no single one is left."""
    for rank in range(len(s.load)):
        s.cost[rank] = cost_with(s, rank, NONE, NONE, NONE, NONE)
    placed = np.zeros(len(s.size), np.int64)
    count = 0
    for request in range(len(s.size)):
        if s.rank_of[request] >= 0 and not s.held[request]:
            placed[count] = request
            count += 1
    for _ in range(MOST_SWEEPS):
        improved = False
        for index in range(count):
            improved |= improve_single(s, placed[:count], index, slots_are_plenty)
        if not improved:
            for index in range(count):
                improved |= improve_pairs(s, placed[:count], index)
        if not improved:
            break


@jitable
def start(s: Levels, count: int) -> None:
    """Admit `count` requests: the rank that is furthest below the level per free slot takes what fits it best."""
    closed = s.free <= 0
    while count > 0:
        rank, wanted = NONE, 0.0
        for candidate in range(len(s.load)):
            if not closed[candidate]:
                share = (s.numbers[LEVEL] - s.load[candidate]) / s.free[candidate]
                if rank == NONE or share > wanted:
                    rank, wanted = candidate, share
        if rank == NONE:
            return
        best = NONE
        for request in range(len(s.size)):
            if s.rank_of[request] >= 0 or s.held[request] or s.reserved[request] > s.room[rank]:
                continue
            if best == NONE or abs(s.size[request] - wanted) < abs(s.size[best] - wanted):
                best = request
        if best == NONE:
            closed[rank] = True
            continue
        put(s, best, rank)
        closed[rank] = s.free[rank] <= 0
        count -= 1


@jitable
def start_with_all(s: Levels) -> None:
    """Admit every request that fits: largest first, each to the rank with the lowest load."""
    for place in range(len(s.size) - 1, -1, -1):
        request, best = s.order[place], NONE
        if s.held[request]:
            continue
        for rank in range(len(s.load)):
            if (
                s.free[rank] > 0
                and s.reserved[request] <= s.room[rank]
                and (best == NONE or s.load[rank] < s.load[best])
            ):
                best = rank
        if best != NONE:
            put(s, request, best)


@frugal
def phi(x: float) -> float:
    """Cost of a rank that is x above the level."""
    return OVERSHOOT * x * x if x > 0 else x * x


@frugal
def cost_with(s: Levels, rank: int, out: int, out2: int, into: int, into2: int) -> float:
    """Cost of a rank if up to two of its requests leave and up to two waiting ones come (-1 for none)."""
    x = s.load[rank] - s.numbers[LEVEL]
    if out >= 0:
        x -= s.size[out]
    if out2 >= 0:
        x -= s.size[out2]
    if into >= 0:
        x += s.size[into]
    if into2 >= 0:
        x += s.size[into2]
    total, steps = phi(x), s.rank_ends.shape[1]
    if steps == 0:
        return total
    growth, weight = s.rank_growth[rank], 1.0
    growth += (s.growth[into] if into >= 0 else 0.0) - (s.growth[out] if out >= 0 else 0.0)
    growth += (s.growth[into2] if into2 >= 0 else 0.0) - (s.growth[out2] if out2 >= 0 else 0.0)
    for h in range(steps):
        ending, shed = s.rank_ends[rank, h], s.rank_shed[rank, h]
        if out >= 0:
            ending, shed = ending - s.ends[out, h], shed - s.shed[out, h]
        if out2 >= 0:
            ending, shed = ending - s.ends[out2, h], shed - s.shed[out2, h]
        if into >= 0:
            ending, shed = ending + s.ends[into, h], shed + s.shed[into, h]
        if into2 >= 0:
            ending, shed = ending + s.ends[into2, h], shed + s.shed[into2, h]
        x += growth - shed
        weight *= s.numbers[DISCOUNT]
        if x <= 0:
            weight *= 1.0 - min(ending, 1.0)
            if weight <= 1e-3:
                break
        total += weight * phi(x)
    return total


@frugal
def put(s: Levels, request: int, rank: int) -> None:
    """Place a waiting request."""
    s.rank_of[request] = rank
    shift(s, request, rank, 1.0)


@frugal
def take(s: Levels, request: int) -> None:
    """Let a placed request wait again."""
    shift(s, request, s.rank_of[request], -1.0)
    s.rank_of[request] = NONE


@frugal
def shift(s: Levels, request: int, rank: int, sign: float) -> None:
    """Add a request to a rank's sums (1), or take it out (-1)."""
    s.load[rank] += sign * s.size[request]
    s.room[rank] -= sign * s.reserved[request]
    s.free[rank] -= np.int64(sign)
    s.rank_growth[rank] += sign * s.growth[request]
    for h in range(s.rank_ends.shape[1]):
        s.rank_ends[rank, h] += sign * s.ends[request, h]
        s.rank_shed[rank, h] += sign * s.shed[request, h]


@frugal
def settle(s: Levels, rank: int) -> None:
    """Note a rank's cost after a change."""
    s.cost[rank] = cost_with(s, rank, NONE, NONE, NONE, NONE)


@frugal
def improve_single(s: Levels, placed: IntArray, index: int, slots_are_plenty: bool) -> bool:
    """Make the best exchange of one placed request with another, with a waiting one, or its best move."""
    request = placed[index]
    rank = s.rank_of[request]
    best, partner, target = -s.numbers[GAIN], NONE, NONE
    for other in placed:
        there = s.rank_of[other]
        if there == rank:
            continue
        change = s.reserved[other] - s.reserved[request]
        if change > s.room[rank] or -change > s.room[there]:
            continue
        gain = cost_with(s, rank, request, NONE, other, NONE) - s.cost[rank]
        if gain - s.cost[there] < best:
            gain += cost_with(s, there, other, NONE, request, NONE) - s.cost[there]
            if gain < best:
                best, partner = gain, other
    if slots_are_plenty:
        for there in range(len(s.load)):
            if there == rank or s.free[there] <= 0 or s.reserved[request] > s.room[there]:
                continue
            gain = cost_with(s, rank, request, NONE, NONE, NONE) - s.cost[rank]
            gain += cost_with(s, there, NONE, NONE, request, NONE) - s.cost[there]
            if gain < best:
                best, partner, target = gain, NONE, there
    else:
        waiting, gain = best_waiting(s, request, rank)
        if waiting != NONE and gain < best:
            best, partner = gain, waiting
    if target != NONE:
        take(s, request)
        put(s, request, target)
        settle(s, target)
    elif partner != NONE:
        there = s.rank_of[partner]
        take(s, request)
        if there >= 0:
            take(s, partner)
            put(s, request, there)
            settle(s, there)
        else:
            placed[index] = partner
        put(s, partner, rank)
    else:
        return False
    settle(s, rank)
    return True


@frugal
def best_waiting(s: Levels, request: int, rank: int) -> tuple[int, float]:
    """The waiting request that had better have the slot of a placed one, and what the exchange costs; -1 for none."""
    best, partner = np.inf, NONE
    wanted = s.size[request] - (s.load[rank] - s.numbers[LEVEL])
    middle = places_up_to(s, wanted)
    for way in (-1, 1):
        place, tried = middle - 1 if way < 0 else middle, 0
        while 0 <= place < len(s.order) and tried < NEAREST:
            other = s.order[place]
            place += way
            if s.rank_of[other] >= 0 or s.held[other] or s.reserved[other] - s.reserved[request] > s.room[rank]:
                continue
            tried += 1
            gain = cost_with(s, rank, request, NONE, other, NONE) - s.cost[rank] + s.price[request] - s.price[other]
            if gain < best:
                best, partner = gain, other
    tried = 0
    for other in range(len(s.size)):
        if s.price[other] == 0 or tried == NEAREST:
            break
        if s.rank_of[other] >= 0 or s.held[other] or s.reserved[other] - s.reserved[request] > s.room[rank]:
            continue
        tried += 1
        gain = cost_with(s, rank, request, NONE, other, NONE) - s.cost[rank] + s.price[request] - s.price[other]
        if gain < best:
            best, partner = gain, other
    return partner, best


@frugal
def places_up_to(s: Levels, size: float) -> int:
    """How many requests are at most that large."""
    low, high = 0, len(s.order)
    while low < high:
        middle = (low + high) // 2
        if s.size[s.order[middle]] <= size:
            low = middle + 1
        else:
            high = middle
    return low


@frugal
def improve_pairs(s: Levels, placed: IntArray, index: int) -> bool:
    """Exchange a placed request and another one on its rank for the two waiting ones that suit it best."""
    improved = False
    for second in range(index + 1, len(placed)):
        first, other = placed[index], placed[second]
        rank = s.rank_of[first]
        if s.rank_of[other] != rank:
            continue
        room = s.room[rank] + s.reserved[first] + s.reserved[other]
        wanted = s.size[first] + s.size[other] - (s.load[rank] - s.numbers[LEVEL])
        best, one, two = -s.numbers[GAIN], NONE, NONE
        low, high = 0, len(s.order) - 1
        while low < high:
            small, large = s.order[low], s.order[high]
            if s.rank_of[small] >= 0 or s.held[small]:
                low += 1
                continue
            if s.rank_of[large] >= 0 or s.held[large]:
                high -= 1
                continue
            if s.reserved[small] + s.reserved[large] <= room:
                gain = cost_with(s, rank, first, other, small, large) - s.cost[rank]
                gain += s.price[first] + s.price[other] - s.price[small] - s.price[large]
                if gain < best:
                    best, one, two = gain, small, large
            if s.size[small] + s.size[large] > wanted:
                high -= 1
            else:
                low += 1
        if one != NONE:
            take(s, first)
            take(s, other)
            put(s, one, rank)
            put(s, two, rank)
            placed[index], placed[second] = one, two
            settle(s, rank)
            improved = True
    return improved

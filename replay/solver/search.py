"""A placement in the making, and the bookkeeping that keeps a change of it cheap: the local search stands on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal

OVERFLOW, EPSILON, WORK = range(3)
"""Places in `Search.numbers`: the weight of the largest load, the least improvement, and evaluations so far."""
LANES = 4
"""Steps of the window that are evaluated at a time; the window is filled up with steps without load."""
NONE = -1


class Search(NamedTuple):
    """A placement in the making; R requests sorted by value (largest first), G ranks, W steps of the window."""

    profiles: FloatArray
    """(R, W) load of each request, weighted."""
    value: FloatArray
    """(R,) its sum."""
    reserved: FloatArray
    forced: NDArray[np.bool_]
    by_reserved: IntArray
    """(R,) requests, those that reserve least first; empty where none reserves anything."""
    rank_of: IntArray
    """(R,) its rank, -1 while it waits."""
    loads: FloatArray
    """(G, W) load of each rank, weighted, with the placed requests."""
    total: FloatArray
    """(G,) its sum."""
    free: IntArray
    dirty: NDArray[np.bool_]
    """(G,) whether it changed since no better request was found for it."""
    room: FloatArray
    top: FloatArray
    """(W, 3) the three largest loads."""
    at: IntArray
    """(W, 3) their ranks."""
    drop: FloatArray
    """(G,) how far the largest loads could fall at most, summed, if those of the rank did."""
    slack: FloatArray
    """(W,) scratch."""
    numbers: FloatArray
    """`OVERFLOW`, `EPSILON`, `WORK`."""


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
    """Find them for every step."""
    for h in range(s.loads.shape[1]):
        find_top(s, h)


@frugal
def add(s: Search, g: int, request: int, sign: float) -> None:
    """Give a rank a request (sign 1) or take one from it (-1), without its tops."""
    for h in range(s.loads.shape[1]):
        s.loads[g, h] += sign * s.profiles[request, h]
    s.total[g] += sign * s.value[request]
    s.dirty[g] = True
    s.room[g] -= sign * s.reserved[request]
    s.free[g] -= 1 if sign > 0 else -1


@frugal
def touch(s: Search, g: int) -> None:
    """Bring the largest loads up to date after a rank's load changed."""
    s.numbers[WORK] += len(s.slack)
    for h in range(s.loads.shape[1]):
        if s.at[h, 0] == g or s.at[h, 1] == g or s.at[h, 2] == g or s.loads[g, h] > s.top[h, 2]:
            find_top(s, h)


@frugal
def place(s: Search, g: int, request: int) -> None:
    """Give a rank a request for good, without its tops."""
    s.rank_of[request] = g
    add(s, g, request, 1.0)


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
def find_drops(s: Search) -> None:
    """Bring `drop` up to date: sum over the steps in which a rank is largest of its lead on the third largest."""
    s.drop[:] = 0.0
    for h in range(len(s.slack)):
        s.drop[s.at[h, 0]] += s.top[h, 0] - s.top[h, 2]


@frugal
def objective(s: Search) -> float:
    """J of the placement."""
    found = 0.0
    for h in range(s.loads.shape[1]):
        found += s.numbers[OVERFLOW] * s.top[h, 0]
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
def restore(s: Search, scaled: FloatArray, free: IntArray, room: FloatArray, best: IntArray) -> None:
    """Back to a placement that was kept."""
    clear(s, scaled, free, room)
    for request in range(len(best)):
        if best[request] != NONE:
            place(s, best[request], request)
    find_tops(s)
    s.dirty[:] = False
    s.numbers[WORK] += len(s.free) * len(s.slack) / LANES


@frugal
def keep(s: Search, best: IntArray) -> None:
    """Note the placement in `best`, (R,)."""
    for request in range(len(best)):
        best[request] = s.rank_of[request]


@frugal
def place_if_possible(s: Search, request: int) -> None:
    """Place a request, unless it is, on the least loaded rank that it fits on, if there is one."""
    if s.rank_of[request] == NONE:
        g = lightest(s, request)
        if g != NONE:
            place(s, g, request)


@frugal
def place_chosen(s: Search, first: int, last: int) -> None:
    """Requests first..last-1 in order of value, largest first, as far as they fit."""
    for request in range(first, last):
        place_if_possible(s, request)


@frugal
def place_forced(s: Search) -> None:
    """The forced requests, those that reserve least first, as far as they fit."""
    for request in s.by_reserved:
        if s.forced[request]:
            place_if_possible(s, request)
    for request in range(len(s.value)):
        if s.forced[request]:
            place_if_possible(s, request)

"""The state of the local search: a placement that is being improved, and the sums that make a change of it cheap.

The functions here change a placement and keep those sums true; `moves` decides which change to make.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal

OVERFLOW, EPSILON, WORK = range(3)
"""Indices into `Search.numbers`: the weight of the largest load, the least change of J that counts as an improvement,
and the number of evaluations so far."""
LANES = 4
"""The moves evaluate so many steps of the window at a time; steps without load pad the window to a multiple."""
NONE = -1


class Search(NamedTuple):
    """A placement that is being improved: R requests by value (largest first), G ranks, W steps of the window."""

    profiles: FloatArray
    """(R, W) load of each request, weighted."""
    value: FloatArray
    """(R,) the load of each request, weighted and summed over the window."""
    reserved: FloatArray
    """(R,) KV tokens that placing the request reserves."""
    forced: NDArray[np.bool_]
    """(R,) whether the request must be placed before others."""
    by_reserved: IntArray
    """(R,) indices of the requests, those that reserve least first; empty where no request reserves anything."""
    rank_of: IntArray
    """(R,) the rank of each request, -1 while it waits."""
    loads: FloatArray
    """(G, W) load of each rank, weighted, the placed requests included."""
    total: FloatArray
    """(G,) the load of each rank, weighted and summed over the window."""
    free: IntArray
    """(G,) free slots."""
    dirty: NDArray[np.bool_]
    """(G,) whether the rank changed since the search last tried all its moves."""
    room: FloatArray
    """(G,) KV tokens that can still be reserved."""
    top: FloatArray
    """(W, 3) the three largest loads of each step."""
    at: IntArray
    """(W, 3) the ranks that have them."""
    drop: FloatArray
    """(G,) the most that the sum of the largest loads can fall by a move between this rank and another."""
    slack: FloatArray
    """(W,) written by `moves.set_slack` for the rank that is looked at."""
    numbers: FloatArray
    """The three numbers at `OVERFLOW`, `EPSILON` and `WORK`."""


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
    """Find the three largest loads of every step."""
    for h in range(s.loads.shape[1]):
        find_top(s, h)


@frugal
def add(s: Search, g: int, request: int, sign: float) -> None:
    """Give rank g a request (sign 1) or take it away (sign -1). The caller brings the largest loads up to date."""
    for h in range(s.loads.shape[1]):
        s.loads[g, h] += sign * s.profiles[request, h]
    s.total[g] += sign * s.value[request]
    s.dirty[g] = True
    s.room[g] -= sign * s.reserved[request]
    s.free[g] -= 1 if sign > 0 else -1


@frugal
def touch(s: Search, g: int) -> None:
    """Bring the largest loads of every step up to date after the load of rank g changed."""
    s.numbers[WORK] += len(s.slack)
    for h in range(s.loads.shape[1]):
        if s.at[h, 0] == g or s.at[h, 1] == g or s.at[h, 2] == g or s.loads[g, h] > s.top[h, 2]:
            find_top(s, h)


@frugal
def place(s: Search, g: int, request: int) -> None:
    """Place a request on rank g. The caller brings the largest loads up to date, by `touch` or `find_tops`."""
    s.rank_of[request] = g
    add(s, g, request, 1.0)


@frugal
def exchange(s: Search, a: int, b: int) -> None:
    """Swap the placed request a with b: b takes its rank, and a takes the rank of b, or waits if b waited."""
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
    """Bring `drop` up to date: a rank's lead on the third largest load, summed over the steps where it is largest."""
    s.drop[:] = 0.0
    for h in range(len(s.slack)):
        s.drop[s.at[h, 0]] += s.top[h, 0] - s.top[h, 2]


@frugal
def objective(s: Search) -> float:
    """J of the placement."""
    cost = 0.0
    for h in range(s.loads.shape[1]):
        cost += s.numbers[OVERFLOW] * s.top[h, 0]
    for g in range(len(s.free)):
        cost -= s.total[g]
    return cost


@frugal
def lightest(s: Search, request: int) -> int:
    """The least loaded rank with a free slot and KV room for the request; -1 if there is none."""
    best = NONE
    for g in range(len(s.free)):
        if s.free[g] > 0 and s.reserved[request] <= s.room[g] and (best == NONE or s.total[g] < s.total[best]):
            best = g
    return best


@frugal
def clear(s: Search, loads: FloatArray, free: IntArray, room: FloatArray) -> None:
    """Take all requests off the ranks, whose own loads, slots and room are given."""
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
    """Go back to the placement that `keep` wrote to `best`."""
    clear(s, scaled, free, room)
    for request in range(len(best)):
        if best[request] != NONE:
            place(s, best[request], request)
    find_tops(s)
    s.dirty[:] = False
    s.numbers[WORK] += len(s.free) * len(s.slack) / LANES


@frugal
def keep(s: Search, best: IntArray) -> None:
    """Write the rank of every request to `best`, shape (R,)."""
    for request in range(len(best)):
        best[request] = s.rank_of[request]


@frugal
def place_if_possible(s: Search, request: int) -> None:
    """Place a waiting request on the least loaded rank with room; do nothing if it is placed or fits nowhere."""
    if s.rank_of[request] == NONE:
        g = lightest(s, request)
        if g != NONE:
            place(s, g, request)


@frugal
def place_chosen(s: Search, first: int, last: int) -> None:
    """Place the requests first to last - 1, those of the largest value first, as far as they fit."""
    for request in range(first, last):
        place_if_possible(s, request)


@frugal
def place_forced(s: Search) -> None:
    """Place the forced requests, those that reserve least first, as far as they fit."""
    for request in s.by_reserved:
        if s.forced[request]:
            place_if_possible(s, request)
    for request in range(len(s.value)):
        if s.forced[request]:
            place_if_possible(s, request)

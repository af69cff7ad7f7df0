"""The expected overflow that a request adds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal, jitable
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.predictors import age_of, completed_longer_than, load_after, survival
from lbal.replay.policy.view import View

POINTS = 5
GRAIN = 1024.0
"""Projected loads are rounded to 1/1024 token, so that their sums do not depend on the order of the requests."""


@dataclass(frozen=True)
class FastPhi(Selector):
    """Each request to the rank where it is expected to exceed the largest load least, weighted by its survival.

    The cost of a rank is sum_h S(h)*max(s + h - m_g(h), 0). S(h) is the empirical survival of the output lengths
    completed so far, m_g(h) = max L(h) - L_g(h) the margins of expected loads: an active request of age t counts with
    P(alive after h more steps | t) * (s + t + h). The sum is over five h only: the 10, 30, 50, 70 and 90% quantiles of
    the completed lengths (h = 0 alone before there are any). Left open by the note and chosen here: requests are placed
    in pool order, those that fit nowhere wait; the points are not weighted by their distances; of equal costs the
    lowest load wins, then the lowest rank; requests placed earlier in the same step count from age 0.
    """

    name: ClassVar[str] = "fast-phi"
    looks_at: ClassVar[str] = "KV tokens, prompts and completed lengths"
    source: ClassVar[str] = "J. Li, public note"
    learns_lengths: ClassVar[bool] = True

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """Request by request in pool order. O(longest length + 5*(active + U*G)), U requests placed."""
        points = quantile_points(view)
        loads = np.zeros((view.dp_size, len(points)))
        project(view, points, loads)
        kv_tokens, free_kv = view.kv_tokens.copy(), view.free_kv.copy()
        free = view.max_num_seqs - view.num_running
        slots, chosen = free.sum(), 0
        for index in range(size):
            if chosen == slots:
                break
            request = pool[index]
            rank = cheapest_rank(view, request, points, loads, kv_tokens, free, free_kv)
            if rank < 0:
                continue
            requests[chosen], ranks[chosen] = request, rank
            chosen += 1
            free[rank] -= 1
            free_kv[rank] -= view.reserved_tokens[request]
            kv_tokens[rank] += view.prompt_tokens[request]
            for point in range(len(points)):
                loads[rank, point] += expected_load(view, request, 0, points[point])
        return chosen


@jitable
def quantile_points(view: View) -> IntArray:
    """(5,) the smallest h with n(h) <= 90, 70, 50, 30 and 10% of the completed requests; all 0 before there are any."""
    points = np.zeros(POINTS, np.int64)
    completed = completed_longer_than(view, 0)
    h = 0
    for point in range(POINTS):
        while 10 * completed_longer_than(view, h) > (9 - 2 * point) * completed:
            h += 1
        points[point] = h
    return points if completed > 0 else points[:1]


@frugal
def expected_load(view: View, request: int, age: int, later: int) -> float:
    """P(alive after `later` more steps) * (its load by then), to a 1024th of a token."""
    load = survival(view, age, later) * load_after(view, request, age + later)
    return float(np.floor(load * GRAIN + 0.5) / GRAIN)


@frugal
def project(view: View, points: IntArray, loads: FloatArray) -> None:
    """Write the expected KV tokens of the active requests after so many more steps to `loads`, (G, points) zeros."""
    for request in view.active:
        if request >= 0:
            age, rank = age_of(view, request), view.rank[request]
            for point in range(len(points)):
                loads[rank, point] += expected_load(view, request, age, points[point])


@jitable
def cheapest_rank(
    view: View,
    request: int,
    points: IntArray,
    loads: FloatArray,
    kv_tokens: FloatArray,
    free: IntArray,
    free_kv: FloatArray,
) -> int:
    """The rank with the lowest cost of those that can take the request, -1 for none."""
    excess = np.zeros(len(points))
    for point in range(len(points)):
        excess[point] = load_after(view, request, points[point]) - loads[:, point].max()
    best, least = -1, np.inf
    for rank in range(view.dp_size):
        if free[rank] == 0 or view.reserved_tokens[request] > free_kv[rank]:
            continue
        cost = 0.0
        for point in range(len(points)):
            cost += survival(view, 0, points[point]) * max(excess[point] + loads[rank, point], 0.0)
        if cost < least or (cost == least and kv_tokens[rank] < kv_tokens[best]):
            best, least = rank, cost
    return best

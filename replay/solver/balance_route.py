"""BalanceRoute (arXiv 2605.06113): the step's decision that `br-0` and `br-h` share.

With projected loads L_g(h) and margins m_g(h) = max_g L_g(h) - L_g(h), h = 0..H, placing requests with D prompt tokens
in all on rank g is worth

    F_g(D) = alpha * sum_h d_h * D - beta * sum_h d_h * max(D - m_g(h), 0),   d_h = gamma^h,

for H = 0, alpha = 1, beta = G what it takes off the imbalance G*max L - sum L. F_g is concave in D and largest at one
of the margins, the target. So the best set is one of two: that with the largest D up to the target, or that with the
smallest above it.

What the paper's summary leaves open, and what is done here:

- Slots are plentiful while the free ones are at least as many as the waiting requests: all will be admitted.
- Plentiful: of ranks with equally many free slots, the one with the lowest load, then the lowest number.
- Scarce: the queue is ordered by load (lowest first), then by free slots (most first), then by number. A rank takes at
  most as many as it has slots, and comes back into the queue while it has some: every free slot is filled.
- The load of a rank in these orders is sum_h d_h * L_g(h); for H = 0, its KV tokens.
- Of sets of equal F: the smaller D, and for single requests the one that has waited longest in the pool.
- Candidates are the first so many waiting requests in pool order; where a KV capacity leaves a rank no room for any of
  them, as many more as it takes to find one that fits.
- Subsets are searched depth first, largest prompts first, over at most 4,000 nodes: all subsets of one or two out of 64
  candidates, and of three out of 28.
"""

from __future__ import annotations

import math

import numpy as np

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal, jitable
from lbal.replay.policy.predictors import add_growing, steps_inside
from lbal.replay.policy.view import View

MOST_NODES = 4000
"""The search for one rank's subset of requests ends after so many nodes."""


@jitable
def balance_route(
    view: View,
    pool: IntArray,
    size: int,
    requests: IntArray,
    ranks: IntArray,
    loads: FloatArray,
    weights: FloatArray,
    alpha: float,
    beta: float,
    candidates: int,
) -> int:
    """Do what `Selector.place` must: write requests and their ranks, and return how many.

    Adds the projected load of every placed request to `loads`, (G, H+1).
    """
    free, free_kv = view.max_num_seqs - view.num_running, view.free_kv.copy()
    queue = discounted(loads, weights)
    peaks = largest_loads(loads)
    window, fitting, chosen = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, np.int64)
    taken, waiting, placed = 0, 0, 0
    while placed < size:
        while taken < size and waiting < candidates:
            window[waiting] = pool[taken]
            waiting, taken = waiting + 1, taken + 1
        slots = free.sum()
        if slots == 0:
            break
        plentiful = slots >= size - placed
        rank = next_rank(free, queue, plentiful)
        found = fill_fitting(view, window, waiting, free_kv[rank], fitting)
        while found == 0 and taken < size:
            window[waiting] = pool[taken]
            waiting, taken = waiting + 1, taken + 1
            found = fill_fitting(view, window[waiting - 1 :], 1, free_kv[rank], fitting)
        if found == 0:
            free[rank] = 0
            continue
        margins = peaks - loads[rank]
        room = 1 if plentiful else int(free[rank])
        count = best_set(view, fitting, found, room, free_kv[rank], margins, weights, alpha, beta, chosen)
        for index in range(count):
            request = chosen[index]
            requests[placed], ranks[placed] = request, rank
            placed += 1
            free[rank] -= 1
            free_kv[rank] -= view.reserved_tokens[request]
            waiting = without(window, waiting, request)
            add_projection(view, request, 0, loads[rank])
        queue[rank] = 0.0
        for h in range(len(weights)):
            queue[rank] += weights[h] * loads[rank, h]
            peaks[h] = max(peaks[h], loads[rank, h])
    return placed


@frugal
def add_projection(view: View, request: int, age: int, row: FloatArray) -> None:
    """Add a request's projected load to its rank's, `row[h]`, h = 0..H: it grows, and stays up to h = chat."""
    stop = len(row)
    if stop > 1:
        stop = int(steps_inside(view, request, age, stop - 1)) + 1
    add_growing(view, request, age, row[:stop])


@jitable
def discounted(loads: FloatArray, weights: FloatArray) -> FloatArray:
    """(G,) sum_h d_h * L_g(h)."""
    total = np.zeros(len(loads))
    for rank in range(len(loads)):
        for h in range(len(weights)):
            total[rank] += weights[h] * loads[rank, h]
    return total


@jitable
def largest_loads(loads: FloatArray) -> FloatArray:
    """(H+1,) max_g L_g(h)."""
    peaks = np.zeros(loads.shape[1])
    for rank in range(len(loads)):
        for h in range(len(peaks)):
            peaks[h] = max(peaks[h], loads[rank, h])
    return peaks


@frugal
def next_rank(free: IntArray, queue: FloatArray, plentiful: bool) -> int:
    """The rank whose turn it is by the orders above, among those with a free slot; -1 if there is none."""
    best = -1
    for rank in range(len(free)):
        if free[rank] == 0:
            continue
        if best < 0:
            best = rank
        elif plentiful and free[rank] != free[best]:
            best = rank if free[rank] > free[best] else best
        elif queue[rank] < queue[best] or (queue[rank] == queue[best] and free[rank] > free[best]):
            best = rank
    return best


@frugal
def fill_fitting(view: View, window: IntArray, waiting: int, free_kv: float, fitting: IntArray) -> int:
    """Write the requests of the window that fit into a rank's KV room, in order; returns how many they are."""
    found = 0
    for index in range(waiting):
        if view.reserved_tokens[window[index]] <= free_kv:
            fitting[found] = window[index]
            found += 1
    return found


@frugal
def without(window: IntArray, waiting: int, request: int) -> int:
    """Take a request out of the window; returns how many are left."""
    kept = 0
    for index in range(waiting):
        if window[index] != request:
            window[kept] = window[index]
            kept += 1
    return kept


@frugal
def value(tokens: float, margins: FloatArray, weights: FloatArray, alpha: float, beta: float) -> float:
    """F_g(D)."""
    gain, loss = 0.0, 0.0
    for h in range(len(margins)):
        gain += weights[h] * tokens
        loss += weights[h] * max(tokens - margins[h], 0.0)
    return alpha * gain - beta * loss


@jitable
def target_tokens(margins: FloatArray, weights: FloatArray, alpha: float, beta: float) -> float:
    """The smallest D at which F_g is largest: where beta * sum(d_h : m_g(h) <= D) reaches alpha * sum_h d_h."""
    enough = 0.0
    for h in range(len(weights)):
        enough += weights[h]
    enough *= alpha
    order = margins.argsort(kind="mergesort")
    reached = 0.0
    for h in order:
        reached += weights[h]
        if beta * reached >= enough:
            return float(margins[h])
    return math.inf


@jitable
def best_set(
    view: View,
    fitting: IntArray,
    found: int,
    slots: int,
    free_kv: float,
    margins: FloatArray,
    weights: FloatArray,
    alpha: float,
    beta: float,
    chosen: IntArray,
) -> int:
    """Write the set with the largest F, of 1 to `slots` requests, or of 1 if no F is positive. Returns its size."""
    target = target_tokens(margins, weights, alpha, beta)
    if slots > 1 and found > 1 and target > 0:
        below, above = np.zeros(found, np.int64), np.zeros(found, np.int64)
        below_tokens, below_size, above_tokens, above_size = closest_sets(
            view, fitting[:found], min(slots, found), free_kv, target, below, above
        )
        below_value = value(below_tokens, margins, weights, alpha, beta)
        above_value = value(above_tokens, margins, weights, alpha, beta) if above_size > 0 else -math.inf
        if max(below_value, above_value) > 0:
            if below_value >= above_value:
                chosen[:below_size] = below[:below_size]
                return int(below_size)
            chosen[:above_size] = above[:above_size]
            return int(above_size)
    chosen[0] = best_single(view, fitting, found, target, margins, weights, alpha, beta)
    return 1


@frugal
def best_single(
    view: View,
    fitting: IntArray,
    found: int,
    target: float,
    margins: FloatArray,
    weights: FloatArray,
    alpha: float,
    beta: float,
) -> int:
    """The request with the largest F."""
    below, above = -1, -1
    for index in range(found):
        request = fitting[index]
        tokens = view.prompt_tokens[request]
        if tokens <= target:
            if below < 0 or tokens > view.prompt_tokens[below]:
                below = request
        elif above < 0 or tokens < view.prompt_tokens[above]:
            above = request
    if below < 0 or above < 0:
        return max(below, above)
    below_value = value(float(view.prompt_tokens[below]), margins, weights, alpha, beta)
    above_value = value(float(view.prompt_tokens[above]), margins, weights, alpha, beta)
    return below if below_value >= above_value else above


@jitable
def closest_sets(
    view: View, fitting: IntArray, slots: int, free_kv: float, target: float, below: IntArray, above: IntArray
) -> tuple[float, int, float, int]:
    """The sets of at most `slots` requests with the largest sum of prompts up to the target, and the smallest above.

    Returns (sum, size) of each. Depth first over the requests, largest prompt first, cut where what is left cannot
    exceed the largest sum found so far, and after `MOST_NODES` nodes.
    """
    count = len(fitting)
    order = fitting[(-view.prompt_tokens[fitting]).argsort(kind="mergesort")]
    sums = np.zeros(count + 1)
    for index in range(count):
        sums[index + 1] = sums[index] + view.prompt_tokens[order[index]]
    path = np.zeros(slots, np.int64)
    below_tokens, below_size, above_tokens, above_size = 0.0, 0, math.inf, 0
    depth, index, tokens, room, nodes = 0, 0, 0.0, free_kv, 0
    while nodes < MOST_NODES and below_tokens < target:
        reach = sums[min(count, index + slots - depth)] - sums[index]
        if index == count or depth == slots or tokens + reach <= below_tokens:
            if depth == 0:
                break
            depth -= 1
            index = path[depth]
            tokens -= view.prompt_tokens[order[index]]
            room += view.reserved_tokens[order[index]]
            index += 1
            continue
        nodes += 1
        request = order[index]
        if view.reserved_tokens[request] <= room:
            path[depth] = index
            reached = tokens + view.prompt_tokens[request]
            if reached <= target:
                depth, tokens, room = depth + 1, reached, room - view.reserved_tokens[request]
                if reached > below_tokens:
                    below_tokens, below_size = reached, depth
                    below[:depth] = order[path[:depth]]
            elif reached < above_tokens:
                above_tokens, above_size = reached, depth + 1
                above[:above_size] = order[path[:above_size]]
        index += 1
    return below_tokens, below_size, above_tokens, above_size

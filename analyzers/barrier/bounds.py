"""Headroom: the idle that no other placement could have avoided, and the time that no policy can beat.

Two bounds, both proven from what every placement has in common. The formulas are those of equally fast ranks; with
speeds s_g the sum of the speeds stands for G, and the largest speed divides what a single rank must do.

- *Unavoidable idle* (`unavoidable_idle_ms`) keeps the admissions: which requests are active in which step. It holds for
  any placement of them, even one that moves requests between ranks before every step.
- *Least time* (`least_time_ms`) keeps the requests and their arrivals only. It holds for any policy, whatever it admits
  when and where.

A request is active for o steps, one per output token; its load *entering* its t-th step (t = 0..o-1) is
s + d*min(t, g): s tokens at first, d more per step for g steps. LLM decoding has s = prompt, d = 1, g = o.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.step_time import StepTimeModel, rank_time
from lbal.analyzers.jit import compiled
from lbal.analyzers.trace.trace import FloatArray, IntArray


@dataclass(frozen=True)
class RequestLoads:
    """How N requests load a rank; arrays of shape (N,)."""

    steps: IntArray
    """o: steps for which each is active."""
    entering_tokens: IntArray
    """s: load entering its first step."""
    growing_steps: IntArray
    """g: steps after which its load no longer grows."""
    growth: float = 1.0
    """d: tokens per step by which a load grows."""

    @property
    def token_steps(self) -> FloatArray:
        """(N,) loads entering the steps of each request, summed: o*s + d*(g*(g-1)/2 + g*(o-g)).

        Without a window (g = o) and with d = 1 this is o*s + o*(o-1)/2.
        """
        steps, growing = self.steps.astype(np.float64), np.minimum(self.growing_steps, self.steps).astype(np.float64)
        grown = growing * (growing - 1) / 2 + growing * (steps - growing)
        return np.asarray(steps * self.entering_tokens + self.growth * grown)


@dataclass(frozen=True)
class Admissions:
    """Which of N requests entered in which step, and for how many steps each stayed; arrays of shape (N,)."""

    first: IntArray
    """The first step in which each was active."""
    steps: IntArray
    prompt_tokens: IntArray


@dataclass(frozen=True)
class SingleLoads:
    """The largest and the smallest load of a single active request in each of S steps, in tokens.

    NaN where it is not known. Arrays of shape (S,).
    """

    largest: FloatArray
    smallest: FloatArray

    def part(self, where: slice) -> SingleLoads:
        """The chosen steps."""
        return SingleLoads(self.largest[where], self.smallest[where])


@dataclass(frozen=True)
class KvRoom:
    """KV tokens that a rank holds, and what each of N requests needs of them from its admission to its end."""

    needed_tokens: IntArray
    """(N,)"""
    capacity_tokens: int


def least_time_ms(
    loads: RequestLoads,
    model: StepTimeModel,
    dp_size: int,
    max_num_seqs: int,
    arrival_ms: FloatArray | None = None,
    *,
    room: KvRoom | None = None,
    most_running: int | None = None,
) -> float:
    """A time in ms, from the first arrival on, before which no policy has served all requests.

    Without arrivals (a backlog) it bounds the sum of step times:

        C*max(ceil(sum(o) / (G*B)), max(o)) + max((a*W + b*sum(o)) / G, max(w)) + b_mean*sum(o) / G

    with W = sum of `token_steps` and w = a*token_steps + b*o of a single request. Proof: a run of K steps lasts
    C*K + sum over steps of max_g(r_g) + b_mean*sum over steps of mean(n).
    (1) K is at least max(o), as a request gets one token per step, and at least sum(o)/(G*B), as a step has G*B slots.
    With `room` a rank holds at most floor(capacity / least need) requests at once, which takes the place of B where it
    is less, and K is at least sum(o * need) / (G * capacity), as each need is held for o steps. `most_running` is the
    most requests that run at once in a closed loop; it takes the place of G*B where it is less, and of G,
    as no more ranks have work (the fastest ones at best).
    (2) A step's largest rank time is at least the mean one, and the rank times of all steps and ranks add up to
    a*W + b*sum(o) wherever requests are placed. It is also at least that of any single active request, which over
    the steps of one request adds up to its w. (3) The running requests of all steps add up to sum(o).

    With arrivals (in order) the same holds for the requests from the i-th on, for every i: the steps in which any of
    them is active start at arrival_i or later. So the last step ends no earlier than the largest
    arrival_i + bound(requests i, i+1, …); this is what is returned, minus the first arrival. The limit of the pool is
    left out: it only makes a run longer.
    """
    coefficients, outputs = model.coefficients_ms, loads.steps.astype(np.float64)
    work = rank_time(loads.token_steps, outputs, coefficients)
    since = slice(0, 1) if arrival_ms is None else slice(None)
    tokens, total = (_from_the_end(np.add, values)[since] for values in (outputs, work))
    longest, heaviest = (_from_the_end(np.maximum, values)[since] for values in (outputs, work))
    slots = dp_size * max_num_seqs if most_running is None else min(dp_size * max_num_seqs, most_running)
    steps = np.maximum(np.ceil(tokens / slots), longest)
    if room is not None:
        needed = room.needed_tokens.astype(np.float64)
        least = _from_the_end(np.minimum, needed)[since]
        held = np.maximum(np.floor(room.capacity_tokens / np.maximum(least, 1.0)), 1.0)
        area = _from_the_end(np.add, outputs * needed)[since]
        steps = np.maximum(steps, np.ceil(tokens / (dp_size * np.minimum(held, max_num_seqs))))
        steps = np.maximum(steps, np.ceil(area / (dp_size * room.capacity_tokens)))
    speed = 1.0 / model.slowness(dp_size)
    if slots < dp_size:
        speed = np.sort(speed)[-slots:]
    bound = coefficients.shared * steps + np.maximum(total / speed.sum(), heaviest / speed.max())
    bound += coefficients.per_mean_request * tokens / dp_size
    if arrival_ms is not None:
        bound += arrival_ms - arrival_ms[0]
    return float(bound.max())


def _from_the_end(combine: np.ufunc, values: FloatArray) -> FloatArray:
    """(N,) the values from each on to the last, added up or their maximum."""
    return np.asarray(combine.accumulate(values[::-1])[::-1])


def least_slowest_ms(
    total_kv_tokens: FloatArray,
    running: FloatArray,
    single: SingleLoads | None,
    model: StepTimeModel,
    dp_size: int,
) -> FloatArray:
    """(S,) what the largest rank time of each step is at least, wherever its n active requests are placed, in ms.

    The largest of three, with r = a*load + b the rank time of one request:

    - the sum of r over min(G, n): no more than n ranks have work, so this is the mean of those that do;
    - the largest r: its request is on some rank;
    - ceil(n/G) times the smallest r: some rank holds that many requests.

    Where single loads are not known the second is left out, and the third takes b for the smallest r. With ranks of
    other speeds the first is over the speeds of the min(G, n) fastest ranks, the others over the largest speed.
    """
    speed = np.sort(1.0 / model.slowness(dp_size))[::-1]
    coefficients, one = model.coefficients_ms, np.ones(len(running))
    total = rank_time(total_kv_tokens, running, coefficients)
    busy = np.minimum(np.maximum(running, 1.0), dp_size)
    by_count = np.ceil(running / dp_size) / speed[0]
    bounds = [total / np.cumsum(speed)[busy.astype(np.int64) - 1], by_count * coefficients.per_request]
    if single is not None:
        largest_ms = rank_time(single.largest, one, coefficients) / speed[0]
        bounds += [largest_ms, by_count * rank_time(single.smallest, one, coefficients)]
    return np.asarray(np.fmax.reduce(bounds))


def unavoidable_idle_ms(accounts: BarrierAccounts, single: SingleLoads | None, model: StepTimeModel) -> FloatArray:
    """(S,) idle over all ranks that each step has at least, in ms: G * least largest rank time - sum of rank times.

    With ranks of other speeds that sum depends on the placement: the largest that it can be is taken
    (`_most_rank_time_ms`).
    `single` has the steps of the accounts. Never more than the idle there was: rounding and, where rank times are
    measured, the model cannot claim more. Where a single load exceeds what the straggler held, the requests do
    not fit the steps, and single loads are not used. Of steps with prefill or padding nothing is proven: 0 there.
    """
    if single is not None:
        fits = single.largest <= accounts.max_kv_tokens * (1 + 1e-9) + 1e-6
        single = SingleLoads(np.where(fits, single.largest, np.nan), np.where(fits, single.smallest, np.nan))
    kv_tokens, running, ranks = accounts.total_kv_tokens, accounts.running, accounts.dp_size
    least = least_slowest_ms(kv_tokens, running, single, model, ranks)
    total = _most_rank_time_ms(rank_time(kv_tokens, running, model.coefficients_ms), least, model.slowness(ranks))
    is_plain = (accounts.prefill_ms == 0) & (accounts.padding_ms == 0)
    return np.asarray(np.clip(ranks * least - total, 0.0, np.where(is_plain, np.maximum(accounts.idle_ms, 0.0), 0.0)))


def _most_rank_time_ms(work_ms: FloatArray, largest_ms: FloatArray, slowness: FloatArray) -> FloatArray:
    """(S,) the largest sum of rank times that the work of each step can make, where none exceeds the largest.

    That is with the slowest ranks full. A larger largest time adds to this sum at most G times what it grows by, so the
    least largest time gives the least idle.
    """
    if (slowness == slowness[0]).all():
        return np.asarray(work_ms * slowness[0])
    left, total = work_ms.astype(np.float64), np.zeros(len(work_ms))
    for slow in np.sort(slowness)[::-1]:
        taken = np.minimum(left, largest_ms / slow)
        left, total = left - taken, total + slow * taken
    return total


def idle_bounds(accounts: BarrierAccounts, single: SingleLoads | None, model: StepTimeModel) -> dict[str, float]:
    """`unavoidable_idle_fraction` and `avoidable_idle_fraction`, by name; they add up to `barrier_idle_fraction`."""
    return bound_fractions(
        float(unavoidable_idle_ms(accounts, single, model).sum()),
        float(accounts.idle_ms.sum()),
        float(accounts.dp_size * accounts.step_ms.sum()),
    )


def bound_fractions(unavoidable_ms: float, idle_ms: float, rank_ms: float) -> dict[str, float]:
    """The same from sums over the steps: of unavoidable idle and of all idle over the ranks, and of rank-time."""
    unavoidable, idle = unavoidable_ms / rank_ms, idle_ms / rank_ms
    return {
        "unavoidable_idle_fraction": float(unavoidable),
        "avoidable_idle_fraction": max(float(idle - unavoidable), 0.0),
    }


def recovered_fraction(reference_idle: float, unavoidable: float, idle: float) -> float | None:
    """Share of a reference's avoidable idle that another placement wins back; below 0 where that idles more.

    All are shares of rank-time. It can exceed 1, as another policy also admits in another order. None where
    nothing was avoidable.
    """
    avoidable = reference_idle - unavoidable
    return (reference_idle - idle) / avoidable if avoidable > 1e-9 else None


def recovered_fractions(
    reference_idle: float, unavoidable: float, others: Mapping[str, float]
) -> dict[str, float | None]:
    """`recovered_fraction` by label: idle fractions of policies, or of a solver's placement, in any mix."""
    return {label: recovered_fraction(reference_idle, unavoidable, idle) for label, idle in others.items()}


def single_loads(loads: RequestLoads, first_step: IntArray, count: int) -> SingleLoads:
    """The largest and smallest single load in each of `count` steps; request i is active from `first_step[i]` on.

    That is below 0 for requests that were admitted before these steps.

    While it grows, a request's load is d*k + (s - d*first) in step k, so those that grow keep their order, and so
    do those that have stopped growing. Steps are painted with the requests of either kind in that order, each step
    once: O(N log N + S). Steps beyond the `count` do not matter.
    """
    growing = np.minimum(loads.growing_steps, loads.steps)
    last = np.minimum(first_step + loads.steps, count) - 1
    turn = np.where(growing > 0, np.minimum(first_step + growing, last), first_step - 1)
    at_start = loads.entering_tokens - loads.growth * first_step
    at_end = loads.entering_tokens + loads.growth * growing
    step = np.arange(count)
    rising = [values + loads.growth * step for values in _extremes(first_step, turn, at_start, count)]
    if (turn == last).all():
        return SingleLoads(*rising)
    flat = _extremes(turn + 1, last, at_end, count)
    return SingleLoads(np.fmax(rising[0], flat[0]), np.fmin(rising[1], flat[1]))


def _extremes(first: IntArray, last: IntArray, value: FloatArray, count: int) -> list[FloatArray]:
    """(S,) largest and (S,) smallest of the values whose span first..last covers each step, NaN where none does."""
    first = np.maximum(first, 0)
    some = first <= last
    first, last, value = first[some], last[some], value[some].astype(np.float64)
    order = np.argsort(value, kind="stable")
    found = []
    for sequence in (order[::-1], order):
        painter = np.full(count, -1, np.int64)
        _paint()(first, last, np.ascontiguousarray(sequence), painter, np.arange(count + 1))
        found.append(np.where(painter >= 0, np.append(value, np.nan)[painter], np.nan))
    return found


def paint(first: IntArray, last: IntArray, order: IntArray, painter: IntArray, unpainted: IntArray) -> None:
    """Set `painter[k]` to the first in `order` whose span first..last has step k in it. Written for compilation.

    `unpainted` (0, 1, …, S) leads from each step to the next that is not painted yet, by shortcuts that get longer.
    """
    for index in range(len(order)):
        request = order[index]
        step = first[request]
        while step <= last[request]:
            while unpainted[step] != step:
                unpainted[step] = unpainted[unpainted[step]]
                step = unpainted[step]
            if step <= last[request]:
                painter[step] = request
                unpainted[step] = step + 1


@cache
def _paint() -> Any:
    from numba import types

    integers = types.Array(types.int64, 1, "C")
    return compiled(paint, types.void(*[integers] * 5))

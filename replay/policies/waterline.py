"""Keeping all ranks at one level over the long run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policies.bf_io import fill_what_fits
from lbal.replay.policy import fifo_waits
from lbal.replay.policy.compilable import frugal, jitable
from lbal.replay.policy.fifo_waits import check_limits, note_admissions, usual_limit, waited, worst_limit
from lbal.replay.policy.named import Memory, parameters_of, per_rank
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.predictors import Predicting, age_of, fill_alive, load_after
from lbal.replay.policy.projection import load_units
from lbal.replay.policy.view import View
from lbal.replay.solver import level_search
from lbal.replay.solver.level_search import (
    GAIN,
    LEAST_GAIN,
    LEVEL,
    OVERSHOOT,
    Levels,
    put,
    search,
    start,
    start_with_all,
)

TIME = 0
"""`load=time` among its choices."""
SMOOTHING, CHASE, DISCOUNT = 0.1, 0.25, 0.9
FRESH = 32
"""Joined requests per rank over which the mean size of what arrives is taken."""
CHOICE = 4
"""Waiting requests per rank, beyond those that can be admitted, among which it chooses."""
LARGE, MISFIT = 8.0, 3.0
"""Mean sizes from which on a request may have a berth, and by which it must exceed the level to get one."""
BERTHED = 0.5
"""Share of the ranks that may have a berth."""
PATIENCE = 6
"""A berthed request accepts to stand out by its size times (age / limit) to that power."""
DUE = 1e4
"""Price of a request at its limit, times what it would cost the largest one to stand out in full."""


@dataclass(frozen=True)
class Waterline(Predicting, Selector):
    """Keeps all ranks at one slowly moving level: what is admitted should fill each just up to it.

    The sum of all loads is the same in the long run whatever the order of admission, so only the largest load matters,
    and a good mix of sizes in the pool is worth keeping. So it does not chase the sum, as J of `bf-io` does, but
    minimises the sum over ranks of phi(L_g - T), phi(x) = 16 x^2 above the level T and x^2 below
    (`replay/solver/level_search.py`). The level follows the load that admissions of average size lead to,

        T += 0.1 * ((sum of loads + U * mean size of what joined lately) / G - T),

    U requests admitted, and goes a quarter of the way up to the highest rank that has no free slot: below that,
    nothing is gained. Fairness is a price: leaving a request of size s waiting costs 16 * s^2 * (age / limit)^2, and
    at the limit it is admitted. The limits are multiples of what FIFO's waits would be, which are known online
    (`replay/policy/fifo_waits.py`): the worst one for all while fewer than one in a hundred wait longer than the usual
    one.
    Requests above 8 mean sizes that fit nowhere get a berth: a rank is filled as if it held them already, until it has
    come low enough for them. No lengths are predicted at horizon=0.
    """

    name: ClassVar[str] = "waterline"
    looks_at: ClassVar[str] = "rank times and prompts"
    source: ClassVar[str] = "lbal"
    memory: ClassVar[Memory] = fifo_waits.MEMORY.with_parts(line=1, chose=1, berths=per_rank)
    """After FIFO's waits: the level, whether there was a choice, and the request in the berth of each rank, plus 1."""

    horizon: int = 0
    """H, steps for which the loads are followed; the predictor counts only if there are any."""
    load: Literal["time", "kv"] = "time"
    """What is balanced: rank time by the step model, or KV tokens."""
    usual_wait: float = 3.0
    """Times FIFO's p99 wait that 99% of the requests wait at most; 0 for no limit but the worst."""
    worst_wait: float = 10.0
    """Times FIFO's longest wait that any request waits, about; 0 for free choice."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.horizon < 0:
            raise ValueError(f"horizon: {self.horizon} is too few, expected at least 0")
        check_limits(self.usual_wait, self.worst_wait)

    @property
    def uses_true_lengths(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().uses_true_lengths

    @property
    def uses_draws(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().uses_draws

    @property
    def learns_lengths(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().learns_lengths

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """Local search from the best fit. About O(U * (U + R) * H), U placed of R considered."""
        slots = view.dp_size * view.max_num_seqs - view.num_running.sum()
        choice = pool[: min(size, slots + CHOICE * view.dp_size)]
        per_token, per_request = load_units(view, view.parameters[P.load] == TIME)
        s = levels_of(view, choice, per_token, per_request)
        mean = mean_fresh(view, choice, s.size)
        place_level(view, s, mean, slots)
        bulk = s.size - per_request
        price_waiting(view, choice, s, bulk, mean - per_request)
        if slots >= len(choice):
            view.memory[M.berths :] = 0.0
            start_with_all(s)
        else:
            start(s, slots - use_berths(view, choice, s, bulk, mean - per_request, slots))
        search(s, slots >= len(choice))
        count = 0
        for index in range(len(choice)):
            if s.rank_of[index] >= 0:
                requests[count], ranks[count] = choice[index], s.rank_of[index]
                count += 1
        count = fill_what_fits(view, pool, size, requests, ranks, count)
        note_admissions(view, requests, count, view.parameters[P.usual_wait])
        return int(count)


P, M = parameters_of(Waterline), Waterline.memory.places


@jitable
def levels_of(view: View, pool: IntArray, per_token: float, per_request: float) -> Levels:
    """The problem of this step without a placement: sizes and loads, and what is expected to end in the window."""
    count, steps = len(pool), int(view.parameters[P.horizon])
    s = Levels(
        size=(per_token * view.prompt_tokens[pool] + per_request).astype(np.float64),
        price=np.zeros(count),
        reserved=view.reserved_tokens[pool],
        held=np.zeros(count, np.bool_),
        growth=np.zeros(count),
        ends=np.zeros((count, steps)),
        shed=np.zeros((count, steps)),
        order=np.zeros(count, np.int64),
        rank_of=np.full(count, -1, np.int64),
        load=per_token * view.kv_tokens + per_request * view.num_running,
        rank_growth=np.zeros(view.dp_size),
        rank_ends=np.zeros((view.dp_size, steps)),
        rank_shed=np.zeros((view.dp_size, steps)),
        cost=np.zeros(view.dp_size),
        free=view.max_num_seqs - view.num_running,
        room=view.free_kv.copy(),
        numbers=np.zeros(3),
    )
    s.order[:] = np.argsort(s.size, kind="mergesort")
    s.numbers[level_search.DISCOUNT] = DISCOUNT
    if steps > 0:
        alive, smallest = np.zeros(steps + 1), s.size.min()
        for index in range(count):
            s.growth[index] = follow(
                view, pool[index], 0, per_token, per_request, smallest, alive, s.ends[index], s.shed[index]
            )
        for request in view.active:
            if request >= 0:
                rank = view.rank[request]
                s.rank_growth[rank] += follow(
                    view,
                    request,
                    age_of(view, request),
                    per_token,
                    per_request,
                    smallest,
                    alive,
                    s.rank_ends[rank],
                    s.rank_shed[rank],
                )
    return s


@frugal
def follow(
    view: View,
    request: int,
    age: int,
    per_token: float,
    per_request: float,
    smallest: float,
    alive: FloatArray,
    ends: FloatArray,
    shed: FloatArray,
) -> float:
    """Add a request's chance to end with each step, and what it then takes along; returns its growth per step."""
    fill_alive(view, request, age, alive)
    for h in range(len(ends)):
        chance = alive[h] - alive[h + 1]
        if chance > 0:
            ends[h] += chance
            shed[h] += chance * (per_token * load_after(view, request, age + h + 1) + per_request - smallest)
    grows = view.prompt_tokens[request] + age < view.attention_window
    return per_token * view.drift if grows else 0.0


@frugal
def mean_fresh(view: View, pool: IntArray, size: FloatArray) -> float:
    """Mean size of the waiting requests that are among the last to have joined; of all where none is."""
    total, count, last = 0.0, 0, pool[len(pool) - 1]
    for index in range(len(pool)):
        if last - pool[index] < FRESH * view.dp_size:
            total += size[index]
            count += 1
    return total / count


@frugal
def place_level(view: View, s: Levels, mean: float, slots: int) -> None:
    """Move the level on, and set what the ranks are to be brought to in this step."""
    total, admitted = 0.0, min(slots, len(s.size)) * mean
    if slots >= len(s.size):
        admitted = 0.0
        for size in s.size:
            admitted += size
    for load in s.load:
        total += load
    neutral = (total + admitted) / view.dp_size
    line = neutral
    if view.memory[M.chose] > 0:
        line = view.memory[M.line] + SMOOTHING * (neutral - view.memory[M.line])
    view.memory[M.line] = line
    view.memory[M.chose] = 1.0 if slots < len(s.size) else 0.0
    highest = line
    for rank in range(view.dp_size):
        if s.free[rank] == 0:
            highest = max(highest, s.load[rank])
    s.numbers[LEVEL] = line + CHASE * (highest - line)
    s.numbers[GAIN] = LEAST_GAIN * mean * mean


@frugal
def price_waiting(view: View, pool: IntArray, s: Levels, bulk: FloatArray, mean: float) -> None:
    """Price what leaving each request in the pool costs, by its age and the load of its tokens, `bulk`."""
    worst = worst_limit(view, view.parameters[P.worst_wait])
    if worst == math.inf:
        return
    limit, largest = usual_limit(view, view.parameters[P.usual_wait], worst), bulk[s.order[len(s.order) - 1]]
    for index in range(len(pool)):
        own = worst if bulk[index] > LARGE * mean else limit
        age = waited(view, pool[index])
        s.price[index] = OVERSHOOT * (max(bulk[index], mean) * age / own) ** 2
        if age >= own:
            s.price[index] += DUE * OVERSHOOT * max(largest * largest, 1.0)


@frugal
def use_berths(view: View, pool: IntArray, s: Levels, bulk: FloatArray, mean: float, slots: int) -> int:
    """Admit requests whose berth is ready, give berths to others, and add to the ranks what is berthed there.

    Returns how many were admitted.
    """
    worst, spare, held, admitted = worst_limit(view, view.parameters[P.worst_wait]), len(pool) - slots, 0, 0
    if worst == math.inf:
        return 0
    for rank in range(view.dp_size):
        request = place_in(pool, int(view.memory[M.berths + rank]) - 1)
        if request < 0:
            view.memory[M.berths + rank] = 0.0
            continue
        age = waited(view, pool[request])
        above = s.load[rank] + s.size[request] - s.numbers[LEVEL]
        ready = age >= worst or above <= bulk[request] * (age / worst) ** PATIENCE
        if ready and s.free[rank] > 0 and s.reserved[request] <= s.room[rank]:
            put(s, request, rank)
            s.held[request] = True
            admitted += 1
        elif age < worst and held < spare:
            s.held[request] = True
            held += 1
            continue
        view.memory[M.berths + rank] = 0.0
    for request in range(len(pool)):
        if held >= min(spare, BERTHED * view.dp_size):
            break
        if s.held[request] or bulk[request] <= LARGE * mean or waited(view, pool[request]) >= worst:
            continue
        lowest = -1
        for rank in range(view.dp_size):
            if view.memory[M.berths + rank] == 0 and (lowest < 0 or s.load[rank] < s.load[lowest]):
                lowest = rank
        if s.load[lowest] + s.size[request] - s.numbers[LEVEL] > MISFIT * mean:
            view.memory[M.berths + lowest] = pool[request] + 1
            s.held[request] = True
            held += 1
    for rank in range(view.dp_size):
        request = place_in(pool, int(view.memory[M.berths + rank]) - 1)
        if request >= 0:
            s.load[rank] += s.size[request]
    return admitted


@frugal
def place_in(pool: IntArray, request: int) -> int:
    """Where a request stands in the pool, -1 if it does not wait there."""
    low, high = 0, len(pool)
    while low < high:
        middle = (low + high) // 2
        if pool[middle] < request:
            low = middle + 1
        else:
            high = middle
    return low if low < len(pool) and pool[low] == request else -1

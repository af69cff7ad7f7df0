"""The barrier loop: arrivals, placement, step, completion. Written for compilation; plain Python where that helps.

One call runs until the row buffer is full, the replay ends or something is wrong, and says which by
its return value; all state lives in the arrays it is given, so the next call goes on where it stopped.
Cost: O(G) per step and per decision, O(1) per completion (a calendar of buckets, one per future step).

Order of events, which defines the semantics:

1. Before step k: a backlog refills the pool in file order up to its target, once; by `trace`, every
   request with arrival time <= now joins. With immediate binding each is routed as it joins, and those that
   arrive while a step runs are routed at once, so a router sees the loads of the step in progress.
2. Admission: `choose` is asked in pool order until no rank can take the first in line; `place` is asked
   once; with immediate binding every rank admits from its own queue, in order.
3. With nobody active the clock moves to the next arrival; that is no step.
4. The step lasts C + max_g(a*L_g + b*n_g) + b_mean*mean(n), with the loads entering it. Then every active
   request has one token more, and those with all their tokens leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from lbal.analyzers.trace import FloatArray, IntArray
from lbal.replay.view import NOW_MS, STEP, View

DONE, ROWS_FULL, BAD_PLACEMENT, LEFT_SLOTS_EMPTY, STUCK, RULE_FAILED = range(6)
"""Why `run` returned."""
(NEXT_ARRIVAL, NEXT_IN_POOL, POOL_SIZE, ADMITTED, COMPLETED, RUNNING, FIRST_FULL_STEP, LAST_ADMISSION_STEP, ROWS,
 BAD_REQUEST, BAD_RANK, SEEN_STEP, NUM_COUNTERS) = range(13)  # fmt: skip
"""Indices into `State.counters`."""
SEEN_MS, NUM_TIMES = 0, 1
"""Index into `State.times`."""
NONE = -1
FAILED_RULE = -2
"""What a rule in plain Python answers after it raised; the engine then raises its error."""


class Settings(NamedTuple):
    """What does not change during a replay. Times in ms; G, B and the pool in requests."""

    immediate: bool
    backlog: bool
    selects: bool
    work_conserving: bool
    pool_target: int
    kv_capacity: float
    shared_ms: float
    per_token_ms: float
    per_request_ms: float
    per_mean_request_ms: float
    drift: float
    stale_ms: float
    stale_steps: int


class Requests(NamedTuple):
    """Per request, shape (N,): what is known of it and what became of it."""

    prompt_tokens: IntArray
    output_tokens: IntArray
    growing_steps: IntArray
    """Steps after which its load stops growing."""
    reserved_tokens: IntArray
    arrival_ms: FloatArray
    arrived_step: IntArray
    rank: IntArray
    admitted_step: IntArray
    admitted_ms: FloatArray
    finish_ms: FloatArray
    next_queued: IntArray
    next_ending: IntArray
    next_grown: IntArray


class State(NamedTuple):
    """The cluster: counters, per rank (G,), calendars by step modulo their length, and scratch."""

    counters: IntArray
    times: FloatArray
    kv_tokens: FloatArray
    num_running: IntArray
    prompt_running: IntArray
    generated: IntArray
    """Steps of growth that the active requests have behind them, summed per rank."""
    growing: IntArray
    """Active requests that still grow."""
    reserved: IntArray
    queue_head: IntArray
    queue_tail: IntArray
    num_waiting: IntArray
    tokens_waiting: IntArray
    ending: IntArray
    """First request that ends with step s, at s modulo the length; -1 for none."""
    grown: IntArray
    """First request that stops growing with step s, likewise."""
    pool: IntArray
    """Waiting requests in order, for selectors."""
    admitted: IntArray
    """Requests admitted in this step, and by a selector's answer."""
    chosen_rank: IntArray


class Rows(NamedTuple):
    """Buffer for the trajectory: R steps by G ranks, loads entering the step."""

    kv_tokens: FloatArray
    num_running: FloatArray
    num_waiting: FloatArray
    step_ms: FloatArray
    start_ms: FloatArray


Choose = Callable[[View, int], int]
Place = Callable[[View, IntArray, int, IntArray, IntArray], int]


def run(
    choose: Choose, place: Place, view: View, requests: Requests, state: State, rows: Rows, settings: Settings
) -> int:
    """Go on with a replay until the rows are full (`ROWS_FULL`), it is `DONE`, or a rule is broken."""
    counters, clock = state.counters, view.clock
    count = len(requests.prompt_tokens)
    while counters[COMPLETED] < count:
        if counters[ROWS] == len(rows.step_ms):
            return ROWS_FULL
        status = _join(choose, view, requests, state, settings, clock[NOW_MS], True)
        if status != DONE:
            return status
        if settings.immediate:
            _admit_from_queues(view, requests, state, settings)
        elif settings.selects:
            status = _admit_selected(place, view, requests, state, settings)
        else:
            status = _admit_in_order(choose, view, requests, state, settings)
        if status != DONE:
            return status
        if counters[RUNNING] == 0:
            if settings.backlog or counters[NEXT_ARRIVAL] == count:
                return STUCK
            clock[NOW_MS] = requests.arrival_ms[counters[NEXT_ARRIVAL]]
            continue
        if counters[FIRST_FULL_STEP] == NONE and counters[RUNNING] == view.dp_size * view.max_num_seqs:
            counters[FIRST_FULL_STEP] = np.int64(clock[STEP])
        _refresh_signals(view, state, settings)
        end_ms = _record_step(view, state, rows, settings)
        if settings.immediate and not settings.backlog:
            status = _join(choose, view, requests, state, settings, end_ms, False)
            if status != DONE:
                return status
        _advance(view, requests, state, settings, end_ms)
        clock[STEP] += 1
        clock[NOW_MS] = end_ms
    return DONE


@register_jitable
def _join(
    choose: Choose, view: View, requests: Requests, state: State, settings: Settings, until_ms: float, inclusive: bool
) -> int:
    """Let requests join: by arrival time up to `until_ms`, or from the backlog up to the pool's target."""
    counters = state.counters
    count = len(requests.prompt_tokens)
    while counters[NEXT_ARRIVAL] < count:
        request = counters[NEXT_ARRIVAL]
        if settings.backlog:
            if request - counters[ADMITTED] >= settings.pool_target:
                break
            requests.arrival_ms[request] = until_ms
        elif requests.arrival_ms[request] > until_ms or (not inclusive and requests.arrival_ms[request] == until_ms):
            break
        requests.arrived_step[request] = np.int64(view.clock[STEP]) + (0 if inclusive else 1)
        counters[NEXT_ARRIVAL] += 1
        if settings.immediate:
            status = _enqueue(choose, view, requests, state, settings, request)
            if status != DONE:
                return status
        else:
            if settings.selects:
                state.pool[counters[POOL_SIZE]] = request
            counters[POOL_SIZE] += 1
    return DONE


@register_jitable
def _enqueue(choose: Choose, view: View, requests: Requests, state: State, settings: Settings, request: int) -> int:
    """Immediate binding: route a request to a rank's own queue."""
    _refresh_signals(view, state, settings)
    rank = choose(view, request)
    if rank < 0 or rank >= view.dp_size:
        return _bad(state, request, rank)
    if state.num_waiting[rank] == 0:
        state.queue_head[rank] = request
    else:
        requests.next_queued[state.queue_tail[rank]] = request
    state.queue_tail[rank] = request
    state.num_waiting[rank] += 1
    state.tokens_waiting[rank] += requests.prompt_tokens[request]
    if settings.stale_ms > 0 or settings.stale_steps > 0:
        view.dispatched[rank] += 1
        view.tokens_dispatched[rank] += requests.prompt_tokens[request]
    return DONE


@register_jitable
def _admit_from_queues(view: View, requests: Requests, state: State, settings: Settings) -> None:
    """Immediate binding: every rank admits from its own queue, in order, while the first one fits."""
    for rank in range(view.dp_size):
        while state.num_waiting[rank] > 0 and state.num_running[rank] < view.max_num_seqs:
            request = state.queue_head[rank]
            if state.reserved[rank] + requests.reserved_tokens[request] > settings.kv_capacity:
                break
            state.queue_head[rank] = requests.next_queued[request]
            state.num_waiting[rank] -= 1
            state.tokens_waiting[rank] -= requests.prompt_tokens[request]
            _admit(view, requests, state, settings, request, rank)


@register_jitable
def _admit_in_order(choose: Choose, view: View, requests: Requests, state: State, settings: Settings) -> int:
    """Pool binding, one by one in pool order, until no rank can take the first in line: nobody is overtaken."""
    counters = state.counters
    limited = settings.kv_capacity < np.inf
    open_ranks = 0
    for rank in range(view.dp_size):
        view.eligible[rank] = state.num_running[rank] < view.max_num_seqs
        open_ranks += view.eligible[rank]
    while counters[POOL_SIZE] > 0:
        request = counters[NEXT_IN_POOL]
        if limited:
            open_ranks = 0
            for rank in range(view.dp_size):
                view.eligible[rank] = (
                    state.num_running[rank] < view.max_num_seqs
                    and state.reserved[rank] + requests.reserved_tokens[request] <= settings.kv_capacity
                )
                open_ranks += view.eligible[rank]
        if open_ranks == 0:
            break
        rank = choose(view, request)
        if rank == -1 and not settings.work_conserving:
            break
        if rank < 0 or rank >= view.dp_size or not view.eligible[rank]:
            return _bad(state, request, rank)
        _admit(view, requests, state, settings, request, rank)
        counters[NEXT_IN_POOL] += 1
        counters[POOL_SIZE] -= 1
        if state.num_running[rank] == view.max_num_seqs and not limited:
            view.eligible[rank] = False
            open_ranks -= 1
    return DONE


@register_jitable
def _admit_selected(place: Place, view: View, requests: Requests, state: State, settings: Settings) -> int:
    """Pool binding by a selector: check and carry out its answer, then close the gaps in the pool."""
    counters = state.counters
    size = counters[POOL_SIZE]
    if size == 0 or counters[RUNNING] == view.dp_size * view.max_num_seqs:
        return DONE
    chosen = place(view, state.pool, size, state.admitted, state.chosen_rank)
    if chosen < 0 or chosen > size:
        return _bad(state, NONE, chosen)
    for index in range(chosen):
        request, rank = state.admitted[index], state.chosen_rank[index]
        if (
            request < 0
            or request >= counters[NEXT_ARRIVAL]
            or requests.rank[request] != NONE
            or rank < 0
            or rank >= view.dp_size
            or state.num_running[rank] >= view.max_num_seqs
            or state.reserved[rank] + requests.reserved_tokens[request] > settings.kv_capacity
        ):
            return _bad(state, request, rank)
        _admit(view, requests, state, settings, request, rank)
    kept = 0
    for index in range(size):
        request = state.pool[index]
        if requests.rank[request] == NONE:
            state.pool[kept] = request
            kept += 1
    counters[POOL_SIZE] = kept
    if settings.work_conserving and _could_admit(view, requests, state, settings):
        return LEFT_SLOTS_EMPTY
    return DONE


@register_jitable
def _could_admit(view: View, requests: Requests, state: State, settings: Settings) -> bool:
    """Whether a free slot is left that some waiting request would fit into."""
    for index in range(state.counters[POOL_SIZE]):
        request = state.pool[index]
        for rank in range(view.dp_size):
            if (
                state.num_running[rank] < view.max_num_seqs
                and state.reserved[rank] + requests.reserved_tokens[request] <= settings.kv_capacity
            ):
                state.counters[BAD_REQUEST] = request
                state.counters[BAD_RANK] = rank
                return True
        if settings.kv_capacity == np.inf:
            break
    return False


@register_jitable
def _admit(view: View, requests: Requests, state: State, settings: Settings, request: int, rank: int) -> None:
    """Give a request a slot: it ends with the o-th step from now."""
    counters = state.counters
    step = np.int64(view.clock[STEP])
    output, growing = requests.output_tokens[request], requests.growing_steps[request]
    requests.rank[request] = rank
    requests.admitted_step[request] = step
    requests.admitted_ms[request] = view.clock[NOW_MS]
    state.prompt_running[rank] += requests.prompt_tokens[request]
    state.num_running[rank] += 1
    state.reserved[rank] += requests.reserved_tokens[request]
    state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
    view.free_kv[rank] = settings.kv_capacity - state.reserved[rank]
    if growing > 0:
        state.growing[rank] += 1
        if growing < output:
            bucket = (step + growing - 1) % len(state.grown)
            requests.next_grown[request] = state.grown[bucket]
            state.grown[bucket] = request
    bucket = (step + output - 1) % len(state.ending)
    requests.next_ending[request] = state.ending[bucket]
    state.ending[bucket] = request
    counters[ADMITTED] += 1
    counters[RUNNING] += 1
    counters[LAST_ADMISSION_STEP] = step
    if not settings.immediate and (settings.stale_ms > 0 or settings.stale_steps > 0):
        view.dispatched[rank] += 1
        view.tokens_dispatched[rank] += requests.prompt_tokens[request]


@register_jitable
def _refresh_signals(view: View, state: State, settings: Settings) -> None:
    """Take the signals anew where the policy's are not live and are old enough."""
    if settings.stale_ms == 0 and settings.stale_steps == 0:
        return
    now, step = view.clock[NOW_MS], np.int64(view.clock[STEP])
    if now - state.times[SEEN_MS] < settings.stale_ms or step - state.counters[SEEN_STEP] < settings.stale_steps:
        return
    state.times[SEEN_MS] = now
    state.counters[SEEN_STEP] = step
    view.kv_tokens[:] = state.kv_tokens
    view.num_running[:] = state.num_running
    view.prompt_running[:] = state.prompt_running
    view.num_waiting[:] = state.num_waiting
    view.tokens_waiting[:] = state.tokens_waiting
    view.dispatched[:] = 0
    view.tokens_dispatched[:] = 0


@register_jitable
def _record_step(view: View, state: State, rows: Rows, settings: Settings) -> float:
    """Write the loads entering the step to the rows; returns the time at which it ends, in ms."""
    row = state.counters[ROWS]
    slowest = 0.0
    for rank in range(view.dp_size):
        tokens, running = state.kv_tokens[rank], state.num_running[rank]
        rows.kv_tokens[row, rank] = tokens
        rows.num_running[row, rank] = running
        rows.num_waiting[row, rank] = state.num_waiting[rank]
        slowest = max(slowest, settings.per_token_ms * tokens + settings.per_request_ms * running)
    mean_running = state.counters[RUNNING] / view.dp_size
    step_ms = settings.shared_ms + slowest + settings.per_mean_request_ms * mean_running
    rows.step_ms[row] = step_ms
    rows.start_ms[row] = view.clock[NOW_MS]
    state.counters[ROWS] += 1
    return float(view.clock[NOW_MS] + step_ms)


@register_jitable
def _advance(view: View, requests: Requests, state: State, settings: Settings, end_ms: float) -> None:
    """One token more for everybody; those that are complete leave, those at their window stop growing."""
    step = np.int64(view.clock[STEP])
    for rank in range(view.dp_size):
        state.generated[rank] += state.growing[rank]
    bucket = step % len(state.grown)
    request = state.grown[bucket]
    state.grown[bucket] = NONE
    while request != NONE:
        state.growing[requests.rank[request]] -= 1
        request = requests.next_grown[request]
    bucket = step % len(state.ending)
    request = state.ending[bucket]
    state.ending[bucket] = NONE
    while request != NONE:
        rank = requests.rank[request]
        output, growing = requests.output_tokens[request], requests.growing_steps[request]
        requests.finish_ms[request] = end_ms
        state.num_running[rank] -= 1
        state.prompt_running[rank] -= requests.prompt_tokens[request]
        state.generated[rank] -= min(output, growing)
        state.reserved[rank] -= requests.reserved_tokens[request]
        if 0 < output <= growing:
            state.growing[rank] -= 1
        state.counters[COMPLETED] += 1
        state.counters[RUNNING] -= 1
        request = requests.next_ending[request]
    for rank in range(view.dp_size):
        state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
        view.free_kv[rank] = settings.kv_capacity - state.reserved[rank]


@register_jitable
def _bad(state: State, request: int, rank: int) -> int:
    state.counters[BAD_REQUEST] = request
    state.counters[BAD_RANK] = rank
    return RULE_FAILED if rank == FAILED_RULE else BAD_PLACEMENT

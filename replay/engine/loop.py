"""The barrier loop: arrivals, placement, step, completion. Written for compilation; plain Python where that helps.

One call runs until the row buffer is full, the replay ends or something is wrong, and says which by
its return value; all state lives in the arrays it is given, so the next call goes on where it stopped.
Cost: O(G) per step and per decision, O(1) per completion (a calendar of buckets, one per future step). What the
loop needs of an active request stands with its slot, in arrays that fit the processor's caches however many requests
there are; times of requests follow from their steps afterwards.

Order of events, which defines the semantics:

1. Before step k requests join. Without times they do so in file order, up to a target: of waiting requests (a backlog,
   refilled once) or of requests that have joined and not ended (a closed loop). With times, every request with
   arrival time <= now joins; in sessions the arrival of a request that waits for others is the end of the last of
   them + its delay. With immediate binding each is routed as it joins, and those that arrive while a step runs are
   routed at once, so a router sees the loads of the step in progress.
2. Admission: `choose` is asked in pool order until no rank can take the first in line; `place` is asked
   once; with immediate binding every rank admits from its own queue, in order.
3. With nobody active the clock moves to the next arrival; that is no step.
4. The step lasts C + max_g((a*L_g + b*n_g) / speed_g) + b_mean*mean(n), with the loads entering it. Then every active
   request has one token more, and those with all their tokens leave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from lbal.analyzers.barrier.step_time import Coefficients, rank_time, step_time
from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.view import NOW_MS, SIGNALS_TAKEN, STEP, View

DONE, ROWS_FULL, BAD_PLACEMENT, LEFT_SLOTS_EMPTY, STUCK, RULE_FAILED = range(6)
"""Why `run` returned."""
(JOINED, NEXT_IN_POOL, POOL_SIZE, ADMITTED, COMPLETED, RUNNING, FIRST_FULL_STEP, LAST_ADMISSION_STEP, ROWS,
 BAD_REQUEST, BAD_RANK, SEEN_STEP, SENT, READY, NUM_COUNTERS) = range(15)  # fmt: skip
"""Indices into `State.counters`."""
SEEN_MS, NUM_TIMES = 0, 1
"""Index into `State.times`."""
ROW_CELLS, LEAST_ROWS = 1 << 18, 256
"""Rank-steps, and steps, in the buffer: how far the loop goes before it reports."""
NONE = -1
FAILED_RULE = -2
"""What a rule in plain Python answers after it raised; the engine then raises its error."""


class Settings(NamedTuple):
    """What does not change during a replay. Times in ms; G, B and the target in requests."""

    immediate: bool
    untimed: bool
    """Whether requests join up to the target, not at times: a backlog or a closed loop."""
    closed: bool
    """Whether the target is of requests that have not ended; it is of those not admitted otherwise."""
    sessions: bool
    """Whether some requests join after the end of others."""
    by_steps: bool
    """Whether arrival times are steps, not ms; steps without work then count too."""
    selects: bool
    work_conserving: bool
    target: int
    kv_capacity: float
    coefficients_ms: Coefficients
    drift: float
    stale_ms: float
    stale_steps: int
    lag_ms: float
    """How long a request is on its way to its rank, and not yet in what the rank reports."""
    prefills: bool
    """Whether prompts are computed (`mixed_loop`)."""


class Requests(NamedTuple):
    """Per request, shape (N,): what is known of it and what became of it."""

    prompt_tokens: IntArray
    output_tokens: IntArray
    growing_steps: IntArray
    """Steps after which its load stops growing."""
    reserved_tokens: IntArray
    arrival_ms: FloatArray
    """Empty where requests join up to a target: they arrive with `arrived_step`. NaN until it is known."""
    arrived_step: IntArray
    """-1 before it joined."""
    joined: IntArray
    """Requests in the order in which they join: file order, but in sessions, where it is known up to now."""
    waits_for: IntArray
    """In sessions: requests that must end before it can join. Empty otherwise, as the next three."""
    delay_ms: FloatArray
    """In sessions: from the end of the last of them to its arrival."""
    followers_from: IntArray
    """(N + 1,) where the followers of each request begin in `followers`."""
    followers: IntArray
    """Requests that wait for a request, for one after the other."""
    rank: IntArray
    admitted_step: IntArray
    next_queued: IntArray
    """The request behind it in its rank's own queue."""
    prefill_tokens: IntArray
    """Tokens to compute before it decodes; this and the next are empty without prefill."""
    computed_tokens: IntArray
    """As many of them are computed."""
    given_tokens: IntArray
    """Tokens that it gave before it was preempted, to be computed with its prompt; empty without prefill."""


class Slots(NamedTuple):
    """Per slot, shape (G*B,) or as many as there are requests: what must be known of the request in it."""

    free: IntArray
    """Stack of the slots that are not taken."""
    rank: IntArray
    prompt_tokens: IntArray
    generates: IntArray
    """Steps of growth that it has when it ends."""
    reserved_tokens: IntArray
    grows_to_the_end: NDArray[np.bool_]
    request: IntArray
    """The request in the slot, -1 for none."""
    next_ending: IntArray
    """The slot that ends with the same step, -1 for none."""
    next_grown: IntArray
    """The slot that stops growing with the same step, -1 for none."""


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
    prefill_pending: IntArray
    """Tokens of the requests on a rank that are still to be computed; 0 without prefill."""
    ending: IntArray
    """First slot that ends with step s, at s modulo the length; -1 for none."""
    grown: IntArray
    """First slot that stops growing with step s, likewise."""
    pool: IntArray
    """Waiting requests in order, for selectors."""
    ready: IntArray
    """In sessions: the requests that have not joined and whose arrival is known, a heap with the next one first."""
    admitted: IntArray
    """Requests admitted in this step, and by a selector's answer."""
    chosen_rank: IntArray
    slowness: FloatArray
    """1 / speed of each rank."""
    sent_request: IntArray
    """The requests in the order in which they were sent to a rank; this and the next two are empty without a lag."""
    sent_rank: IntArray
    sent_ms: FloatArray


class Rows(NamedTuple):
    """Buffer for the trajectory: R steps by G ranks, loads entering the step."""

    kv_tokens: FloatArray
    num_running: FloatArray
    num_waiting: FloatArray
    step_ms: FloatArray
    start_ms: FloatArray


def rows_of_buffer(dp_size: int) -> int:
    """Steps in the buffer for so many ranks."""
    return max(LEAST_ROWS, ROW_CELLS // dp_size)


Choose = Callable[[View, int], int]
Place = Callable[[View, IntArray, int, IntArray, IntArray], int]


def run(
    choose: Choose,
    place: Place,
    shown: View,
    view: View,
    requests: Requests,
    slots: Slots,
    state: State,
    rows: Rows,
    settings: Settings,
) -> int:
    """Go on with a replay until the rows are full (`ROWS_FULL`), it is `DONE`, or a rule is broken.

    `shown` is what the rules get: the same arrays as in `view`, of a type that cannot be written.
    """
    counters, clock = state.counters, view.clock
    count = len(requests.prompt_tokens)
    while counters[COMPLETED] < count:
        if counters[ROWS] == len(rows.step_ms):
            return ROWS_FULL
        now = clock[STEP] if settings.by_steps else clock[NOW_MS]
        status = _join(choose, shown, view, requests, state, settings, now, True)
        if status != DONE:
            return status
        if settings.immediate:
            _admit_from_queues(view, requests, slots, state, settings)
        elif settings.selects:
            status = _admit_selected(place, shown, view, requests, slots, state, settings)
        else:
            status = _admit_in_order(choose, shown, view, requests, slots, state, settings)
        if status != DONE:
            return status
        if counters[RUNNING] == 0 and not settings.by_steps:
            following = NONE if settings.untimed else _next_arrival(requests, state, settings)
            if following == NONE:
                return STUCK
            clock[NOW_MS] = requests.arrival_ms[following]
            continue
        if counters[FIRST_FULL_STEP] == NONE and counters[RUNNING] == view.dp_size * view.max_num_seqs:
            counters[FIRST_FULL_STEP] = np.int64(clock[STEP])
        _refresh_signals(view, requests, state, settings)
        end_ms = _record_step(view, state, rows, settings)
        if settings.immediate and not settings.untimed:
            status = _join(choose, shown, view, requests, state, settings, end_ms, False)
            if status != DONE:
                return status
        _advance(view, requests, slots, state, settings, end_ms)
        clock[STEP] += 1
        clock[NOW_MS] = end_ms
    return DONE


@register_jitable
def _join(
    choose: Choose,
    shown: View,
    view: View,
    requests: Requests,
    state: State,
    settings: Settings,
    until_ms: float,
    inclusive: bool,
) -> int:
    """Let requests join: by arrival time up to `until_ms`, or in file order up to the target."""
    counters = state.counters
    count = len(requests.prompt_tokens)
    while counters[JOINED] < count:
        if settings.untimed:
            request = counters[JOINED]
            if request - counters[COMPLETED if settings.closed else ADMITTED] >= settings.target:
                break
        else:
            request = _next_arrival(requests, state, settings)
            if request == NONE:
                break
            if requests.arrival_ms[request] > until_ms or (not inclusive and requests.arrival_ms[request] == until_ms):
                break
            if settings.sessions:
                _drop_first_ready(requests, state)
                requests.joined[counters[JOINED]] = request
        requests.arrived_step[request] = np.int64(view.clock[STEP]) + (0 if inclusive else 1)
        counters[JOINED] += 1
        if settings.immediate:
            status = _enqueue(choose, shown, view, requests, state, settings, request)
            if status != DONE:
                return status
        else:
            if settings.selects:
                state.pool[counters[POOL_SIZE]] = request
            counters[POOL_SIZE] += 1
    return DONE


@register_jitable
def _next_arrival(requests: Requests, state: State, settings: Settings) -> int:
    """The request that arrives next of those whose arrival is known; -1 if there is none. For requests with times."""
    counters = state.counters
    if settings.sessions:
        return state.ready[0] if counters[READY] > 0 else NONE
    return counters[JOINED] if counters[JOINED] < len(requests.prompt_tokens) else NONE


@register_jitable
def _let_followers_join(requests: Requests, state: State, request: int, end_ms: float) -> None:
    """Sessions: a request has ended; those that waited for no other than it arrive after their delay."""
    for index in range(requests.followers_from[request], requests.followers_from[request + 1]):
        follower = requests.followers[index]
        requests.waits_for[follower] -= 1
        if requests.waits_for[follower] == 0:
            requests.arrival_ms[follower] = end_ms + requests.delay_ms[follower]
            _add_ready(requests, state, follower)


@register_jitable
def _add_ready(requests: Requests, state: State, request: int) -> None:
    """Put a request, whose arrival is known, into the heap of those that are to join."""
    ready = state.ready
    place = state.counters[READY]
    state.counters[READY] += 1
    while place > 0 and _is_before(requests, request, ready[(place - 1) // 2]):
        ready[place] = ready[(place - 1) // 2]
        place = (place - 1) // 2
    ready[place] = request


@register_jitable
def _drop_first_ready(requests: Requests, state: State) -> None:
    """Take the first request off the heap of those that are to join."""
    ready = state.ready
    state.counters[READY] -= 1
    size = state.counters[READY]
    last = ready[size]
    place = 0
    while 2 * place + 1 < size:
        child = 2 * place + 1
        if child + 1 < size and _is_before(requests, ready[child + 1], ready[child]):
            child += 1
        if not _is_before(requests, ready[child], last):
            break
        ready[place] = ready[child]
        place = child
    ready[place] = last


@register_jitable
def _is_before(requests: Requests, one: int, other: int) -> bool:
    """Whether a request joins before another: by arrival, at the same time in file order."""
    here, there = requests.arrival_ms[one], requests.arrival_ms[other]
    return here < there or (here == there and one < other)


@register_jitable
def _enqueue(
    choose: Choose, shown: View, view: View, requests: Requests, state: State, settings: Settings, request: int
) -> int:
    """Immediate binding: route a request to a rank's own queue."""
    _refresh_signals(view, requests, state, settings)
    rank = choose(shown, request)
    if rank < 0 or rank >= view.dp_size:
        return _bad(state, request, rank)
    if state.num_waiting[rank] == 0:
        state.queue_head[rank] = request
    else:
        requests.next_queued[state.queue_tail[rank]] = request
    state.queue_tail[rank] = request
    state.num_waiting[rank] += 1
    state.tokens_waiting[rank] += requests.prompt_tokens[request]
    if settings.prefills:
        state.prefill_pending[rank] += requests.prefill_tokens[request]
    sent_ms = view.clock[NOW_MS] if settings.untimed or settings.by_steps else requests.arrival_ms[request]
    _count_as_sent(view, requests, state, settings, request, rank, sent_ms)
    return DONE


@register_jitable
def _count_as_sent(
    view: View, requests: Requests, state: State, settings: Settings, request: int, rank: int, sent_ms: float
) -> None:
    """What a router knows by itself of a request that it sends."""
    view.inflight[rank] += 1
    if settings.stale_ms > 0 or settings.stale_steps > 0:
        view.dispatched[rank] += 1
        view.tokens_dispatched[rank] += requests.prompt_tokens[request]
    if settings.lag_ms > 0:
        place = state.counters[SENT]
        state.sent_request[place] = request
        state.sent_rank[place] = rank
        state.sent_ms[place] = sent_ms
        state.counters[SENT] += 1


@register_jitable
def _admit_from_queues(view: View, requests: Requests, slots: Slots, state: State, settings: Settings) -> None:
    """Immediate binding: every rank admits from its own queue, in order, while the first one fits."""
    for rank in range(view.dp_size):
        while state.num_waiting[rank] > 0 and state.num_running[rank] < view.max_num_seqs:
            request = state.queue_head[rank]
            if state.reserved[rank] + requests.reserved_tokens[request] > settings.kv_capacity:
                break
            state.queue_head[rank] = requests.next_queued[request]
            state.num_waiting[rank] -= 1
            state.tokens_waiting[rank] -= requests.prompt_tokens[request]
            _admit(view, requests, slots, state, settings, request, rank)


@register_jitable
def _admit_in_order(
    choose: Choose, shown: View, view: View, requests: Requests, slots: Slots, state: State, settings: Settings
) -> int:
    """Pool binding, one by one in pool order, until no rank can take the first in line: nobody is overtaken."""
    counters = state.counters
    limited = settings.kv_capacity < np.inf
    open_ranks = 0
    for rank in range(view.dp_size):
        view.eligible[rank] = state.num_running[rank] < view.max_num_seqs
        open_ranks += view.eligible[rank]
    while counters[POOL_SIZE] > 0:
        request = requests.joined[counters[NEXT_IN_POOL]]
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
        rank = choose(shown, request)
        if rank == -1 and not settings.work_conserving:
            break
        if rank < 0 or rank >= view.dp_size or not view.eligible[rank]:
            return _bad(state, request, rank)
        _admit(view, requests, slots, state, settings, request, rank)
        counters[NEXT_IN_POOL] += 1
        counters[POOL_SIZE] -= 1
        if state.num_running[rank] == view.max_num_seqs and not limited:
            view.eligible[rank] = False
            open_ranks -= 1
    return DONE


@register_jitable
def _admit_selected(
    place: Place, shown: View, view: View, requests: Requests, slots: Slots, state: State, settings: Settings
) -> int:
    """Pool binding by a selector: check and carry out its answer, then close the gaps in the pool."""
    counters = state.counters
    size = counters[POOL_SIZE]
    if size == 0 or counters[RUNNING] == view.dp_size * view.max_num_seqs:
        return DONE
    chosen = place(shown, state.pool, size, state.admitted, state.chosen_rank)
    if chosen < 0 or chosen > size:
        return _bad(state, NONE, chosen)
    for index in range(chosen):
        request, rank = state.admitted[index], state.chosen_rank[index]
        if (
            request < 0
            or request >= len(requests.prompt_tokens)
            or requests.arrived_step[request] == NONE
            or requests.rank[request] != NONE
            or rank < 0
            or rank >= view.dp_size
            or state.num_running[rank] >= view.max_num_seqs
            or state.reserved[rank] + requests.reserved_tokens[request] > settings.kv_capacity
        ):
            return _bad(state, request, rank)
        _admit(view, requests, slots, state, settings, request, rank)
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
def _admit(
    view: View, requests: Requests, slots: Slots, state: State, settings: Settings, request: int, rank: int
) -> None:
    """Give a request a slot on a rank; without prefill it decodes from this step on."""
    counters = state.counters
    step = np.int64(view.clock[STEP])
    output, growing = requests.output_tokens[request], requests.growing_steps[request]
    requests.rank[request] = rank
    requests.admitted_step[request] = step
    slot = slots.free[counters[RUNNING]]
    slots.rank[slot] = rank
    slots.request[slot] = request
    slots.prompt_tokens[slot] = requests.prompt_tokens[request]
    slots.generates[slot] = min(output, growing)
    slots.reserved_tokens[slot] = requests.reserved_tokens[request]
    slots.grows_to_the_end[slot] = growing >= output
    state.prompt_running[rank] += requests.prompt_tokens[request]
    state.num_running[rank] += 1
    state.reserved[rank] += requests.reserved_tokens[request]
    state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
    view.free_kv[rank] = settings.kv_capacity - state.reserved[rank]
    if not settings.prefills:
        _start(slots, state, slot, rank, step, output, growing)
    counters[ADMITTED] += 1
    counters[RUNNING] += 1
    counters[LAST_ADMISSION_STEP] = step
    if not settings.immediate:
        _count_as_sent(view, requests, state, settings, request, rank, view.clock[NOW_MS])


@register_jitable
def _start(slots: Slots, state: State, slot: int, rank: int, step: np.int64, output: int, growing: int) -> None:
    """Note when the request in a slot stops growing, and that it ends with the o-th step from now."""
    if growing > 0:
        state.growing[rank] += 1
        if growing < output:
            bucket = (step + growing - 1) % len(state.grown)
            slots.next_grown[slot] = state.grown[bucket]
            state.grown[bucket] = slot
    bucket = (step + output - 1) % len(state.ending)
    slots.next_ending[slot] = state.ending[bucket]
    state.ending[bucket] = slot


@register_jitable
def _refresh_signals(view: View, requests: Requests, state: State, settings: Settings) -> None:
    """Take the signals anew where the policy's are not live and are old enough."""
    if settings.stale_ms == 0 and settings.stale_steps == 0:
        return
    now, step = view.clock[NOW_MS], np.int64(view.clock[STEP])
    if now - state.times[SEEN_MS] < settings.stale_ms or step - state.counters[SEEN_STEP] < settings.stale_steps:
        return
    view.clock[SIGNALS_TAKEN] += 1
    state.times[SEEN_MS] = now
    state.counters[SEEN_STEP] = step
    for rank in range(view.dp_size):
        view.kv_tokens[rank] = state.kv_tokens[rank]
        view.num_running[rank] = state.num_running[rank]
        view.prompt_running[rank] = state.prompt_running[rank]
        view.num_waiting[rank] = state.num_waiting[rank]
        view.tokens_waiting[rank] = state.tokens_waiting[rank]
        view.prefill_pending[rank] = state.prefill_pending[rank]
        view.dispatched[rank] = 0
        view.tokens_dispatched[rank] = 0
    if settings.lag_ms > 0:
        _leave_out_those_on_their_way(view, requests, state, settings)


@register_jitable
def _leave_out_those_on_their_way(view: View, requests: Requests, state: State, settings: Settings) -> None:
    """Take the requests that were sent within the lag out of signals that were just taken."""
    step, place = np.int64(view.clock[STEP]), state.counters[SENT] - 1
    while place >= 0 and state.sent_ms[place] > view.clock[NOW_MS] - settings.lag_ms:
        request, rank = state.sent_request[place], state.sent_rank[place]
        place -= 1
        prompt_tokens = requests.prompt_tokens[request]
        if settings.prefills:
            view.prefill_pending[rank] -= requests.prefill_tokens[request] - requests.computed_tokens[request]
        if requests.rank[request] == NONE:
            view.num_waiting[rank] -= 1
            view.tokens_waiting[rank] -= prompt_tokens
            continue
        generated = max(step - view.behind[rank] - requests.admitted_step[request], 0)
        if settings.prefills:
            generated = max(generated, requests.given_tokens[request])
        if generated < requests.output_tokens[request]:
            grown = min(generated, requests.growing_steps[request])
            view.num_running[rank] -= 1
            view.prompt_running[rank] -= prompt_tokens
            view.kv_tokens[rank] -= prompt_tokens + settings.drift * grown


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
        slowest = max(slowest, state.slowness[rank] * rank_time(tokens, running, settings.coefficients_ms))
    mean_running = state.counters[RUNNING] / view.dp_size
    step_ms = step_time(slowest, mean_running, settings.coefficients_ms)
    rows.step_ms[row] = step_ms
    rows.start_ms[row] = view.clock[NOW_MS]
    state.counters[ROWS] += 1
    return float(view.clock[NOW_MS] + step_ms)


@register_jitable
def _advance(view: View, requests: Requests, slots: Slots, state: State, settings: Settings, end_ms: float) -> None:
    """One token more for everybody; those that are complete leave, those at their window stop growing."""
    counters = state.counters
    step = np.int64(view.clock[STEP])
    for rank in range(view.dp_size):
        state.generated[rank] += state.growing[rank]
    bucket = step % len(state.grown)
    slot = state.grown[bucket]
    state.grown[bucket] = NONE
    while slot != NONE:
        state.growing[slots.rank[slot]] -= 1
        slot = slots.next_grown[slot]
    bucket = step % len(state.ending)
    slot = state.ending[bucket]
    state.ending[bucket] = NONE
    while slot != NONE:
        rank = slots.rank[slot]
        if len(view.survivors) > 0:  # O(1) per token: only for policies that learn lengths
            output = step + 1 - view.admitted_step[slots.request[slot]]
            view.tokens_completed[0] += output
            for age in range(output):
                view.survivors[age] += 1
        view.inflight[rank] -= 1
        state.num_running[rank] -= 1
        state.prompt_running[rank] -= slots.prompt_tokens[slot]
        state.generated[rank] -= slots.generates[slot]
        state.reserved[rank] -= slots.reserved_tokens[slot]
        if slots.grows_to_the_end[slot]:
            state.growing[rank] -= 1
        counters[COMPLETED] += 1
        counters[RUNNING] -= 1
        if settings.sessions:
            _let_followers_join(requests, state, slots.request[slot], end_ms)
        slots.free[counters[RUNNING]] = slot
        slots.request[slot] = NONE
        slot = slots.next_ending[slot]
    for rank in range(view.dp_size):
        state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
        view.free_kv[rank] = settings.kv_capacity - state.reserved[rank]


@register_jitable
def _bad(state: State, request: int, rank: int) -> int:
    state.counters[BAD_REQUEST] = request
    state.counters[BAD_RANK] = rank
    return RULE_FAILED if rank == FAILED_RULE else BAD_PLACEMENT

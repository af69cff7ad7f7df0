"""The barrier loop with prefill: ranks compute prompts beside decoding, when a rule of their engine lets them.

Joining, routing and the signals of policies are those of the loop without prefill (`loop`). What differs:

1. A rank has a queue of requests whose prompts wait, at most one prompt of which a part is computed, and its decodes.
   With immediate binding a request takes its slot when its first chunk runs; with pool binding it holds the slot from
   its placement on, and stands in the rank's queue meanwhile.
2. Before every step the rule says who may prefill. Where no rank decodes, all may: nothing is gained by waiting.
3. A rank that may prefill goes on with its part of a prompt, then takes others from its queue in order, up to its
   budget of tokens, which its decodes share where the rule mixes them. Where it does not mix them they stall.
4. The step lasts C + C_x + max_g((a*L_g + b*n_g + p*q_g + e*A_g) / speed_g) + b_mean*mean(n): L and n of the requests
   that decode in it, q the prompt tokens of a rank, A the pairs of a query and a key in their attention, C_x only with
   prefill. With padding every rank computes as many requests as the one that has most.
5. Where KV tokens are not reserved but taken as they come, requests are preempted before a step until those of every
   rank fit on it. A preempted one returns to the head of its rank's queue and computes its prompt and the tokens it
   gave anew; with pool binding it keeps its slot.
6. A decode gives one token; the last chunk of a prompt gives the first one, so o tokens take o - 1 decodes more. Those
   with all their tokens leave.

A rank's requests age in its own rounds of decoding, which stand still while its decodes stall: calendars are by rank
and round. Requests that end far ahead stay in their bucket until their own round comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from lbal.analyzers.barrier.step_time import mixed_rank_time, mixed_step_time
from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.engine.loop import (
    ADMITTED,
    COMPLETED,
    DONE,
    FIRST_FULL_STEP,
    LAST_ADMISSION_STEP,
    NONE,
    ROWS,
    ROWS_FULL,
    RUNNING,
    STUCK,
    Choose,
    Place,
    Requests,
    Rows,
    Settings,
    Slots,
    State,
    _admit,
    _admit_in_order,
    _admit_selected,
    _join,
    _let_followers_join,
    _next_arrival,
    _refresh_signals,
)
from lbal.replay.policy.view import NOW_MS, STEP, View
from lbal.replay.prefill.ranks import Ranks

PREFILLED, FINISHED, BEGUN, PREEMPTIONS, RECOMPUTED, NUM_COUNTS = range(6)
"""Indices into `Lanes.counts`: prompt tokens of this step, and prompts that it ends; of the whole run, how often a
prompt was begun and a request was preempted, and the tokens that were computed again for that."""
NOT_YET = 1 << 62
"""The round in which a request that does not decode was admitted: no round is as late."""
NEVER, LARGEST, HALF_FULL = range(3)
"""What steps are padded to, as `rule.PADDINGS`."""


class Prefill(NamedTuple):
    """What of the rule does not change during a replay."""

    budget: int
    chunks: bool
    mixes: bool
    padding: int
    grows: bool
    """Whether KV tokens are taken as they come, and requests preempted where there is no room; reserved otherwise."""
    fewest_first: bool
    """Whether those that have given fewest tokens are preempted first; those begun last otherwise."""
    kv_capacity: float
    """KV tokens that fit on a rank; `Settings.kv_capacity` is what an admission may fill."""


class Prompts(NamedTuple):
    """Per request, shape (N,): the slot that it holds, and the steps in which it began and ended."""

    slot: IntArray
    order: IntArray
    """The how many-th prompt that was begun was this; 0 before."""
    first_chunk_step: IntArray
    first_token_step: IntArray
    last_step: IntArray
    """The step with which it ended."""


class Lanes(NamedTuple):
    """Per rank, shape (G,), what the loop with prefill knows beyond `State`; calendars are (G, L)."""

    queued: IntArray
    """Requests of whose prompt nothing is computed; with immediate binding the same array as `State.num_waiting`."""
    partial: IntArray
    """The slot whose prompt is computed in part, -1 for none."""
    decoding: IntArray
    prompt_not_decoding: IntArray
    """Entering loads of the requests that hold a slot and do not decode."""
    given_not_decoding: IntArray
    """Steps of growth that they have behind them."""
    prompt_bound: IntArray
    """Entering loads of those of whose prompt nothing is computed: they hold no KV tokens."""
    given_bound: IntArray
    """Steps of growth that these have behind them."""
    preempted: NDArray[np.bool_]
    """Whether a request was preempted before this step: then no other is begun in it."""
    prefill_tokens: IntArray
    """Prompt tokens of this step."""
    prefill_pairs: FloatArray
    """Pairs of a query and a key in their attention."""
    stalls: NDArray[np.bool_]
    """Whether its decodes stall in this step."""
    ending: IntArray
    """First slot that ends with the rank's round r, at r modulo L; -1 for none."""
    grown: IntArray
    """First slot that stops growing with it, likewise."""
    finished: IntArray
    """Slots whose prompts end with this step."""
    counts: IntArray


class MixedRows(NamedTuple):
    """What the buffer of steps holds beyond `loop.Rows`, R steps by G ranks."""

    prefill_tokens: FloatArray
    prefill_pairs: FloatArray
    padded_running: FloatArray
    ended_prompts: FloatArray
    """(R,) prompts that ended with the step: each gives a token."""


LOADS = ("prefill_tokens", "prefill_pairs", "padded_running")
"""What of them are columns of a trace's steps."""
Release = Callable[[Ranks], int]


def run(
    choose: Choose,
    place: Place,
    release: Release,
    shown: View,
    shown_ranks: Ranks,
    view: View,
    ranks: Ranks,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    rows: Rows,
    mixed_rows: MixedRows,
    settings: Settings,
    prefill: Prefill,
) -> int:
    """Go on with a replay, as `loop.run`. `shown` and `shown_ranks` are what the rules get."""
    counters, clock = state.counters, view.clock
    count = len(requests.prompt_tokens)
    while counters[COMPLETED] < count:
        if counters[ROWS] == len(rows.step_ms):
            return ROWS_FULL
        status = _join(choose, shown, view, requests, state, settings, clock[NOW_MS], True)
        if status != DONE:
            return status
        running = counters[RUNNING]
        if not settings.immediate:
            if settings.selects:
                status = _admit_selected(place, shown, view, requests, slots, state, settings)
            else:
                status = _admit_in_order(choose, shown, view, requests, slots, state, settings)
            if status != DONE:
                return status
            for index in range(running, counters[RUNNING]):
                _bind(requests, prompts, slots, state, lanes, slots.free[index])
        if prefill.grows:
            _make_room(view, requests, prompts, slots, state, lanes, settings, prefill)
        if not _release(release, shown_ranks, view, ranks, requests, prompts, state, lanes, settings, prefill):
            following = NONE if settings.untimed else _next_arrival(requests, state, settings)
            if following == NONE:
                return STUCK
            clock[NOW_MS] = requests.arrival_ms[following]
            continue
        _form_batches(view, ranks, requests, prompts, slots, state, lanes, settings, prefill)
        if counters[FIRST_FULL_STEP] == NONE and counters[RUNNING] == view.dp_size * view.max_num_seqs:
            counters[FIRST_FULL_STEP] = np.int64(clock[STEP])
        _refresh_signals(view, requests, state, settings)
        end_ms = _record_step(view, state, lanes, rows, mixed_rows, settings, prefill)
        if settings.immediate and not settings.untimed:
            status = _join(choose, shown, view, requests, state, settings, end_ms, False)
            if status != DONE:
                return status
        _advance(view, requests, prompts, slots, state, lanes, settings, prefill, end_ms)
        clock[STEP] += 1
        clock[NOW_MS] = end_ms
    return DONE


@register_jitable
def _bind(requests: Requests, prompts: Prompts, slots: Slots, state: State, lanes: Lanes, slot: int) -> None:
    """Pool binding: a request that has just been placed stands in the queue of its rank."""
    request, rank = slots.request[slot], slots.rank[slot]
    prompts.slot[request] = slot
    requests.admitted_step[request] = NOT_YET
    lanes.prompt_not_decoding[rank] += requests.prompt_tokens[request]
    lanes.prompt_bound[rank] += requests.prompt_tokens[request]
    if lanes.queued[rank] == 0:
        state.queue_head[rank] = request
    else:
        requests.next_queued[state.queue_tail[rank]] = request
    state.queue_tail[rank] = request
    lanes.queued[rank] += 1
    state.prefill_pending[rank] += requests.prefill_tokens[request]


@register_jitable
def _release(
    release: Release,
    shown_ranks: Ranks,
    view: View,
    ranks: Ranks,
    requests: Requests,
    prompts: Prompts,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
) -> bool:
    """Ask the rule who may prefill; false where no rank has anything to do."""
    decoding, could = 0, False
    for rank in range(view.dp_size):
        ranks.has_partial[rank] = lanes.partial[rank] != NONE
        ranks.could_prefill[rank] = ranks.has_partial[rank] or _fits_next(
            view, requests, prompts, state, lanes, settings, prefill, rank
        )
        ranks.may_prefill[rank] = True
        ranks.free_slots[rank] = view.max_num_seqs - lanes.decoding[rank] - ranks.has_partial[rank]
        ranks.resident_tokens[rank] = (
            _resident(state, lanes, settings, rank) if prefill.grows else float(state.reserved[rank])
        )
        decoding += lanes.decoding[rank]
        could = could or ranks.could_prefill[rank]
    if decoding == 0 and not could:
        return False
    release(shown_ranks)
    if decoding == 0:
        ranks.may_prefill[:] = True
    return True


@register_jitable
def _fits_next(
    view: View,
    requests: Requests,
    prompts: Prompts,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
    rank: int,
) -> bool:
    """Whether a rank has a queued request that has a slot or could get one, with room for it."""
    if lanes.queued[rank] == 0 or lanes.preempted[rank]:
        return False
    if settings.immediate and state.num_running[rank] >= view.max_num_seqs:
        return False
    request = state.queue_head[rank]
    if prefill.grows:
        grown = min(requests.given_tokens[request], requests.growing_steps[request])
        needed = requests.prompt_tokens[request] + settings.drift * grown
        return bool(_resident(state, lanes, settings, rank) + needed <= settings.kv_capacity)
    if not settings.immediate:
        return True
    return bool(state.reserved[rank] + requests.reserved_tokens[request] <= settings.kv_capacity)


@register_jitable
def _resident(state: State, lanes: Lanes, settings: Settings, rank: int) -> float:
    """KV tokens of the requests of a rank whose prompts were begun; those prompts count whole."""
    prompts = state.prompt_running[rank] - lanes.prompt_bound[rank]
    return float(prompts + settings.drift * (state.generated[rank] - lanes.given_bound[rank]))


@register_jitable
def _make_room(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
) -> None:
    """Preempt requests until the KV tokens of every rank fit on it. The last one of a rank always does."""
    for rank in range(view.dp_size):
        lanes.preempted[rank] = False
        while _resident(state, lanes, settings, rank) > prefill.kv_capacity:
            slot = _victim(view, requests, prompts, slots, prefill, rank)
            _preempt(view, requests, prompts, slots, state, lanes, settings, slot)
            lanes.preempted[rank] = True
        state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
        _reserve(view, state, settings, prefill, rank)


@register_jitable
def _reserve(view: View, state: State, settings: Settings, prefill: Prefill, rank: int) -> None:
    """Where KV tokens are taken as they come: what admissions count as taken."""
    if prefill.grows:
        state.reserved[rank] = np.int64(np.ceil(state.prompt_running[rank] + settings.drift * state.generated[rank]))
    view.free_kv[rank] = settings.kv_capacity - state.reserved[rank]


@register_jitable
def _victim(view: View, requests: Requests, prompts: Prompts, slots: Slots, prefill: Prefill, rank: int) -> int:
    """The slot of the request of a rank that is preempted next, of those whose prompts were begun."""
    best, best_given = NONE, 0
    this_round = np.int64(view.clock[STEP]) - view.behind[rank]
    for slot in range(len(slots.request)):
        request = slots.request[slot]
        if request == NONE or slots.rank[slot] != rank or prompts.order[request] == 0:
            continue
        decodes = requests.admitted_step[request] != NOT_YET
        given = this_round - requests.admitted_step[request]
        if prefill.fewest_first and not decodes:
            continue
        if best == NONE:
            better = True
        elif prefill.fewest_first and given != best_given:
            better = given < best_given
        else:
            better = prompts.order[request] > prompts.order[slots.request[best]]
        if better:
            best, best_given = slot, given
    return best


@register_jitable
def _preempt(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    slot: int,
) -> None:
    """Put a request back to the head of its rank's queue: its KV tokens go, the tokens that it gave are kept."""
    request, rank = slots.request[slot], slots.rank[slot]
    growing, computed = requests.growing_steps[request], requests.computed_tokens[request]
    this_round = np.int64(view.clock[STEP]) - view.behind[rank]
    prompt = requests.prompt_tokens[request]
    lanes.counts[PREEMPTIONS] += 1
    if requests.admitted_step[request] == NOT_YET:
        lanes.partial[rank] = NONE
        lanes.counts[RECOMPUTED] += computed
        state.prefill_pending[rank] += computed
    else:
        given = this_round - requests.admitted_step[request]
        _take_out(requests, slots, lanes, slot, given)
        state.growing[rank] -= given < growing
        lanes.decoding[rank] -= 1
        lanes.prompt_not_decoding[rank] += prompt
        lanes.given_not_decoding[rank] += min(given, growing)
        requests.prefill_tokens[request] += given - requests.given_tokens[request]
        requests.given_tokens[request] = given
        lanes.counts[RECOMPUTED] += requests.prefill_tokens[request]
        state.prefill_pending[rank] += requests.prefill_tokens[request]
    requests.computed_tokens[request] = 0
    requests.admitted_step[request] = NOT_YET
    prompts.order[request] = 0
    lanes.prompt_bound[rank] += prompt
    lanes.given_bound[rank] += min(requests.given_tokens[request], growing)
    if settings.immediate:
        _lose_slot(requests, prompts, slots, state, lanes, slot)
    if lanes.queued[rank] == 0:
        state.queue_tail[rank] = request
    else:
        requests.next_queued[request] = state.queue_head[rank]
    state.queue_head[rank] = request
    lanes.queued[rank] += 1


@register_jitable
def _take_out(requests: Requests, slots: Slots, lanes: Lanes, slot: int, given: int) -> None:
    """Take a request that decodes out of the calendars of its rank."""
    request, rank, length = slots.request[slot], slots.rank[slot], lanes.ending.shape[1]
    output, growing = requests.output_tokens[request], requests.growing_steps[request]
    admitted = requests.admitted_step[request]
    _unlink(lanes.ending, slots.next_ending, rank, (admitted + output - 1) % length, slot)
    if given < growing < output:
        _unlink(lanes.grown, slots.next_grown, rank, (admitted + growing - 1) % length, slot)


@register_jitable
def _unlink(calendar: IntArray, following: IntArray, rank: int, bucket: int, slot: int) -> None:
    """Take a slot out of the list of a bucket."""
    if calendar[rank, bucket] == slot:
        calendar[rank, bucket] = following[slot]
        return
    before = calendar[rank, bucket]
    while following[before] != slot:
        before = following[before]
    following[before] = following[slot]


@register_jitable
def _lose_slot(requests: Requests, prompts: Prompts, slots: Slots, state: State, lanes: Lanes, slot: int) -> None:
    """Immediate binding: a preempted request waits without a slot, as before its first chunk."""
    request, rank = slots.request[slot], slots.rank[slot]
    prompt = requests.prompt_tokens[request]
    grown = min(requests.given_tokens[request], requests.growing_steps[request])
    state.prompt_running[rank] -= prompt
    state.generated[rank] -= grown
    lanes.prompt_not_decoding[rank] -= prompt
    lanes.given_not_decoding[rank] -= grown
    lanes.prompt_bound[rank] -= prompt
    lanes.given_bound[rank] -= grown
    state.num_running[rank] -= 1
    state.tokens_waiting[rank] += prompt
    requests.rank[request] = NONE
    state.counters[ADMITTED] -= 1
    state.counters[RUNNING] -= 1
    slots.free[state.counters[RUNNING]] = slot
    slots.request[slot] = NONE


@register_jitable
def _form_batches(
    view: View,
    ranks: Ranks,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
) -> None:
    """Choose the chunks of prompts that every rank computes in this step."""
    lanes.counts[PREFILLED] = 0
    lanes.counts[FINISHED] = 0
    for rank in range(view.dp_size):
        lanes.prefill_tokens[rank] = 0
        lanes.prefill_pairs[rank] = 0.0
        if ranks.may_prefill[rank] and ranks.could_prefill[rank]:
            _form_batch(view, ranks, requests, prompts, slots, state, lanes, settings, prefill, rank)
        ranks.prefilled[rank] = lanes.prefill_tokens[rank] > 0
        lanes.stalls[rank] = ranks.prefilled[rank] and not prefill.mixes
        lanes.counts[PREFILLED] += lanes.prefill_tokens[rank]


@register_jitable
def _form_batch(
    view: View,
    ranks: Ranks,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
    rank: int,
) -> None:
    """Go on with the rank's part of a prompt, then begin others in order, while tokens, slots and room are left."""
    left = prefill.budget - (lanes.decoding[rank] if prefill.mixes else 0)
    ranks.started[rank] = 0
    if lanes.partial[rank] != NONE:
        left -= _run_chunk(requests, slots, state, lanes, lanes.partial[rank], left)
    while left > 0 and _fits_next(view, requests, prompts, state, lanes, settings, prefill, rank):
        request = state.queue_head[rank]
        if not prefill.chunks and requests.prefill_tokens[request] > left:
            break
        _begin(view, requests, prompts, slots, state, lanes, settings, prefill, request, rank)
        ranks.started[rank] += 1
        left -= _run_chunk(requests, slots, state, lanes, prompts.slot[request], left)
    ranks.left_behind[rank] = lanes.partial[rank] != NONE or lanes.queued[rank] > 0


@register_jitable
def _begin(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
    request: int,
    rank: int,
) -> None:
    """Take the first request out of a rank's queue, as its first chunk runs."""
    step = np.int64(view.clock[STEP])
    state.queue_head[rank] = requests.next_queued[request]
    lanes.queued[rank] -= 1
    if settings.immediate:
        slot = slots.free[state.counters[RUNNING]]
        _admit(view, requests, slots, state, settings, request, rank)
        prompts.slot[request] = slot
        requests.admitted_step[request] = NOT_YET
        state.tokens_waiting[rank] -= requests.prompt_tokens[request]
        lanes.prompt_not_decoding[rank] += requests.prompt_tokens[request]
        grown = min(requests.given_tokens[request], requests.growing_steps[request])
        state.generated[rank] += grown
        lanes.given_not_decoding[rank] += grown
        state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
        _reserve(view, state, settings, prefill, rank)
    else:
        lanes.prompt_bound[rank] -= requests.prompt_tokens[request]
        lanes.given_bound[rank] -= min(requests.given_tokens[request], requests.growing_steps[request])
    if prompts.first_chunk_step[request] == NONE:
        prompts.first_chunk_step[request] = step
    lanes.counts[BEGUN] += 1
    prompts.order[request] = lanes.counts[BEGUN]
    state.counters[LAST_ADMISSION_STEP] = step


@register_jitable
def _run_chunk(requests: Requests, slots: Slots, state: State, lanes: Lanes, slot: int, left: int) -> int:
    """Compute what is left of a prompt, or as many tokens of it as are left in the step; returns how many."""
    request, rank = slots.request[slot], slots.rank[slot]
    before = requests.computed_tokens[request]
    took = min(requests.prefill_tokens[request] - before, left)
    requests.computed_tokens[request] = before + took
    lanes.prefill_tokens[rank] += took
    lanes.prefill_pairs[rank] += took * before + 0.5 * took * took
    state.prefill_pending[rank] -= took
    if before + took < requests.prefill_tokens[request]:
        lanes.partial[rank] = slot
    else:
        if lanes.partial[rank] == slot:
            lanes.partial[rank] = NONE
        lanes.finished[lanes.counts[FINISHED]] = slot
        lanes.counts[FINISHED] += 1
    return int(took)


@register_jitable
def _record_step(
    view: View,
    state: State,
    lanes: Lanes,
    rows: Rows,
    mixed_rows: MixedRows,
    settings: Settings,
    prefill: Prefill,
) -> float:
    """Write the step to the rows; returns the time at which it ends, in ms."""
    row, decoding, largest = state.counters[ROWS], 0, 0
    prefills = lanes.counts[PREFILLED] > 0
    for rank in range(view.dp_size):
        running = 0 if lanes.stalls[rank] else lanes.decoding[rank]
        decoding += running
        largest = max(largest, running)
    pads = prefill.padding == LARGEST or (prefill.padding == HALF_FULL and 2 * decoding >= largest * view.dp_size)
    slowest = 0.0
    for rank in range(view.dp_size):
        tokens, running = 0.0, 0
        if not lanes.stalls[rank]:
            running = lanes.decoding[rank]
            prompts = state.prompt_running[rank] - lanes.prompt_not_decoding[rank]
            tokens = prompts + settings.drift * (state.generated[rank] - lanes.given_not_decoding[rank])
        computed_for = largest if pads and not prefills else running
        rows.kv_tokens[row, rank] = tokens
        rows.num_running[row, rank] = running
        rows.num_waiting[row, rank] = state.num_waiting[rank]
        mixed_rows.prefill_tokens[row, rank] = lanes.prefill_tokens[rank]
        mixed_rows.prefill_pairs[row, rank] = lanes.prefill_pairs[rank]
        mixed_rows.padded_running[row, rank] = computed_for
        rank_ms = mixed_rank_time(
            tokens, computed_for, lanes.prefill_tokens[rank], lanes.prefill_pairs[rank], settings.coefficients_ms
        )
        slowest = max(slowest, state.slowness[rank] * rank_ms)
    step_ms = mixed_step_time(slowest, decoding / view.dp_size, prefills, settings.coefficients_ms)
    mixed_rows.ended_prompts[row] = lanes.counts[FINISHED]
    rows.step_ms[row] = step_ms
    rows.start_ms[row] = view.clock[NOW_MS]
    state.counters[ROWS] += 1
    return float(view.clock[NOW_MS] + step_ms)


@register_jitable
def _advance(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    prefill: Prefill,
    end_ms: float,
) -> None:
    """One token for every decode that did not stall and every prompt that ended; those that are complete leave."""
    for rank in range(view.dp_size):
        if lanes.stalls[rank]:
            view.behind[rank] += 1
        else:
            _advance_round(view, requests, prompts, slots, state, lanes, settings, end_ms, rank)
    for index in range(lanes.counts[FINISHED]):
        _start_decoding(view, requests, prompts, slots, state, lanes, settings, end_ms, lanes.finished[index])
    for rank in range(view.dp_size):
        state.kv_tokens[rank] = state.prompt_running[rank] + settings.drift * state.generated[rank]
        _reserve(view, state, settings, prefill, rank)


@register_jitable
def _advance_round(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    end_ms: float,
    rank: int,
) -> None:
    """One token more for all that decode on a rank."""
    this_round = np.int64(view.clock[STEP]) - view.behind[rank]
    bucket = this_round % lanes.ending.shape[1]
    state.generated[rank] += state.growing[rank]
    slot = lanes.grown[rank, bucket]
    lanes.grown[rank, bucket] = NONE
    while slot != NONE:
        following = slots.next_grown[slot]
        request = slots.request[slot]
        if requests.admitted_step[request] + requests.growing_steps[request] - 1 == this_round:
            state.growing[rank] -= 1
        else:
            slots.next_grown[slot] = lanes.grown[rank, bucket]
            lanes.grown[rank, bucket] = slot
        slot = following
    slot = lanes.ending[rank, bucket]
    lanes.ending[rank, bucket] = NONE
    while slot != NONE:
        following = slots.next_ending[slot]
        request = slots.request[slot]
        if requests.admitted_step[request] + requests.output_tokens[request] - 1 == this_round:
            if slots.grows_to_the_end[slot]:
                state.growing[rank] -= 1
            lanes.decoding[rank] -= 1
            _leave(view, requests, prompts, slots, state, settings, end_ms, slot)
        else:
            slots.next_ending[slot] = lanes.ending[rank, bucket]
            lanes.ending[rank, bucket] = slot
        slot = following


@register_jitable
def _start_decoding(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    lanes: Lanes,
    settings: Settings,
    end_ms: float,
    slot: int,
) -> None:
    """Give a request whose prompt has ended its first token, and let it decode from the rank's next round on."""
    request, rank = slots.request[slot], slots.rank[slot]
    step = np.int64(view.clock[STEP])
    output, growing = requests.output_tokens[request], requests.growing_steps[request]
    lanes.prompt_not_decoding[rank] -= slots.prompt_tokens[slot]
    lanes.given_not_decoding[rank] -= min(requests.given_tokens[request], growing)
    given = requests.given_tokens[request] + 1
    if given == 1:
        prompts.first_token_step[request] = step
    state.generated[rank] += given <= growing
    admitted = step + 1 - view.behind[rank] - given
    requests.admitted_step[request] = admitted
    if given == output:
        _leave(view, requests, prompts, slots, state, settings, end_ms, slot)
        return
    lanes.decoding[rank] += 1
    length = lanes.ending.shape[1]
    if growing > given:
        state.growing[rank] += 1
        if growing < output:
            bucket = (admitted + growing - 1) % length
            slots.next_grown[slot] = lanes.grown[rank, bucket]
            lanes.grown[rank, bucket] = slot
    bucket = (admitted + output - 1) % length
    slots.next_ending[slot] = lanes.ending[rank, bucket]
    lanes.ending[rank, bucket] = slot


@register_jitable
def _leave(
    view: View,
    requests: Requests,
    prompts: Prompts,
    slots: Slots,
    state: State,
    settings: Settings,
    end_ms: float,
    slot: int,
) -> None:
    """A request has all its tokens: its slot is free, and its KV tokens are gone."""
    counters = state.counters
    request, rank = slots.request[slot], slots.rank[slot]
    output = requests.output_tokens[request]
    prompts.last_step[request] = np.int64(view.clock[STEP])
    if len(view.survivors) > 0:  # O(1) per token: only for policies that learn lengths
        view.tokens_completed[0] += output
        for age in range(output):
            view.survivors[age] += 1
    view.inflight[rank] -= 1
    state.num_running[rank] -= 1
    state.prompt_running[rank] -= slots.prompt_tokens[slot]
    state.generated[rank] -= slots.generates[slot]
    state.reserved[rank] -= slots.reserved_tokens[slot]
    if settings.sessions:
        _let_followers_join(requests, state, request, end_ms)
    counters[COMPLETED] += 1
    counters[RUNNING] -= 1
    slots.free[counters[RUNNING]] = slot
    slots.request[slot] = NONE

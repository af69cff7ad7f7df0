"""The pass over steps that fills the accounts: sums of each step and of each rank. Written for compilation.

What is summed up and what the causes are: `accounts.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from lbal.analyzers.barrier.step_time import Coefficients, rank_time
from lbal.analyzers.jit import without_references
from lbal.analyzers.trace.trace import FloatArray, IntArray

CAUSES = ("empty", "count", "length", "prefill", "speed", "unexplained")
EMPTY, COUNT, LENGTH, PREFILL, SPEED, UNEXPLAINED = range(6)


class PowerCurves(NamedTuple):
    """How power depends on load: what the energy sums of the accounts are taken of. 0 where it does not."""

    n_half: float = 0.0
    """h: requests at which f(n) = n/(n+h) is one half."""
    gamma: float = 0.0
    """Exponent of a rank's load over the largest."""


class StepSums(NamedTuple):
    """Sums of each step over the ranks, shape (S,); causes (S, 6). Meanings: `BarrierAccounts`."""

    idle_ms: FloatArray
    slowest_ms: FloatArray
    max_kv_tokens: FloatArray
    min_kv_tokens: FloatArray
    total_kv_tokens: FloatArray
    running: FloatArray
    max_running: FloatArray
    min_running: FloatArray
    straggler: IntArray
    straggler_kv_tokens: FloatArray
    power_curve: FloatArray
    power_curve_idle_ms: FloatArray
    power_curve_prefill_ms: FloatArray
    load_curve: FloatArray
    prefill_tokens: FloatArray
    prefill_ms: FloatArray
    padding_ms: FloatArray
    causes_ms: FloatArray


MIXED = ("power_curve_prefill_ms", "prefill_tokens", "prefill_ms", "padding_ms")
"""Sums that are filled only where there is prefill or padding."""


class RankSums(NamedTuple):
    """Sums of each rank over the steps, shape (G,); causes (G, 6). Meanings: `BarrierAccounts`."""

    idle_ms: FloatArray
    straggler: FloatArray
    empty: FloatArray
    kv_tokens: FloatArray
    running: FloatArray
    prefill_tokens: FloatArray
    prefill_ms: FloatArray
    padding_ms: FloatArray
    causes_ms: FloatArray


class Work(NamedTuple):
    """What the ranks had to do, shape (S, G), and what tells their times."""

    tokens: FloatArray
    running: FloatArray
    measured_ms: FloatArray
    """Rank times; read only where `measured`."""
    measured: bool
    prefill_tokens: FloatArray
    """This and the next two are those of `MixedWork`; read only where `mixed` is not empty."""
    prefill_ms: FloatArray
    padding_ms: FloatArray
    mixed: tuple[bool, ...]
    """Empty where no rank prefills or is padded. The compiler knows its length, so they cost nothing there."""
    coefficients_ms: Coefficients
    slowness: FloatArray
    """(G,)"""
    curves: PowerCurves


class Whole(NamedTuple):
    """A step over all ranks: what the accounts of each rank are taken against."""

    tokens: float
    running: float
    max_tokens: float
    min_tokens: float
    max_running: float
    min_running: float
    slowest: float
    """The largest rank time."""
    slowest_modelled: float
    slowest_plain: float
    """The largest modelled one if all ranks had speed 1."""
    slowest_decode: float
    """The same without prefill; 0 where nothing is mixed."""
    straggler: int


class RankTimes(NamedTuple):
    """The time of a rank in a step, in ms."""

    decode: float
    """Modelled, of a rank of speed 1, for its decodes and padding."""
    plain: float
    """The same with prefill."""
    modelled: float
    """The same at the speed of the rank."""
    took: float
    """The one that counts: measured or modelled."""


def rank_times(work: Work, step: int, rank: int) -> RankTimes:
    """The times of a rank. Written for compilation."""
    decode = rank_time(work.tokens[step, rank], work.running[step, rank], work.coefficients_ms)
    plain = decode
    if len(work.mixed):
        decode += work.padding_ms[step, rank]
        plain = decode + work.prefill_ms[step, rank]
    modelled = work.slowness[rank] * plain
    return RankTimes(decode, plain, modelled, work.measured_ms[step, rank] if work.measured else modelled)


def time_by_count(work: Work, step: int, rank: int, per_request_ms: float) -> float:
    """What a rank would take in ms if all its requests had the mean length. Written for compilation."""
    by_count: float = per_request_ms * work.running[step, rank]
    if len(work.mixed):
        by_count += work.padding_ms[step, rank]
    return by_count


def works(work: Work, step: int, rank: int) -> bool:
    """Whether a rank has work of its own, decodes or prefill. Written for compilation."""
    is_prefilling = len(work.mixed) > 0 and work.prefill_tokens[step, rank] > 0
    return bool(is_prefilling or work.running[step, rank] > 0)


def whole_step(work: Work, step: int) -> Whole:
    """Sums and maxima of a step over the ranks. Written for compilation."""
    tokens, running = 0.0, 0.0
    max_tokens, min_tokens, max_running, min_running = 0.0, np.inf, 0.0, np.inf
    slowest, slowest_modelled, slowest_plain, slowest_decode, straggler = -1.0, 0.0, 0.0, 0.0, 0
    for rank in range(work.tokens.shape[1]):
        times = rank_times(work, step, rank)
        tokens += work.tokens[step, rank]
        running += work.running[step, rank]
        max_tokens = max(max_tokens, work.tokens[step, rank])
        min_tokens = min(min_tokens, work.tokens[step, rank])
        max_running = max(max_running, work.running[step, rank])
        min_running = min(min_running, work.running[step, rank])
        if len(work.mixed):
            slowest_decode = max(slowest_decode, times.decode)
        slowest_plain = max(slowest_plain, times.plain)
        slowest_modelled = max(slowest_modelled, times.modelled)
        if times.took > slowest:
            slowest, straggler = times.took, rank
    loads = (tokens, running, max_tokens, min_tokens, max_running, min_running)
    return Whole(*loads, slowest, slowest_modelled, slowest_plain, slowest_decode, straggler)


def add_ranks(work: Work, step: int, whole: Whole, by_step: StepSums, by_rank: RankSums) -> None:
    """Split the idle of every rank by cause; add it to the rank and to the step. Written for compilation."""
    ranks = work.tokens.shape[1]
    mean_length = whole.tokens / whole.running if whole.running > 0 else 0.0
    per_request_ms = rank_time(mean_length, 1.0, work.coefficients_ms)
    slowest_by_count, equals = 0.0, 0
    for rank in range(ranks):
        slowest_by_count = max(slowest_by_count, time_by_count(work, step, rank, per_request_ms))
        equals += rank_times(work, step, rank).took == whole.slowest
    total_idle, total_empty, total_count, total_modelled = 0.0, 0.0, 0.0, 0.0
    total_plain, total_decode = 0.0, 0.0
    for rank in range(ranks):
        times = rank_times(work, step, rank)
        idle, modelled_idle = whole.slowest - times.took, whole.slowest_modelled - times.modelled
        plain_idle = whole.slowest_plain - times.plain
        decode_idle = whole.slowest_decode - times.decode if len(work.mixed) else plain_idle
        total_idle += idle
        total_modelled += modelled_idle
        total_plain += plain_idle
        by_rank.idle_ms[rank] += idle
        by_rank.kv_tokens[rank] += work.tokens[step, rank]
        by_rank.running[rank] += work.running[step, rank]
        if modelled_idle != plain_idle:
            by_rank.causes_ms[rank, SPEED] += modelled_idle - plain_idle
        by_rank.causes_ms[rank, UNEXPLAINED] += idle - modelled_idle
        if len(work.mixed):
            by_rank.causes_ms[rank, PREFILL] += plain_idle - decode_idle
            total_decode += decode_idle
        if times.took == whole.slowest:
            by_rank.straggler[rank] += 1.0 / equals
        if works(work, step, rank):
            count = slowest_by_count - time_by_count(work, step, rank, per_request_ms)
            total_count += count
            by_rank.causes_ms[rank, COUNT] += count
            by_rank.causes_ms[rank, LENGTH] += decode_idle - count
        else:
            total_empty += decode_idle
            by_rank.empty[rank] += 1.0
            by_rank.causes_ms[rank, EMPTY] += decode_idle
    if not len(work.mixed):
        total_decode = total_plain
    by_step.idle_ms[step] = total_idle
    by_step.causes_ms[step, EMPTY] = total_empty
    by_step.causes_ms[step, COUNT] = total_count
    by_step.causes_ms[step, LENGTH] = total_decode - total_empty - total_count
    by_step.causes_ms[step, PREFILL] = total_plain - total_decode
    by_step.causes_ms[step, SPEED] = total_modelled - total_plain
    by_step.causes_ms[step, UNEXPLAINED] = total_idle - total_modelled


def add_curves(work: Work, step: int, whole: Whole, by_step: StepSums) -> None:
    """The sums of a step that energy needs. Written for compilation."""
    n_half, gamma = work.curves.n_half, work.curves.gamma
    power_curve, power_curve_idle, load_curve = 0.0, 0.0, 0.0
    if n_half > 0:
        for rank in range(work.tokens.shape[1]):
            active = work.running[step, rank]
            share = active / (active + n_half)
            power_curve += share
            power_curve_idle += share * (whole.slowest - rank_times(work, step, rank).took)
    if gamma > 0 and whole.max_tokens > 0:
        for rank in range(work.tokens.shape[1]):
            load_curve += (work.tokens[step, rank] / whole.max_tokens) ** gamma
    by_step.power_curve[step] = power_curve
    by_step.power_curve_idle_ms[step] = power_curve_idle
    by_step.load_curve[step] = load_curve


def add_mixed(work: Work, step: int, by_step: StepSums, by_rank: RankSums) -> None:
    """The prefill and the padding of a step. Written for compilation."""
    tokens, prefill_ms, padding_ms, curve_ms = 0.0, 0.0, 0.0, 0.0
    for rank in range(work.tokens.shape[1]):
        prefilled_ms = work.slowness[rank] * work.prefill_ms[step, rank]
        padded_ms = work.slowness[rank] * work.padding_ms[step, rank]
        tokens += work.prefill_tokens[step, rank]
        prefill_ms += prefilled_ms
        padding_ms += padded_ms
        by_rank.prefill_tokens[rank] += work.prefill_tokens[step, rank]
        by_rank.prefill_ms[rank] += prefilled_ms
        by_rank.padding_ms[rank] += padded_ms
        if work.curves.n_half > 0:
            active = work.running[step, rank]
            curve_ms += active / (active + work.curves.n_half) * prefilled_ms
    by_step.prefill_tokens[step] = tokens
    by_step.prefill_ms[step] = prefill_ms
    by_step.padding_ms[step] = padding_ms
    by_step.power_curve_prefill_ms[step] = curve_ms


def sum_up(
    tokens: FloatArray,
    running: FloatArray,
    measured_ms: FloatArray,
    measured: bool,
    prefill_tokens: FloatArray,
    prefill_ms: FloatArray,
    padding_ms: FloatArray,
    mixed: tuple[bool, ...],
    coefficients_ms: Coefficients,
    slowness: FloatArray,
    curves: PowerCurves,
    by_step: StepSums,
    by_rank: RankSums,
) -> None:
    """One pass over the steps: fills `by_step` and adds to `by_rank`. Written for compilation.

    Sums of prefill and padding are left as they are where there is none.
    The arguments are the fields of `Work`, apart because the loads may be arrays that cannot be written.
    """
    beside = (prefill_tokens, prefill_ms, padding_ms, mixed)
    work = Work(tokens, running, measured_ms, measured, *beside, coefficients_ms, slowness, curves)
    for step in range(work.tokens.shape[0]):
        whole = whole_step(work, step)
        add_ranks(work, step, whole, by_step, by_rank)
        add_curves(work, step, whole, by_step)
        if len(mixed):
            add_mixed(work, step, by_step, by_rank)
        by_step.slowest_ms[step] = whole.slowest
        by_step.max_kv_tokens[step] = whole.max_tokens
        by_step.min_kv_tokens[step] = whole.min_tokens
        by_step.total_kv_tokens[step] = whole.tokens
        by_step.running[step] = whole.running
        by_step.max_running[step] = whole.max_running
        by_step.min_running[step] = whole.min_running
        by_step.straggler[step] = whole.straggler
        by_step.straggler_kv_tokens[step] = work.tokens[step, whole.straggler]


def sum_up_mixed(
    tokens: FloatArray,
    running: FloatArray,
    measured_ms: FloatArray,
    measured: bool,
    prefill_tokens: FloatArray,
    prefill_ms: FloatArray,
    padding_ms: FloatArray,
    mixed: tuple[bool, ...],
    coefficients_ms: Coefficients,
    slowness: FloatArray,
    curves: PowerCurves,
    by_step: StepSums,
    by_rank: RankSums,
) -> None:
    """`sum_up` where ranks prefill or are padded. Written for compilation.

    A function of its own, as the cache on disk of one with two signatures goes wrong where two processes fill it.
    """
    beside = (prefill_tokens, prefill_ms, padding_ms, mixed)
    sum_up(tokens, running, measured_ms, measured, *beside, coefficients_ms, slowness, curves, by_step, by_rank)


@cache
def compiled_pass(*, mixed: bool) -> Any:
    """`sum_up`, compiled for steps with prefill or padding, or for those without."""
    from numba import types

    record: Any = types.NamedTuple
    flags: Any = types.Tuple
    alike: Any = types.NamedUniTuple
    loads = types.Array(types.float64, 2, "C", readonly=True)
    floats, integers = types.Array(types.float64, 1, "C"), types.Array(types.int64, 1, "C")
    matrix = types.Array(types.float64, 2, "C")
    coefficients = alike(types.float64, len(Coefficients._fields), Coefficients)
    curves = alike(types.float64, len(PowerCurves._fields), PowerCurves)
    kinds = {"causes_ms": matrix, "straggler": integers}
    by_step = record([kinds.get(name, floats) for name in StepSums._fields], StepSums)
    by_rank = record([matrix if name == "causes_ms" else floats for name in RankSums._fields], RankSums)
    parts = (rank_times, time_by_count, works, whole_step, add_ranks, add_curves, add_mixed)
    beside = (loads, loads, loads, flags([types.boolean] * mixed))
    return without_references(
        sum_up_mixed if mixed else sum_up,
        types.void(loads, loads, loads, types.boolean, *beside, coefficients, floats, curves, by_step, by_rank),
        helpers=(rank_time, *parts, sum_up) if mixed else (rank_time, *parts),
    )

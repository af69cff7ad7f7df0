"""Ranks that count their own passes: do equal numbers stand for one and the same pass, and if not, which are of one?"""

from __future__ import annotations

import numpy as np

from lbal.analyzers.trace.trace import FloatArray, IntArray


def numbers_agree(rank: FloatArray, step: FloatArray, time_ms: FloatArray) -> bool:
    """Whether records of one number are of one time, by one clock: within half the usual time of a pass, mostly.

    Each rank is held against the one with the most records. Without times, or with one rank, they agree.
    """
    known = ~(np.isnan(rank) | np.isnan(step) | np.isnan(time_ms))
    rank, step, time_ms = rank[known], step[known], time_ms[known]
    if len(np.unique(rank)) < 2:
        return True
    most, usual_ms = _most(rank), usual_gap_ms(rank, time_ms)
    numbers, first = np.unique(step[most], return_index=True)
    moments = time_ms[most][first]
    for one in np.unique(rank):
        own = rank == one
        _, at, own_at = np.intersect1d(numbers, step[own], return_indices=True)
        if not len(at):
            return False
        if np.median(np.abs(moments[at] - time_ms[own][own_at])) > usual_ms / 2:
            return False
    return True


def passes_by_time(rank: FloatArray, time_ms: FloatArray) -> FloatArray:
    """A number for each record, the same for those of one pass: near in time, and one of each rank; NaN without a time.

    A pass begins where a rank comes again, and half the usual time of a pass after the first record of the last one.
    """
    numbers = np.full(len(rank), np.nan)
    longest_ms, order = usual_gap_ms(rank, time_ms) / 2, np.argsort(time_ms, kind="stable")
    number, began, seen = -1, -np.inf, set[float]()
    for index in order[: len(order) - int(np.isnan(time_ms).sum())].tolist():
        one, moment = float(rank[index]), float(time_ms[index])
        if one in seen or moment - began > longest_ms:
            number, began, seen = number + 1, moment, set()
        seen.add(one)
        numbers[index] = number
    return numbers


def usual_gap_ms(rank: FloatArray, time_ms: FloatArray) -> float:
    """The median time from one record to the next of the rank with the most records; infinite with a single one."""
    gaps = np.diff(np.sort(time_ms[_most(rank)]))
    return float(np.nanmedian(gaps)) if np.isfinite(gaps).any() else np.inf


def _most(rank: FloatArray) -> IntArray:
    """The places of the records of the rank with the most of them."""
    ranks, counts = np.unique(rank, return_counts=True)
    return np.flatnonzero(rank == ranks[np.argmax(counts)])

"""Times between the tokens of requests, exact without a list of all tokens.

A request has a token with each of o consecutive rounds: all steps, or the steps in which its rank decodes. So how often
a round ends a gap follows from where requests begin and end, and the longest gap of each from maxima over powers of
two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray


@dataclass(frozen=True)
class TokenGaps:
    """The gaps of N requests."""

    gap_ms: FloatArray
    """Lengths that occur."""
    count: IntArray
    """How often each does."""
    longest_ms: FloatArray
    """(N,) the longest gap of each request; NaN for one of a single token, which has none."""

    def percentile(self, rank: float) -> float:
        """That percentile of all gaps, interpolated between the two nearest as `numpy.percentile` does."""
        order = np.argsort(self.gap_ms, kind="stable")
        values, upto = self.gap_ms[order], np.cumsum(self.count[order])
        place = rank / 100 * (int(upto[-1]) - 1)
        below, above = values[np.searchsorted(upto, [int(place), int(np.ceil(place))], side="right")]
        return float(below + (above - below) * (place - int(place)))


@dataclass(frozen=True)
class TokenSteps:
    """The steps with whose ends N requests give their first and their last tokens, and how many; shape (N,)."""

    first: IntArray
    last: IntArray
    tokens: IntArray
    rank: IntArray


def token_gaps(end_ms: FloatArray, steps: TokenSteps, stalled: NDArray[np.bool_] | None) -> TokenGaps | None:
    """The gaps of requests that give their tokens with the ends of steps: the first, then one with each round after it.

    `stalled`, of shape (S, G), tells in which steps the decodes of a rank stand still; None where they never do. None
    where a request ends with another round than that: it was interrupted, and its rounds are not known.
    """
    longest = np.full(len(steps.tokens), np.nan)
    gaps, counts = [np.zeros(0)], [np.zeros(0, np.int64)]
    has_gaps = steps.tokens > 1
    lanes = [(has_gaps, np.arange(len(end_ms)))]
    if stalled is not None:
        lanes = [(has_gaps & (steps.rank == g), np.flatnonzero(~stalled[:, g])) for g in range(stalled.shape[1])]
    for of_lane, rounds in lanes:
        first, last, tokens = (values[of_lane] for values in (steps.first, steps.last, steps.tokens))
        second = np.searchsorted(rounds, first, side="right")
        stop = second + tokens - 1
        if (stop > len(rounds)).any() or (rounds[stop - 1] != last).any():
            return None
        to_second = end_ms[rounds[second]] - end_ms[first]
        between = np.diff(end_ms[rounds], prepend=0.0)
        longest[of_lane] = np.fmax(to_second, _largest(between, second + 1, stop))
        gaps += [to_second, between]
        counts += [np.ones(len(to_second), np.int64), _times_covered(second + 1, stop, len(rounds))]
    gap_ms, count = np.concatenate(gaps), np.concatenate(counts)
    return TokenGaps(gap_ms[count > 0], count[count > 0], longest)


def _times_covered(start: IntArray, stop: IntArray, length: int) -> IntArray:
    """(length,) how many of the ranges start..stop-1 each place lies in."""
    change = np.bincount(start, minlength=length + 1) - np.bincount(stop, minlength=length + 1)
    return np.asarray(np.cumsum(change[:length]))


def _largest(values: FloatArray, start: IntArray, stop: IntArray) -> FloatArray:
    """(N,) the largest value in each of the ranges start..stop-1; NaN for an empty one.

    A range is covered by two of a power of two that may overlap, whose maxima are kept for one power at a time.
    """
    length = stop - start
    found = np.full(len(length), np.nan)
    level, width, maxima = 0, 1, values
    power = np.where(length > 0, np.log2(np.maximum(length, 1)).astype(np.int64), -1)
    while width <= length.max(initial=0):
        chosen = power == level
        found[chosen] = np.maximum(maxima[start[chosen]], maxima[stop[chosen] - width])
        maxima = np.maximum(maxima[:-width], maxima[width:])
        level, width = level + 1, 2 * width
    return found

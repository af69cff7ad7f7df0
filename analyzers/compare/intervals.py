"""How sure a mean or a difference is: t intervals over seeds, moving-block bootstrap over steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lbal.analyzers.trace.trace import FloatArray

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964
RESAMPLES = 2000
BLOCKS = 8
FEWEST_BINS = 20
"""With fewer bins a bootstrap over them says nothing."""


class Interval(NamedTuple):
    """Where a figure lies with 95% confidence."""

    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Zero is inside."""
        return self.low <= 0 <= self.high


def t_quantile(share: float, degrees: int) -> float:
    """The value that a t distribution stays below with that probability, for whole degrees of freedom.

    By bisection of the closed form (Abramowitz and Stegun, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, 1.0
    while _t_below(high, degrees) < share:
        low, high = high, high * 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def _t_below(value: float, degrees: int) -> float:
    odd = degrees % 2
    angle = math.atan(value / math.sqrt(degrees))
    cosine = math.cos(angle)
    term, total = (cosine if odd else 1.0), 0.0
    for index in range(degrees // 2):
        total += term
        term *= cosine**2 * (2 * index + 1 + odd) / (2 * index + 2 + odd)
    inside = 2 / math.pi * (angle + total * math.sin(angle)) if odd else total * math.sin(angle)
    return (1 + inside) / 2


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The 95% t interval of the mean of independent values; None for fewer than two, or where one is unknown."""
    found = np.asarray(values, np.float64)
    if len(found) < 2 or not np.isfinite(found).all():
        return None
    spread = float(found.std(ddof=1)) / math.sqrt(len(found)) * t_quantile((1 + CONFIDENCE) / 2, len(found) - 1)
    return Interval(float(found.mean()) - spread, float(found.mean()) + spread)


class Blocks(NamedTuple):
    """Where the blocks of each resample begin, and how long they are; the same for all that is paired."""

    starts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    length: int

    @classmethod
    def drawn(cls, bins: int, seed: int, resamples: int = RESAMPLES) -> Blocks:
        """Moving blocks of an eighth of the run, as many as fill one: load stays for as long as requests do."""
        length = max(1, bins // BLOCKS)
        count = -(-bins // length)
        starts = np.random.default_rng(seed).integers(0, bins - length + 1, size=(resamples, count))
        return cls(starts, length)

    @property
    def widening(self) -> float:
        """How much wider an interval must be than resampled values are: see `percentile_interval`."""
        count = self.starts.shape[1]
        if count < 2:
            return math.inf
        return t_quantile((1 + CONFIDENCE) / 2, count - 1) / NORMAL_QUANTILE * math.sqrt(count / (count - 1))

    def sums(self, values: FloatArray) -> FloatArray:
        """(R,) the sum of a column in each resample."""
        running = np.concatenate([[0.0], np.cumsum(values)])
        return np.asarray((running[self.starts + self.length] - running[self.starts]).sum(axis=1))


def bootstrap(columns: Mapping[str, FloatArray], blocks: Blocks, ratio: tuple[str, str]) -> FloatArray:
    """(R,) a ratio of two sums in each resample, over the ratio in the run itself; NaN where that is 0 / 0."""
    above, below = (columns[name] for name in ratio)
    whole = float(above.sum() / below.sum()) if below.sum() else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(blocks.sums(above) / blocks.sums(below) / whole)


def percentile_interval(values: FloatArray, centre: float, blocks: Blocks) -> Interval | None:
    """The middle 95% of resampled values around the figure itself, widened for few blocks; None without numbers.

    With k blocks resampled values spread too little, by sqrt((k - 1)/k), and their tails are too short: the factor is
    that of a t interval with k - 1 degrees of freedom over a normal one, over that square root.
    """
    if not np.isfinite(values).all():
        return None
    ends = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    low, high = centre + (ends - centre) * blocks.widening
    return Interval(float(low), float(high))

"""Student's t distribution, and the interval of a mean of independent values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959964


class Interval(NamedTuple):
    """Where a figure lies with 95% confidence."""

    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Zero is inside."""
        return self.low <= 0 <= self.high


class Estimate(NamedTuple):
    """How sure a value is."""

    interval: Interval
    p_value: float
    """The probability of a value so far from 0 if the truth is 0."""


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


def t_beyond(value: float, degrees: int) -> float:
    """The probability that a t distribution lies at least that far from 0, on either side."""
    return 2 * (1 - _t_below(abs(value), degrees)) if math.isfinite(value) else 0.0


def mean_interval(values: Sequence[float]) -> Interval | None:
    """The 95% t interval of the mean of independent values; None where `mean_estimate` has none."""
    found = mean_estimate(values)
    return None if isinstance(found, str) else found.interval


def mean_estimate(values: Sequence[float]) -> Estimate | str:
    """The mean of independent values with its t interval; why there is none, if so.

    There is none for fewer than two values, where one is unknown, and where all are the same: then nothing was drawn
    that they could differ by.
    """
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return "one value only"
    if not np.isfinite(found).all():
        return "unknown for some seeds"
    if (found == found[0]).all():
        return "all seeds give the same: nothing was drawn that tells how sure it is"
    mean, degrees = float(found.mean()), len(found) - 1
    deviation = float(found.std(ddof=1)) / math.sqrt(len(found))
    half = deviation * t_quantile((1 + CONFIDENCE) / 2, degrees)
    return Estimate(Interval(mean - half, mean + half), t_beyond(mean / deviation, degrees))

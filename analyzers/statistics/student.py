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
    """The 95% t interval of the mean of independent values; None for fewer than two, or where one is unknown."""
    found = np.asarray(values, np.float64)
    if len(found) < 2 or not np.isfinite(found).all():
        return None
    spread = float(found.std(ddof=1)) / math.sqrt(len(found)) * t_quantile((1 + CONFIDENCE) / 2, len(found) - 1)
    return Interval(float(found.mean()) - spread, float(found.mean()) + spread)

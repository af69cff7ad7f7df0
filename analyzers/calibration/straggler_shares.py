"""Which rank is the straggler of a step, if rank times vary: the expected largest rank time and who it is of.

With rank times m_g * (1 + s*e_g), e_g independent and standard normal, the largest one is expected to be the sum over
the ranks of q_g * m_g, with the shares

    q_g = E[(1 + s*e_g) where g is the straggler]

They are also its derivatives by m_g, so that a fit of largest rank times is a fit of these sums. Without noise (s = 0)
the straggler has the share 1. With noise the sum exceeds the largest m_g: the slower of several equals waits for none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lbal.analyzers.trace.trace import FloatArray

SPACING, LOWEST, HIGHEST = 0.4, -3.6, 4.6
"""The places of the integral over the largest time, in standard deviations around the largest m_g."""
MOST_NOISE = 0.6


class Shares(NamedTuple):
    """What is expected of the largest rank time of each of S steps."""

    of_rank: FloatArray
    """(S, G) q_g."""
    variance: FloatArray
    """(S,) of the largest rank time, in the square of the unit of the rank times."""


def straggler_shares(rank_ms: FloatArray, noise: float = 0.0) -> Shares:
    """The shares for rank times of shape (S, G), at least 0, that vary by `noise` of themselves (one deviation).

    Integrated numerically, with the normal distribution function to 3e-4 (Page, 1977).
    """
    rows, shares = np.arange(len(rank_ms)), np.zeros_like(rank_ms)
    if noise <= 0:
        shares[rows, rank_ms.argmax(axis=1)] = 1.0
        return Shares(shares, np.zeros(len(rank_ms)))
    mean = np.maximum(rank_ms, 1e-9 * max(float(rank_ms.max()), 1e-9))
    top, deviation = mean.max(axis=1), noise * mean
    sums = np.zeros((3, len(rank_ms)))
    for place in np.arange(LOWEST, HIGHEST, SPACING):
        largest = top * (1 + noise * place)
        scaled = (largest[:, None] - mean) / deviation
        below = np.clip(0.5 + 0.5 * np.tanh(math.sqrt(2 / math.pi) * (scaled + 0.044715 * scaled**3)), 1e-12, 1.0)
        density = np.exp(-(scaled**2) / 2) / deviation * (below.prod(axis=1) * top)[:, None] / below
        shares += density * largest[:, None] / mean
        sums += density.sum(axis=1) * [np.ones_like(largest), largest, largest**2]
    expected = sums[1] / sums[0]
    return Shares(shares / sums[0][:, None], np.maximum(sums[2] / sums[0] - expected**2, 0.0))

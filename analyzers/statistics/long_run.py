"""The interval of a sum over steps that remember the steps before them.

The residuals of a run are cut into n stretches z_1 … z_n whose sum is 0. The variance of the sum that they were drawn
from is n times the mean of the squares of the nu lowest cosine coefficients

    sqrt(2/n) * sum over i of z_i * cos(pi*j*(i - 1/2)/n),   j = 1 … nu,

and (estimate - truth) / deviation follows Student's t with nu degrees of freedom (Mueller, HAC corrections for strongly
autocorrelated time series, 2014; Lazarus, Lewis, Stock and Watson, 2018). That needs a spectrum that is flat over
these frequencies, so a cosine has to be slow against the memory: nu = n / (3 * memory). The memory, the number of
stretches that count as one independent one, is the largest of

- that of the requests: a request that is active at some moment stays for E[o^2]/E[o] steps in all, and the load of
  requests that come and go at random remembers as long (the integral of its autocorrelation, both sides);
- (1 + r)/(1 - r) with r the first autocorrelation of the residuals, with its bias taken out (Kendall, 1954)
  and a standard error added;
- the sum of the autocorrelations up to the window of Sokal (1997), which sees slower memories too.
"""

from __future__ import annotations

import math

import numpy as np

from lbal.analyzers.statistics.student import CONFIDENCE, Estimate, Interval, t_beyond, t_quantile
from lbal.analyzers.trace.trace import FloatArray

FEWEST_COSINES, MOST_COSINES = 2, 24
MEMORIES_OF_A_COSINE = 3
LEAST_LENGTH = FEWEST_COSINES * MEMORIES_OF_A_COSINE
"""A run must last for as many memories."""
SOKAL = 5
FEWEST_STRETCHES = 100
"""Fewer do not tell how long they remember."""
MOST_CORRELATION = 0.99
ROUNDING = 1e-12


def memory(residuals: FloatArray) -> float:
    """The number of stretches that count as one independent one, by the residuals alone; at least 1."""
    count = len(residuals)
    centred = residuals - residuals.mean()
    power = np.abs(np.fft.rfft(centred, 2 * count)) ** 2
    covariance = np.fft.irfft(power)[:count]
    if covariance[0] <= 0:
        return 1.0
    correlation = covariance / covariance[0]
    first = min(_first_correlation(float(correlation[1]), count), MOST_CORRELATION) if count > 1 else 0.0
    summed = 2 * np.cumsum(correlation) - 1
    window = np.flatnonzero(np.arange(count) >= SOKAL * summed)
    sokal = float(summed[window[0]]) if len(window) else float(summed.max())
    return max(1.0, (1 + first) / (1 - first), sokal)


def _first_correlation(found: float, count: int) -> float:
    """With its bias taken out, and a standard error more: too short a memory is the worse mistake."""
    unbiased = found + (1 + 3 * max(found, 0.0)) / count
    return unbiased + math.sqrt(max(1 - unbiased**2, 0.0) / count)


def sum_estimate(value: float, residuals: FloatArray, least_memory: float = 1.0) -> Estimate | str:
    """The interval of a value whose errors are the sum of the residuals; why there is none where they are too few."""
    count = len(residuals)
    if np.abs(residuals).max() <= ROUNDING * abs(value):
        residuals = np.zeros(count)
    remembered = max(memory(residuals), least_memory)
    cosines = min(int(count / (MEMORIES_OF_A_COSINE * remembered)), MOST_COSINES, count - 1)
    if count < FEWEST_STRETCHES:
        return f"too short: {count} stretches, expected at least {FEWEST_STRETCHES}"
    if cosines < FEWEST_COSINES:
        return (
            f"too short: the run is {count / remembered:.1f} times as long as its load is remembered, "
            f"expected at least {LEAST_LENGTH}"
        )
    angle = math.pi / count * (np.arange(count) + 0.5)
    waves = np.cos(np.arange(1, cosines + 1)[:, None] * angle)
    deviation = math.sqrt(2 * float(((waves @ residuals) ** 2).mean()))
    half = t_quantile((1 + CONFIDENCE) / 2, cosines) * deviation
    p_value = t_beyond(value / deviation, cosines) if deviation else float(not value)
    return Estimate(Interval(value - half, value + half), p_value)


def holm(p_values: list[float], level: float = 1 - CONFIDENCE) -> list[bool]:
    """Which of several hypotheses are refused, so that one true one among them is refused at most at the level.

    Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    refused = [False] * len(p_values)
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > level / (len(p_values) - place):
            break
        refused[index] = True
    return refused

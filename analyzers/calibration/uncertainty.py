"""How sure the coefficients and the factors of a fit are.

The scores of the observations are added up over blocks of consecutive steps, so that noise may be correlated from step
to step and from rank to rank of a step. With u_k what leaving out block k moves the fit by, and B blocks, the fit
varies like

    sum over k of xi_k * u_k * sqrt(B/(B - 1)),   xi_k independent and standard normal

(a jackknife over clusters, drawn by multipliers). It is drawn, because factors are relative to their
median; intervals are the middle 95% of the draws, widened by the t quantile of B - 1 degrees of freedom over the
normal one.

Step times alone do not tell whether what they scatter by is noise of C or of the rank times; noise of rank times makes
the largest of them longer (`straggler_shares.py`). The fit is made for either extreme, no such noise and nothing else,
and intervals reach from the lower end of the one to the upper end of the other.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lbal.analyzers.calibration.rank_sums import NAMES, Arrow, RankSums, dropped, normalised, reference_factor
from lbal.analyzers.calibration.robust_fit import TUKEY, RobustFit, robust_scale
from lbal.analyzers.calibration.step_times import StepTimesFit, fit_of
from lbal.analyzers.statistics.student import CONFIDENCE, NORMAL_QUANTILE, t_quantile
from lbal.analyzers.trace.trace import FloatArray, IntArray

BLOCKS, DRAWS = 40, 1000
LEAST_BLOCK = 5
"""Steps of a block, at least."""
ROUNDING = 1e-9
"""No fitted value is surer than this share of itself."""


class Interval(NamedTuple):
    """A fitted value with its 95% interval."""

    value: float
    low: float
    high: float


class Uncertainty(NamedTuple):
    """How sure a fit is."""

    coefficients: dict[str, Interval]
    """By name, in seconds."""
    factors: list[Interval | None]
    """Of each rank; None where none is fitted."""
    most_noise: float = 0.0
    """Of step times alone: the noise of rank times, as a share, that the intervals allow for."""


def uncertainty(fit: RobustFit) -> Uncertainty:
    """The coefficients and the factors of the ranks with their intervals."""
    return _of_step_times(fit) if fit.steps.compute_ms is None else _of_rank_times(fit)


def _of_rank_times(fit: RobustFit) -> Uncertainty:
    steps = len(fit.steps)
    blocks = max(2, min(BLOCKS, steps // LEAST_BLOCK))
    block = fit.step_row * blocks // steps
    moved, turned = _influence(fit, block, blocks)
    draws = _draws(blocks)
    coefficients, factors = fit.coefficients + draws @ moved, fit.factor + draws @ turned
    for row in range(DRAWS):
        factors[row], scale = normalised(factors[row], fit.is_free)
        coefficients[row, 1:] *= scale
    coefficients[:, 0] += fit.extra_ms + _extra_draws(fit, draws, blocks)
    values = fit.coefficients.copy()
    values[0] += fit.extra_ms
    widening = _widening(blocks)
    found = {NAMES[index]: _interval(values[index], coefficients[:, index], widening, 1e-3) for index in _present(fit)}
    return Uncertainty(found, [_interval(value, factors[:, rank], widening) for rank, value in enumerate(fit.factor)])


def _of_step_times(fit: RobustFit) -> Uncertainty:
    steady = fit_of(fit)
    noise = steady.most_noise()
    ends = [_ends(each) for each in (steady, replace(steady, noise=noise).settled())]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    values = np.concatenate([fit.coefficients, fit.factor])
    found = [
        Interval(*each) for each in zip(values.tolist(), np.maximum(low, 0.0).tolist(), high.tolist(), strict=True)
    ]
    coefficients = {NAMES[index]: Interval(*(end * 1e-3 for end in found[index])) for index in _present(fit)}
    factors = [found[len(fit.coefficients) + rank] if free else None for rank, free in enumerate(fit.is_free)]
    return Uncertainty(coefficients, factors, noise)


def _ends(fit: StepTimesFit) -> tuple[FloatArray, FloatArray]:
    """(K + G,) low and high ends of the coefficients in ms, then of the factors."""
    moved, turned = fit.influence(_mean_slope(fit.residual))
    draws = _draws(len(moved))
    coefficients, factors = fit.coefficients + draws @ moved, fit.factor + draws @ turned
    values = []
    for slopes, ranks in zip([fit.coefficients, *coefficients], [fit.factor, *factors], strict=True):
        scale = reference_factor(ranks)
        values.append(np.concatenate([slopes[:1], slopes[1:] * scale, ranks / scale]))
    found = [
        _interval(value, drawn, _widening(len(moved)))
        for value, drawn in zip(values[0], np.transpose(values[1:]), strict=True)
    ]
    return np.array([each.low for each in found]), np.array([each.high for each in found])


def _draws(blocks: int) -> FloatArray:
    """(DRAWS, B) multipliers of the blocks."""
    return np.random.default_rng(0).standard_normal((DRAWS, blocks)) * math.sqrt(blocks / (blocks - 1))


def _widening(blocks: int) -> float:
    return t_quantile((1 + CONFIDENCE) / 2, blocks - 1) / NORMAL_QUANTILE


def _present(fit: RobustFit) -> list[int]:
    """The coefficients whose load is there."""
    return [0, *[index for index in range(1, fit.loads.shape[1]) if fit.loads[:, index].any()]]


def _interval(value: float, draws: FloatArray, widening: float, unit: float = 1.0) -> Interval:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    rounding = ROUNDING * abs(value)
    ends = (
        max(value + min(low - value, 0.0) * widening - rounding, 0.0),
        value + max(high - value, 0.0) * widening + rounding,
    )
    return Interval(float(value) * unit, float(ends[0]) * unit, float(ends[1]) * unit)


def _influence(fit: RobustFit, block: IntArray, blocks: int) -> tuple[FloatArray, FloatArray]:
    """(B, K) and (B, G) what leaving out each block moves coefficients and factors by."""
    fitted = fit.fitted_ms()
    weight = fit.weight / fitted**2 * ~dropped(fit.rank, fit.is_free)
    size, residual = len(fit.factor), fit.y - fitted
    slope = _mean_slope(residual / fitted)
    inner = np.stack([np.bincount(block, weight * residual * load, blocks) for load in fit.effective_loads().T], axis=1)
    work = fit.loads[:, 1:] @ fit.coefficients[1:]
    own = np.bincount(block * size + fit.rank, weight * residual * work, blocks * size).reshape(blocks, size)
    whole = RankSums.of(fit, weight)
    moved, turned = np.zeros_like(inner), np.zeros_like(own)
    for index in range(blocks):
        rest = whole.without(RankSums.of(fit, weight, block == index))
        arrow = Arrow.of(rest, fit.coefficients, fit.factor, fit.is_free)
        moved[index], turned[index] = arrow.solve(inner[index], own[index])
    return (moved - moved.mean(axis=0)) / slope, (turned - turned.mean(axis=0)) / slope


def _mean_slope(residual: FloatArray) -> float:
    """How much less the robust scores react to a change of the fit than their weights say."""
    scale = robust_scale(residual)
    if scale < 1e-9:
        return 1.0
    square = np.minimum((residual / scale / TUKEY) ** 2, 1.0)
    weight = (1 - square) ** 2
    if not weight.any():
        return 1.0
    return float(np.clip(((1 - square) * (1 - 5 * square)).mean() / weight.mean(), 0.25, 1.0))


def _extra_draws(fit: RobustFit, draws: FloatArray, blocks: int) -> FloatArray:
    """(DRAWS,) how the median of step time minus largest rank time varies: as the mean of the medians of the blocks."""
    steps = fit.steps
    if steps.compute_ms is None or steps.step_ms is None:
        return np.zeros(len(draws))
    extra = steps.step_ms - steps.compute_ms.max(axis=1)
    block = np.arange(len(steps)) * blocks // len(steps)
    medians = np.array([np.median(extra[block == index]) for index in range(blocks)])
    return np.asarray(draws @ (medians - medians.mean()) / blocks)

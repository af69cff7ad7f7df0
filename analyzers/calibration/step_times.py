"""The fit of step times alone: t = C + the largest of f_g * (a*L_g + b*n_g + p*P_g + e*A_g).

A rank is seen only where it is the straggler, so a factor f_g is fitted only for ranks that need one, and the others
have 1:

- a rank that is the straggler far more often than its share may be slow: then only the few steps of the others tell a
  and b apart from its factor, and the intervals must know that;
- a rank whose factor is surely not 1, the one first that explains most, and so on.

Which rank is the straggler depends on the factors, so a fit can settle beside the best one: factors are tried from
several starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.calibration.rank_sums import FEWEST_OF_RANK, non_negative, reference_factor
from lbal.analyzers.calibration.robust_fit import TUKEY, RobustFit, all_loads, robust_scale, robust_weight
from lbal.analyzers.calibration.straggler_shares import MOST_NOISE, straggler_shares
from lbal.analyzers.trace.trace import FloatArray, IntArray

MOST_ROUNDS, TRIAL_ROUNDS = 30, 4
STARTS = (0.8, 1.25, 1.6)
"""Factors that are tried for a rank."""
SURE = 2.4
"""A factor this many deviations from 1 is kept."""
OFTEN = 1.2
"""A rank that is the straggler this many times its equal share of steps gets a factor."""
MOST_TRIED = 12
MOST_CELLS = 50_000
"""Rank-steps, in evenly spaced steps, that a longer trace is fitted on."""
LONGEST_STRIDE = 0.3
"""The most that a round changes a factor by."""
BLOCKS, LEAST_BLOCK = 20, 5


@dataclass(frozen=True)
class StepTimesFit:
    """A fit of S step times over G ranks whose rank times vary by `noise`."""

    loads: FloatArray
    """(S, G, K - 1) KV tokens, requests, prefill tokens and, if known, their pairs."""
    step_ms: FloatArray
    coefficients: FloatArray
    """(K,) c, a, b, p and, if fitted, e in ms."""
    factor: FloatArray
    is_free: NDArray[np.bool_]
    """(G,) whether the factor of the rank is fitted."""
    weight: FloatArray
    """(S,) robust weights, without those for relative errors."""
    noise: float = 0.0

    @property
    def rank_ms(self) -> FloatArray:
        """(S, G) modelled rank times."""
        return np.asarray(self.factor * (self.loads @ self.coefficients[1:]))

    @property
    def shares(self) -> FloatArray:
        """(S, G) shares of the stragglers."""
        return straggler_shares(self.rank_ms, self.noise).of_rank

    def slopes(self, shares: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(S, K) what the coefficients move a step time by, and (S, G) what the factors do."""
        moved = np.einsum("sg,sgk->sk", shares * self.factor, self.loads)
        ones = np.ones((len(moved), 1))
        return np.concatenate([ones, moved], axis=1), shares * (self.loads @ self.coefficients[1:])

    def expected_ms(self, shares: FloatArray) -> FloatArray:
        """(S,) what the fit gives each step; at least a thousandth of the mean, as errors are relative to it."""
        expected = self.coefficients[0] + (shares * self.rank_ms).sum(axis=1)
        return np.asarray(np.maximum(expected, self.step_ms.mean() * 1e-3))

    @property
    def residual(self) -> FloatArray:
        """(S,) relative."""
        return np.asarray(self.step_ms / self.expected_ms(self.shares) - 1)

    def settled(self, rounds: int = MOST_ROUNDS) -> StepTimesFit:
        """The fit after so many rounds, or when it stays.

        A round finds the best coefficients for the stragglers and factors, then makes a Gauss-Newton step of the
        factors, and sees which ranks are the stragglers now.
        """
        fit, shares = self, self.shares
        expected = fit.expected_ms(shares)
        for turn in range(rounds):
            before = fit.coefficients
            by_coefficient, _ = fit.slopes(shares)
            relative = fit.weight / expected**2
            weighed = by_coefficient.T * relative
            fit = replace(fit, coefficients=non_negative(weighed @ by_coefficient, weighed @ fit.step_ms))
            fit = fit._turned(shares, relative)
            shares = fit.shares
            expected = fit.expected_ms(shares)
            fit = replace(fit, weight=robust_weight(fit.step_ms / expected - 1, redescending=turn >= TRIAL_ROUNDS))
            if turn > TRIAL_ROUNDS + 2 and np.allclose(before, fit.coefficients, rtol=1e-7, atol=0):
                break
        return fit

    def _turned(self, shares: FloatArray, relative: FloatArray) -> StepTimesFit:
        """With the factors that a Gauss-Newton step of coefficients and factors leads to."""
        if not self.is_free.any():
            return self
        moves = self.moves(shares)
        left = self.step_ms - self.coefficients[0] - (shares * self.rank_ms).sum(axis=1)
        change = _solved((moves.T * relative) @ moves, (moves.T * relative) @ left)[-self.is_free.sum() :]
        factor = self.factor.copy()
        factor[self.is_free] += np.clip(change, -LONGEST_STRIDE, LONGEST_STRIDE)
        return replace(self, factor=np.clip(factor, 0.1, 10.0))

    def moves(self, shares: FloatArray) -> FloatArray:
        """(S, K) slopes by the coefficients above 0, then by the free factors."""
        by_coefficient, by_factor = self.slopes(shares)
        return np.concatenate([by_coefficient[:, self.coefficients > 0], by_factor[:, self.is_free]], axis=1)

    def influence(self, slope: float) -> tuple[FloatArray, FloatArray]:
        """(B, K) and (B, G) what leaving out each of B blocks of steps moves coefficients and factors by."""
        block, blocks = self.blocks
        shares = self.shares
        expected, moves = self.expected_ms(shares), self.moves(shares)
        relative, left = self.weight / expected**2, self.step_ms - expected
        parts = [(moves[block == index].T * relative[block == index]) for index in range(blocks)]
        grams = np.stack([part @ moves[block == index] for index, part in enumerate(parts)])
        rights = np.stack([part @ left[block == index] for index, part in enumerate(parts)])
        whole = grams.sum(axis=0)
        found = np.stack([_solved(whole - gram, right) for gram, right in zip(grams, rights, strict=True)])
        found = (found - found.mean(axis=0)) / slope
        moved, turned = np.zeros((blocks, 4)), np.zeros((blocks, len(self.factor)))
        some = self.coefficients > 0
        moved[:, some], turned[:, self.is_free] = found[:, : some.sum()], found[:, some.sum() :]
        return moved, turned

    @property
    def blocks(self) -> tuple[IntArray, int]:
        """(S,) the block of each step, and how many there are."""
        count = len(self.step_ms)
        blocks = max(2, min(BLOCKS, count // LEAST_BLOCK))
        return np.arange(count) * blocks // count, blocks

    def most_noise(self) -> float:
        """The noise of rank times that would alone make step times scatter as much as they do."""
        some = slice(None, None, max(1, len(self.step_ms) // 300))
        rank_ms, expected = self.rank_ms[some], self.expected_ms(self.shares)[some]
        scatter = float(((robust_scale(self.residual) * expected) ** 2).sum())
        low, high = 0.0, MOST_NOISE
        for _ in range(12):
            middle = (low + high) / 2
            enough = straggler_shares(rank_ms, middle).variance.sum() >= scatter
            low, high = (low, middle) if enough else (middle, high)
        return high


def settle_step_times(fit: RobustFit) -> None:
    """Fit the step times of a fit: coefficients, stragglers, and a factor for the ranks that need one."""
    found = _with_factors(fit_of(fit).settled())
    scale = reference_factor(found.factor)
    fit.coefficients = found.coefficients * np.array([1.0, scale, scale, scale])
    fit.factor, fit.is_free, fit.weight = found.factor / scale, found.is_free, found.weight
    fit.see_stragglers(found.rank_ms.argmax(axis=1))


def fit_of(fit: RobustFit) -> StepTimesFit:
    """The step times of a fit, with what was found so far; for a fresh fit, of the ranks with most KV tokens."""
    loads, steps = all_loads(fit.steps), fit.steps
    assert steps.step_ms is not None
    known = StepTimesFit(loads, steps.step_ms, fit.coefficients, fit.factor, fit.is_free, fit.weight)
    if fit.coefficients.any():
        return known
    tokens_alone = np.array([0.0, 1.0, 0.0, 0.0])
    free = np.zeros(steps.dp_size, np.bool_)
    return replace(known, coefficients=tokens_alone, is_free=free, weight=np.ones(len(steps.step_ms)))


def _with_factors(fit: StepTimesFit) -> StepTimesFit:
    ranks = len(fit.factor)
    equal = len(fit.step_ms) / ranks
    while fit.is_free.sum() < ranks - 1:
        steps_of = fit.shares.sum(axis=0)
        often = ~fit.is_free & (steps_of >= max(FEWEST_OF_RANK, OFTEN * equal))
        if often.any():
            fit, _gain = _best_with(fit, [int(np.where(often, steps_of, 0).argmax())])
            continue
        if 2 * fit.is_free.sum() > ranks:
            break
        tried, gain = _best_with(fit, _worth_trying(fit))
        rank = int(np.flatnonzero(tried.is_free & ~fit.is_free)[0])
        if gain <= SURE**2 or tried.shares[:, rank].sum() < FEWEST_OF_RANK or not _is_sure(tried, rank):
            break
        fit = tried
    return fit


def _worth_trying(fit: StepTimesFit) -> Sequence[int]:
    """Of the ranks without a factor those that would be the straggler most often if they were slow."""
    slow_ms, largest = fit.rank_ms * STARTS[-1], fit.rank_ms.max(axis=1, keepdims=True)
    often = np.where(fit.is_free, -1, (slow_ms >= largest).sum(axis=0))
    return [int(rank) for rank in np.argsort(-often, kind="stable")[:MOST_TRIED] if often[rank] >= 0]


def _best_with(fit: StepTimesFit, ranks: Sequence[int]) -> tuple[StepTimesFit, float]:
    """The fit with a factor for one of the ranks more, and how much less its squared errors (scaled, clipped) are."""
    scale = max(robust_scale(fit.residual), 1e-9)
    trials = []
    for rank in ranks:
        for start in STARTS:
            free, factor = fit.is_free.copy(), fit.factor.copy()
            free[rank], factor[rank] = True, factor[rank] * start
            trials.append(replace(fit, is_free=free, factor=factor).settled(TRIAL_ROUNDS))
    best = min(trials, key=lambda trial: _loss(trial, scale))
    best = min(best, best.settled(), key=lambda trial: _loss(trial, scale))
    return best, _loss(fit, scale) - _loss(best, scale)


def _loss(fit: StepTimesFit, scale: float) -> float:
    return float(np.minimum((fit.residual / scale) ** 2, TUKEY**2).sum())


def _is_sure(fit: StepTimesFit, rank: int) -> bool:
    _moved, turned = fit.influence(1.0)
    _block, blocks = fit.blocks
    deviation = float(np.sqrt((turned[:, rank] ** 2).sum() * blocks / (blocks - 1)))
    return bool(abs(fit.factor[rank] - 1) >= SURE * deviation)


def _solved(gram: FloatArray, right: FloatArray) -> FloatArray:
    """The solution of normal equations; what they leave open is 0."""
    norm = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    return np.asarray(np.linalg.pinv(gram / np.outer(norm, norm), rcond=1e-10, hermitian=True) @ (right / norm) / norm)

"""A robust, non-negative fit of step times to loads, with bootstrap intervals: the numbers behind a calibration.

Loads have four columns, in the order of `NAMES`: 1, KV tokens, requests, prefill tokens. All but the first are
multiplied by the factor of their rank. Times are in ms here; coefficients leave in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.step_time import LEAST_SPEED, MOST_SPEED
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays

HUBER, TUKEY, MAD = 1.345, 4.685, 1.4826
ROUNDS = 12
BLOCKS, REPLICATES = 50, 400
FEWEST_OF_RANK = 30
"""Observations that the factor of a rank needs."""
NAMES = ("C", "a", "b", "p")


class Interval(NamedTuple):
    """A fitted value with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass
class RobustFit:
    """A robust fit: observations of shape (R,), loads (R, 4) in the order of `NAMES`, and what was found."""

    steps: StepArrays
    step_row: IntArray
    rank: IntArray
    loads: FloatArray
    """Columns 1, L, n, P; P is 0 where it was not recorded."""
    y: FloatArray
    coefficients: FloatArray = field(default_factory=lambda: np.zeros(len(NAMES)))
    """c, a, b, p in ms."""
    factor: FloatArray = field(default_factory=lambda: np.ones(0))
    """(G,) of each rank; 1 where there are too few observations."""
    weight: FloatArray = field(default_factory=lambda: np.ones(0))
    """(R,) robust weights, without those for relative errors."""
    extra_ms: float = 0.0
    """Median of step time minus largest rank time."""

    @classmethod
    def of_rank_times(cls, steps: StepArrays) -> RobustFit:
        """Every rank with work and a time is an observation; not fitted yet."""
        assert steps.compute_ms is not None
        row, rank = np.nonzero((steps.num_running > 0) & (steps.compute_ms > 0))
        loads, y = _loads(steps, row, rank), steps.compute_ms[row, rank]
        return cls(steps, row, rank, loads, y, factor=np.ones(steps.dp_size))

    @classmethod
    def of_step_times(cls, steps: StepArrays) -> RobustFit:
        """Every step is an observation, of the rank with most KV tokens for now; not fitted yet."""
        assert steps.step_ms is not None
        rows, straggler = np.arange(len(steps)), steps.kv_tokens.argmax(axis=1)
        loads = _loads(steps, rows, straggler)
        return cls(steps, rows, straggler, loads, steps.step_ms, factor=np.ones(steps.dp_size))

    def settle_with_stragglers(self) -> None:
        """Fit, choose the stragglers by the fit, and so on until they stay."""
        rows = np.arange(len(self.steps))
        for _ in range(ROUNDS):
            self.settle()
            rank_ms = self.factor * np.einsum("sgk,k->sg", _all_loads(self.steps), self.coefficients[1:])
            chosen = rank_ms.argmax(axis=1)
            if (chosen == self.rank).all():
                break
            self.rank, self.loads = chosen, _loads(self.steps, rows, chosen)

    def settle(self) -> None:
        """Alternate between coefficients, factors of ranks and robust weights."""
        self.weight = np.ones(len(self.y))
        relative = 1 / np.maximum(self.y, self.y.mean() * 1e-3) ** 2
        for turn in range(2 * ROUNDS):
            effective = self.effective_loads()
            gram, moment = _sums(effective, self.y, self.weight * relative)
            self.coefficients = non_negative(gram, moment)
            self._update_factors(self.weight * relative)
            fitted = np.maximum(self.effective_loads() @ self.coefficients, self.y.mean() * 1e-3)
            relative = 1 / fitted**2
            self.weight = _robust_weight((self.y - fitted) / fitted, redescending=turn >= 4)

    def effective_loads(self) -> FloatArray:
        """(R, 4) loads with the factor of their rank; the constant has none."""
        effective = self.loads.copy()
        effective[:, 1:] *= self.factor[self.rank][:, None]
        return effective

    def _update_factors(self, weight: FloatArray) -> None:
        work = self.loads[:, 1:] @ self.coefficients[1:]
        size = len(self.factor)
        above = np.bincount(self.rank, weight * (self.y - self.coefficients[0]) * work, size).astype(np.float64)
        below = np.bincount(self.rank, weight * work * work, size).astype(np.float64)
        self.factor = _normalised(above, below, np.bincount(self.rank, minlength=size) >= FEWEST_OF_RANK)


def _normalised(above: FloatArray, below: FloatArray, enough: NDArray[np.bool_]) -> FloatArray:
    """above / below relative to its median over the ranks with enough observations; 1 for the others."""
    known = enough & (below > 0) & (above > 0)
    factor = np.divide(above, below, out=np.ones_like(above), where=known)
    if known.any():
        factor[known] /= np.median(factor[known])
    return np.clip(factor, 1 / MOST_SPEED, 1 / LEAST_SPEED)


def _all_loads(steps: StepArrays) -> FloatArray:
    """(S, G, 3) KV tokens, requests and prefill tokens."""
    prefill = np.zeros_like(steps.kv_tokens) if steps.prefill_tokens is None else steps.prefill_tokens
    return np.stack([steps.kv_tokens, steps.num_running, prefill], axis=2)


def _loads(steps: StepArrays, row: IntArray, rank: IntArray) -> FloatArray:
    prefill = np.zeros(len(row)) if steps.prefill_tokens is None else steps.prefill_tokens[row, rank]
    return np.stack([np.ones(len(row)), steps.kv_tokens[row, rank], steps.num_running[row, rank], prefill], axis=1)


def _sums(loads: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    weighted = loads * weight[:, None]
    return loads.T @ weighted, weighted.T @ y


def non_negative(gram: FloatArray, moment: FloatArray) -> FloatArray:
    """The x >= 0 that minimises x'Gx - 2*m'x: the best of all supports, of which there are at most 15.

    `gram` of shape (p, p), `moment` (p,); a load that is never there (a zero on the diagonal) gets 0.
    """
    scale = np.sqrt(np.diag(gram))
    present = [index for index in range(len(moment)) if scale[index] > 0]
    best, least = np.zeros(len(moment)), 0.0
    for size in range(1, len(present) + 1):
        for support in combinations(present, size):
            part = np.ix_(support, support)
            norm = scale[list(support)]
            try:
                found = np.linalg.solve(gram[part] / np.outer(norm, norm), moment[list(support)] / norm) / norm
            except np.linalg.LinAlgError:
                continue
            if (found < 0).any():
                continue
            value = float(found @ gram[part] @ found - 2 * found @ moment[list(support)])
            if value < least:
                least, best = value, np.zeros(len(moment))
                best[list(support)] = found
    return best


def _robust_weight(residual: FloatArray, *, redescending: bool) -> FloatArray:
    """Huber's weights, or Tukey's, which leave gross outliers out altogether."""
    scale = MAD * float(np.median(np.abs(residual - np.median(residual))))
    if scale < 1e-9:
        return np.ones(len(residual))
    size = np.abs(residual) / scale
    if redescending:
        return np.where(size < TUKEY, (1 - (size / TUKEY) ** 2) ** 2, 0.0)
    return np.minimum(1.0, HUBER / np.maximum(size, 1e-12))


def bootstrap(fit: RobustFit) -> tuple[dict[str, Interval], FloatArray]:
    """Coefficients in seconds with their intervals, and (REPLICATES, G) factors of ranks."""
    weight = fit.weight / np.maximum(fit.effective_loads() @ fit.coefficients, fit.y.mean() * 1e-3) ** 2
    blocks = min(BLOCKS, len(fit.steps) // 5)
    block = fit.step_row * blocks // len(fit.steps)
    sums = _BlockSums.of(fit, weight, block, blocks)
    random = np.random.default_rng(0)
    drawn = np.stack([np.bincount(random.integers(0, blocks, blocks), minlength=blocks) for _ in range(REPLICATES)])
    found, factors = sums.refitted(drawn.astype(np.float64), fit)
    found[:, 0] += _extra_replicates(fit, drawn, blocks)
    values = fit.coefficients.copy()
    values[0] += fit.extra_ms
    low, high = np.percentile(found, [2.5, 97.5], axis=0)
    present = [0, *[index for index in range(1, len(NAMES)) if fit.loads[:, index].any()]]
    intervals = {
        NAMES[index]: Interval(
            float(values[index]) / 1e3,
            float(min(low[index], values[index])) / 1e3,
            float(max(high[index], values[index])) / 1e3,
        )
        for index in present
    }
    return intervals, factors


def _extra_replicates(fit: RobustFit, drawn: IntArray, blocks: int) -> FloatArray:
    """(REPLICATES,) replicates of `extra_ms`: means of the medians of the blocks."""
    steps = fit.steps
    if steps.compute_ms is None or steps.step_ms is None:
        return np.zeros(len(drawn))
    extra = steps.step_ms - steps.compute_ms.max(axis=1)
    block = np.arange(len(steps)) * blocks // len(steps)
    medians = np.array([np.median(extra[block == index]) for index in range(blocks)])
    return np.asarray(fit.extra_ms + drawn @ (medians - medians.mean()) / blocks)


@dataclass(frozen=True)
class _BlockSums:
    """Sums per block of steps and rank: all that a refit with fixed robust weights needs."""

    gram: FloatArray
    """(blocks, G, 4, 4) of the plain loads."""
    moment: FloatArray
    """(blocks, G, 4)."""
    enough: NDArray[np.bool_]
    """(G,) whether the factor of a rank is fitted."""

    @classmethod
    def of(cls, fit: RobustFit, weight: FloatArray, block: IntArray, blocks: int) -> _BlockSums:
        """From a fit, with the weights of its observations."""
        size, cells = len(fit.factor), block * len(fit.factor) + fit.rank
        width = len(NAMES)
        gram, moment = np.zeros((blocks, size, width, width)), np.zeros((blocks, size, width))
        for row in range(width):
            left = weight * fit.loads[:, row]
            moment[:, :, row] = np.bincount(cells, left * fit.y, blocks * size).reshape(blocks, size)
            for column in range(row, width):
                both = np.bincount(cells, left * fit.loads[:, column], blocks * size).reshape(blocks, size)
                gram[:, :, row, column] = gram[:, :, column, row] = both
        return cls(gram, moment, np.bincount(fit.rank, minlength=size) >= FEWEST_OF_RANK)

    def refitted(self, drawn: FloatArray, fit: RobustFit) -> tuple[FloatArray, FloatArray]:
        """Coefficients (R, 4) in ms and factors (R, G) for blocks drawn so often: `drawn` is (R, blocks)."""
        found, factors = np.zeros((len(drawn), len(NAMES))), np.ones((len(drawn), len(fit.factor)))
        for index, times in enumerate(drawn):
            gram, moment = np.tensordot(times, self.gram, 1), np.tensordot(times, self.moment, 1)
            coefficients, factor = fit.coefficients, fit.factor
            for _ in range(3):
                scale = np.ones((len(factor), len(NAMES)))
                scale[:, 1:] = factor[:, None]
                total = (gram * scale[:, :, None] * scale[:, None, :]).sum(axis=0)
                coefficients = non_negative(total, (moment * scale).sum(axis=0))
                above = moment[:, 1:] @ coefficients[1:] - coefficients[0] * (gram[:, 0, 1:] @ coefficients[1:])
                below = np.einsum("gij,i,j->g", gram[:, 1:, 1:], coefficients[1:], coefficients[1:])
                factor = _normalised(above, below, self.enough)
            found[index], factors[index] = coefficients, factor
        return found, factors

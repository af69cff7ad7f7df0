"""A robust, non-negative fit of step times to loads: the numbers behind a calibration.

Loads have K columns, in the order of `NAMES`: 1, KV tokens, requests, prefill tokens and, if known, the pairs of
their attention. All but the first are multiplied by the factor of their rank. Times are in ms here; coefficients
leave in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.calibration.rank_sums import RankSums, dropped, free_factors
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays

HUBER, TUKEY, MAD = 1.345, 4.685, 1.4826
ROUNDS, MOST_ROUNDS = 6, 60


@dataclass
class RobustFit:
    """A robust fit: observations of shape (R,), loads (R, K) in the order of `NAMES`, and what was found."""

    steps: StepArrays
    step_row: IntArray
    rank: IntArray
    loads: FloatArray
    """Columns 1, L, n, P, which is 0 where it was not recorded, and A, which is there only where it was."""
    y: FloatArray
    coefficients: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(K,) c, a, b, p and, if fitted, e in ms."""
    factor: FloatArray = field(default_factory=lambda: np.ones(0))
    """(G,) of each rank; 1 where there are too few observations."""
    is_free: NDArray[np.bool_] = field(default_factory=lambda: np.ones(0, np.bool_))
    """(G,) whether the factor of the rank is fitted."""
    weight: FloatArray = field(default_factory=lambda: np.ones(0))
    """(R,) robust weights, without those for relative errors."""
    extra_ms: float = 0.0
    """Median of step time minus largest rank time."""

    def __post_init__(self) -> None:
        """Nothing is fitted yet."""
        if not len(self.coefficients):
            self.coefficients = np.zeros(self.loads.shape[1])

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

    def see_stragglers(self, straggler: IntArray) -> None:
        """Of step times: let these ranks, shape (S,), be the stragglers."""
        self.rank, self.loads = straggler, _loads(self.steps, self.step_row, straggler)

    def settle(self) -> None:
        """Alternate between coefficients, factors and robust weights, then go on with both at once until they stay.

        Alternating alone hardly moves where the constant and the factors of ranks can stand for each other.
        """
        self.weight = np.ones(len(self.y))
        relative = 1 / np.maximum(self.y, self.y.mean() * 1e-3) ** 2
        self.is_free = free_factors(self.rank, len(self.factor))
        counts = ~dropped(self.rank, self.is_free)
        for turn in range(MOST_ROUNDS):
            sums = RankSums.of(self, self.weight * relative * counts)
            before = self.coefficients, self.factor
            if turn < ROUNDS:
                self.coefficients, self.factor = sums.alternated(self.factor, self.is_free)
            else:
                self.coefficients, self.factor = sums.improved(self.coefficients, self.factor, self.is_free)
            fitted = self.fitted_ms()
            relative = 1 / fitted**2
            self.weight = robust_weight((self.y - fitted) / fitted, redescending=turn >= 4)
            if turn > ROUNDS and all(map(_is_close, before, (self.coefficients, self.factor))):
                break

    def fitted_ms(self) -> FloatArray:
        """(R,) what the fit gives each observation; at least a thousandth of the mean, as errors are relative to it."""
        return np.asarray(np.maximum(self.effective_loads() @ self.coefficients, self.y.mean() * 1e-3))

    def effective_loads(self) -> FloatArray:
        """(R, K) loads with the factor of their rank; the constant has none."""
        effective = self.loads.copy()
        effective[:, 1:] *= self.factor[self.rank][:, None]
        return effective


def all_loads(steps: StepArrays) -> FloatArray:
    """(S, G, K - 1) KV tokens, requests, prefill tokens and, if known, their pairs."""
    prefill = np.zeros_like(steps.kv_tokens) if steps.prefill_tokens is None else steps.prefill_tokens
    pairs = [] if steps.prefill_pairs is None else [steps.prefill_pairs]
    return np.stack([steps.kv_tokens, steps.num_running, prefill, *pairs], axis=2)


def _loads(steps: StepArrays, row: IntArray, rank: IntArray) -> FloatArray:
    loads = all_loads(steps)[row, rank]
    return np.concatenate([np.ones((len(row), 1)), loads], axis=1)


def robust_weight(residual: FloatArray, *, redescending: bool) -> FloatArray:
    """Huber's weights, or Tukey's, which leave gross outliers out altogether."""
    scale = robust_scale(residual)
    if scale < 1e-9:
        return np.ones(len(residual))
    size = np.abs(residual) / scale
    if redescending:
        return np.where(size < TUKEY, (1 - (size / TUKEY) ** 2) ** 2, 0.0)
    return np.minimum(1.0, HUBER / np.maximum(size, 1e-12))


def robust_scale(residual: FloatArray) -> float:
    """The standard deviation of the bulk of the residuals."""
    return MAD * float(np.median(np.abs(residual - np.median(residual))))


def _is_close(before: FloatArray, after: FloatArray) -> bool:
    return bool((np.abs(after - before) <= 1e-9 * np.abs(after)).all())

"""Weighted sums per rank, and the steps of a least-squares fit that need nothing else.

An observation of rank g with loads x = (1, L, n, P, A) is fitted by c + f_g*(a*L + b*n + p*P + e*A). With the weights
fixed, all that a step of the fit needs are sums of x*x' and of x*y per rank.

The factors f_g have no scale of their own: twice the factors with half of a, b and p fit as well. So either the median
of the factors is 1 (of two ranks that of the faster), or, where most ranks have too few observations for a factor,
these ranks have 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.step_time import LEAST_SPEED, MOST_SPEED
from lbal.analyzers.trace.trace import FloatArray, IntArray

if TYPE_CHECKING:
    from lbal.analyzers.calibration.robust_fit import RobustFit

NAMES = ("C", "a", "b", "p", "e")
"""Of the coefficients. Fits have K of them: all, or without e, where the pairs of prefill attention are not known."""
FEWEST_OF_RANK = 30
"""Observations that the factor of a rank needs."""


def free_factors(rank: IntArray, size: int) -> NDArray[np.bool_]:
    """(G,) the ranks with enough observations for a factor of their own, where there are two or more ranks."""
    return np.bincount(rank, minlength=size) >= FEWEST_OF_RANK if size > 1 else np.zeros(size, np.bool_)


def has_median_one(is_free: NDArray[np.bool_]) -> bool:
    """Whether the median of the fitted factors is 1; otherwise the ranks without a fitted one have it."""
    return 2 * int(is_free.sum()) > len(is_free)


def dropped(rank: IntArray, is_free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(R,) observations that are left out: those of the few ranks without a factor, where the others set the scale."""
    return np.asarray(~is_free[rank] & has_median_one(is_free))


def reference_factor(factor: FloatArray) -> float:
    """The factor that others are relative to: the median; of two ranks the smaller, as the slow one must show."""
    return float(factor.min() if len(factor) == 2 else np.median(factor))


def normalised(factor: FloatArray, is_free: NDArray[np.bool_]) -> tuple[FloatArray, float]:
    """The factors with their scale put right, and the scale that was taken out of them."""
    scale = reference_factor(factor[is_free]) if has_median_one(is_free) else 1.0
    return np.where(is_free, np.clip(factor / scale, 1 / MOST_SPEED, 1 / LEAST_SPEED), 1.0), scale


@dataclass(frozen=True)
class RankSums:
    """Sums over the observations of each rank, of weight times products."""

    gram: FloatArray
    """(G, K, K) of x*x'."""
    moment: FloatArray
    """(G, K) of x*y."""

    @classmethod
    def of(cls, fit: RobustFit, weight: FloatArray, some: NDArray[np.bool_] | slice = slice(None)) -> RankSums:
        """Of some observations of a fit with these weights, shape (R,)."""
        size, rank, loads, y = len(fit.factor), fit.rank[some], fit.loads[some], fit.y[some]
        width = loads.shape[1]
        gram, moment = np.zeros((size, width, width)), np.zeros((size, width))
        for row in range(width):
            left = weight[some] * loads[:, row]
            moment[:, row] = np.bincount(rank, left * y, size)
            for column in range(row, width):
                gram[:, row, column] = gram[:, column, row] = np.bincount(rank, left * loads[:, column], size)
        return cls(gram, moment)

    def without(self, part: RankSums) -> RankSums:
        """The sums of the other observations."""
        return RankSums(self.gram - part.gram, self.moment - part.moment)

    def alternated(self, factor: FloatArray, is_free: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """The best coefficients for these factors, then the best factors for those coefficients."""
        scale = _scales(factor, self.moment.shape[1])
        total = (self.gram * scale[:, :, None] * scale[:, None, :]).sum(axis=0)
        found = non_negative(total, (self.moment * scale).sum(axis=0))
        slopes = found[1:]
        above = self.moment[:, 1:] @ slopes - found[0] * (self.gram[:, 0, 1:] @ slopes)
        below = np.einsum("gij,i,j->g", self.gram[:, 1:, 1:], slopes, slopes)
        known = is_free & (below > 0) & (above > 0)
        return found, normalised(np.divide(above, below, out=np.ones_like(above), where=known), is_free)[0]

    def improved(
        self, coefficients: FloatArray, factor: FloatArray, is_free: NDArray[np.bool_]
    ) -> tuple[FloatArray, FloatArray]:
        """A Gauss-Newton step of coefficients and factors at once; coefficients at 0 stay there, none falls below."""
        scale = _scales(factor, len(coefficients))
        residual = self.moment - np.einsum("gij,gj->gi", self.gram, scale * coefficients)
        gradient = (residual * scale).sum(axis=0), residual[:, 1:] @ coefficients[1:]
        change, turned = Arrow.of(self, coefficients, factor, is_free).solve(gradient[0], gradient[1])
        share = 1.0
        falling = coefficients + change < 0
        if falling.any():
            share = float((coefficients[falling] / -change[falling]).min())
        moved, free = normalised(factor + share * turned, is_free)
        found = np.maximum(coefficients + share * change, 0.0)
        found[falling & (found < 1e-9 * coefficients)] = 0.0
        found[1:] *= free
        return found, moved


@dataclass(frozen=True)
class Arrow:
    """Normal equations of coefficients and factors; between two factors there is nothing.

    One of the free factors is kept where only their ratios can be told.
    """

    inner: FloatArray
    """(K, K) between coefficients."""
    cross: FloatArray
    """(K, G) between coefficients and factors."""
    own: FloatArray
    """(G,) of the factors."""
    some: NDArray[np.bool_]
    """(K,) coefficients that may move."""
    moving: NDArray[np.bool_]
    """(G,) factors that may move."""

    @classmethod
    def of(cls, sums: RankSums, coefficients: FloatArray, factor: FloatArray, is_free: NDArray[np.bool_]) -> Arrow:
        """At these coefficients and factors."""
        scale, slopes = _scales(factor, len(coefficients)), coefficients[1:]
        inner = (sums.gram * scale[:, :, None] * scale[:, None, :]).sum(axis=0)
        cross = (scale * (sums.gram[:, :, 1:] @ slopes)).T
        own = np.einsum("gij,i,j->g", sums.gram[:, 1:, 1:], slopes, slopes)
        moving = is_free & (own > 0)
        if has_median_one(is_free) and moving.any():
            moving[np.flatnonzero(moving)[0]] = False
        return cls(inner, cross, own, coefficients > 0, moving)

    @property
    def reduced(self) -> FloatArray:
        """(k, k) what is left between the k coefficients that may move, with the factors that may move taken out."""
        cross = self.cross[np.ix_(self.some, self.moving)]
        return np.asarray(self.inner[np.ix_(self.some, self.some)] - cross / self.own[self.moving] @ cross.T)

    def solve(self, inner: FloatArray, own: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The changes of coefficients (…, K) and of factors (…, G) for right sides of these shapes."""
        some, moving = np.flatnonzero(self.some), self.moving
        cross = self.cross[np.ix_(some, moving)]
        weighed, reduced = cross / self.own[moving], self.reduced
        norm = np.sqrt(np.maximum(np.diag(self.inner)[some], 1e-300))
        right = inner[..., some] - own[..., moving] @ weighed.T
        solved = (right / norm) @ np.linalg.pinv(reduced / np.outer(norm, norm), rcond=1e-12, hermitian=True) / norm
        change, turned = np.zeros(inner.shape), np.zeros(own.shape)
        change[..., some] = solved
        turned[..., moving] = (own[..., moving] - solved @ cross) / self.own[moving]
        return change, turned


def _scales(factor: FloatArray, width: int) -> FloatArray:
    """(G, K) what the loads of each rank are multiplied by; the constant has no factor."""
    scale = np.ones((len(factor), width))
    scale[:, 1:] = factor[:, None]
    return scale


def non_negative(gram: FloatArray, moment: FloatArray) -> FloatArray:
    """The x >= 0 that minimises x'Gx - 2*m'x: the best of all supports, of which there are at most 31.

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

"""Whether the loads of a trace differ enough to tell the coefficients of a step-time model apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.calibration.rank_sums import NAMES, Arrow, RankSums
from lbal.analyzers.calibration.robust_fit import RobustFit
from lbal.analyzers.trace.trace import FloatArray

FEWEST_OBSERVATIONS = 35
MOST_CELLS = 500_000
"""Rank-steps, in evenly spaced steps, that a longer trace is fitted on."""
LEAST_SPREAD = 0.01
"""Loads whose standard deviation is below this share of their mean are too alike."""
LEAST_TOLERANCE = 1e-6
"""Least part of a load that the others do not explain."""
LOADS = ("", "KV tokens", "requests", "prefill tokens", "prefill pairs")


def why_not_told(fit: RobustFit) -> str:
    """Why the observations of a fit cannot tell its coefficients apart; empty where they can."""
    if len(fit.y) < FEWEST_OBSERVATIONS:
        return f"only {len(fit.y)} rank or step times have work and a time"
    present = [index for index in range(1, fit.loads.shape[1]) if fit.loads[:, index].any()]
    for index in present:
        values = fit.loads[:, index]
        if values.std() < LEAST_SPREAD * values.mean():
            return (
                f"loads are too alike to tell {NAMES[index]} from C: {LOADS[index]} per rank vary by "
                f"{values.std() / values.mean():.2%} of their mean only"
            )
    relative = fit.loads / fit.y[:, None]
    for index in present:
        tolerance = _own_part(relative, index, (0, *present))
        if tolerance < LEAST_TOLERANCE:
            return (
                f"loads are too alike to tell {NAMES[index]} from the other coefficients: {LOADS[index]} of a rank "
                f"follow from its other loads to {tolerance:.1g} of their variation"
            )
    return ""


def why_no_constant(fit: RobustFit) -> str:
    """Why the observations of a fit cannot tell its constant from its loads; empty where they can."""
    present = [index for index in range(1, fit.loads.shape[1]) if fit.loads[:, index].any()]
    if len(fit.y) <= len(present) + 1:
        return f"only {len(fit.y)} rank times have work and a time"
    spreads = [fit.loads[:, index].std() / fit.loads[:, index].mean() for index in present]
    relative = fit.loads / fit.y[:, None]
    if max(spreads, default=0.0) < LEAST_SPREAD or _unexplained(relative[:, 0], relative[:, present]) < LEAST_TOLERANCE:
        return "the loads are too alike to tell it"
    return ""


def tell_factors(fit: RobustFit, moving: NDArray[np.bool_]) -> bool:
    """Whether the observations tell the factors of these ranks, shape (G,), and every coefficient at once."""
    present = np.asarray(fit.loads.any(axis=0))
    if len(fit.y) <= int(present.sum() + moving.sum()):
        return False
    arrow = Arrow.of(RankSums.of(fit, 1 / fit.y**2), fit.coefficients, fit.factor, moving)
    arrow = replace(arrow, some=present, moving=moving & (arrow.own > 0))
    inner, reduced = np.diag(arrow.inner)[present], arrow.reduced
    norm = np.sqrt(inner)
    return float(np.linalg.eigvalsh(reduced / np.outer(norm, norm))[0]) >= LEAST_TOLERANCE


def _own_part(values: FloatArray, column: int, columns: Sequence[int]) -> float:
    """The part of a column that the others of these columns do not explain."""
    return _unexplained(values[:, column], values[:, [other for other in columns if other != column]])


def _unexplained(values: FloatArray, others: FloatArray) -> float:
    scaled = others / np.sqrt((others**2).sum(axis=0))
    found = np.linalg.lstsq(scaled, values, rcond=None)[0]
    return float(((values - scaled @ found) ** 2).sum() / (values**2).sum())

"""What explains measured rank times: one fit for `analyze` and `calibrate`.

A measured rank time is c + f_g*w_g (+ noise), w_g = a*L + b*n + p*P: every rank spends c, whatever it holds, and rank g
takes f_g times what its load takes the median rank. Without c a lightly loaded rank would look slow.

Where the loads do not tell c, as they are all alike or too few, c is taken as 0, and a note says so: then a and b are
too large, and nothing that rests on their size alone, such as idle that no placement avoids, is claimed. A few rank
times tell c if some c, a and b explain all of them exactly.

A rank is called slow only where its factor is notable and its interval excludes 1, and only if a factor explains its
times better than some ms more in every step do, whatever its load: that is no slow hardware, but something else that
runs there in every step, and is told in ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from lbal.analyzers.barrier.step_time import FITTED, StepTimeModel
from lbal.analyzers.calibration.rank_sums import FEWEST_OF_RANK
from lbal.analyzers.calibration.robust_fit import RobustFit
from lbal.analyzers.calibration.telling_apart import (
    FEWEST_OBSERVATIONS,
    MOST_CELLS,
    tell_factors,
    why_no_constant,
)
from lbal.analyzers.calibration.uncertainty import Interval, uncertainty
from lbal.analyzers.statistics.long_series import LongSeries
from lbal.analyzers.trace.step_blocks import StepBlocks, joined, thinned
from lbal.analyzers.trace.trace import StepArrays

TELLING = 0.1
"""A factor whose interval is wider than this share of it says nothing of the speed of its rank."""
EXACT = 1e-6
"""Relative errors below this are rounding."""
NOTABLE_OFFSET = 0.02
CLEARLY = 0.9
"""What leaves less than this share of the squared errors explains better."""
SLOW_RANK_FACTOR = 1.1
"""A rank is called slow from this factor on, if its interval excludes 1."""


@dataclass(frozen=True)
class RankTimes:
    """What the measured rank times of a trace say of its ranks."""

    model: StepTimeModel
    constant_ms: float
    """c: what every rank spends in a step beside its load."""
    factors: tuple[Interval | None, ...]
    """f of each rank against the median one; None where it has too few observations."""
    notes: tuple[str, ...]
    constant_is_known: bool = True
    """Whether the loads tell c; where they do not, it is taken as 0."""
    unknown_speeds: tuple[int, ...] = ()
    """Ranks whose rank times do not tell how fast they are against the others."""
    more_ms: tuple[float, ...] = ()
    """Of each rank what it takes more in every step than its load explains, where that explains its times better than
    its factor; else NaN."""

    @property
    def late_ranks(self) -> dict[int, float]:
        """The ranks that surely take longer than their load explains, by as much in every step, and by how many ms."""
        return {rank: self.more_ms[rank] for rank in self._longer if not math.isnan(self.more_ms[rank])}

    @property
    def _longer(self) -> dict[int, float]:
        return {
            rank: factor.value
            for rank, factor in enumerate(self.factors)
            if factor is not None and factor.value >= SLOW_RANK_FACTOR and factor.low > 1
        }

    @property
    def other_ranks(self) -> dict[int, float]:
        """The ranks that are surely slower or faster than the median one, by 2% or more, and their factors."""
        return {
            rank: factor.value
            for rank, factor in enumerate(self.factors)
            if factor is not None and abs(factor.value - 1) >= NOTABLE_OFFSET and not factor.low <= 1 <= factor.high
        }

    @property
    def slow_ranks(self) -> dict[int, float]:
        """The ranks that are surely and notably slower than the median one, and their factors."""
        return {rank: factor for rank, factor in self._longer.items() if math.isnan(self.more_ms[rank])}


def explained(steps: StepBlocks, fallback: StepTimeModel) -> RankTimes:
    """Fit the rank times of steps that have them, of evenly spaced steps where there are very many.

    The model is the fallback where no rank ever has work.

    C of the model is that of `calibrate`, c and the median of step time minus largest rank time, where step times are
    known; else the fallback's.
    """
    evenly, extra_ms = _evenly(steps)
    fit = RobustFit.of_rank_times(evenly)
    if not len(fit.y):
        return RankTimes(fallback, 0.0, (None,) * steps.dp_size, ())
    notes: tuple[str, ...] = ()
    if len(evenly) < len(steps):
        notes = (f"rank times are explained from {len(evenly):,} of {len(steps):,} steps, evenly spaced",)
    reason = why_no_constant(fit)
    if not reason:
        fit.settle()
        if len(fit.y) < FEWEST_OBSERVATIONS and np.abs(fit.y / fit.fitted_ms() - 1).max() > EXACT:
            reason = f"only {len(fit.y)} rank times have work and a time, and no model explains them exactly"
    if reason:
        fit.loads[:, 0] = 0.0
        notes += (f"the part of rank times that no load explains is taken as 0: {reason}",)
        fit.settle()
    if not fit.coefficients[1:].any():
        return RankTimes(fallback, 0.0, (None,) * steps.dp_size, notes, constant_is_known=False)
    constant_ms, a, b, p = fit.coefficients.tolist()
    shared_s = fallback.shared_s
    if not math.isnan(extra_ms):
        shared_s = (constant_ms + max(extra_ms, 0.0)) / 1e3
    model = StepTimeModel(
        name=FITTED,
        shared_s=shared_s,
        per_token_s=a / 1e3,
        per_request_s=b / 1e3,
        per_prefill_token_s=p / 1e3,
        source="fitted to the rank times of the trace",
        confidence="measured",
    )
    factors = _factors(fit)
    return RankTimes(
        model,
        constant_ms,
        factors,
        notes,
        constant_is_known=not reason,
        unknown_speeds=_unknown_speeds(fit, factors),
        more_ms=tuple(more_ms(fit)),
    )


def _unknown_speeds(fit: RobustFit, factors: tuple[Interval | None, ...]) -> tuple[int, ...]:
    """The ranks without a factor that tells, unless their times fit a factor of 1 exactly and would fit no other."""
    if len(factors) == 1:
        return ()
    without = np.array([not _tells(factor) for factor in factors])
    errors = np.abs(fit.y / fit.fitted_ms() - 1)
    inexact = np.bincount(fit.rank, (errors > EXACT) | (fit.factor[fit.rank] != 1), len(factors)) > 0
    counts, moving = np.bincount(fit.rank, minlength=len(factors)), without.copy()
    if without.all():  # one of them is what the others are relative to
        moving[counts.argmax()] = False
        inexact |= inexact.any()
    if without.any() and not tell_factors(fit, moving):
        inexact[:] = True
    return tuple(np.flatnonzero(without & (inexact | (counts == 0))).tolist())


def _tells(factor: Interval | None) -> bool:
    return factor is not None and factor.high - factor.low <= TELLING * factor.value


def late_rank(rank: int, more_ms: float) -> str:
    """What is said of a rank that takes some ms more than its load explains, in place of calling it slow."""
    return (
        f"rank {rank} takes {more_ms:.3g} ms more in every step than its load explains, whatever its load: "
        "look at what else runs there"
    )


def more_ms(fit: RobustFit) -> Iterator[float]:
    """`RankTimes.more_ms` of each rank: the weighted mean of what its load leaves, where the rest is then least."""
    weight, work = fit.weight / fit.fitted_ms() ** 2, fit.loads[:, 1:] @ fit.coefficients[1:]
    left = fit.y - fit.loads[:, 0] * fit.coefficients[0] - work
    for rank, factor in enumerate(fit.factor):
        own = (fit.rank == rank) & (weight > 0)
        more = float(np.average(left[own], weights=weight[own])) if own.any() else math.nan
        errors = [(weight[own] * (left[own] - told) ** 2).sum() for told in (more, (factor - 1) * work[own])]
        yield more if errors[0] < CLEARLY * errors[1] else math.nan


def _evenly(steps: StepBlocks) -> tuple[StepArrays, float]:
    """Steps as evenly spaced as `MOST_CELLS` rank times allow; the median over all of step time - largest rank time.

    NaN where step times are not known. Prefill is in them where all steps tell it, and some have any.
    """
    stride = -(-len(steps) * steps.dp_size // MOST_CELLS)
    parts, extra_ms, row = [], LongSeries(), 0
    is_told, is_some = True, False
    for block in steps:
        assert block.compute_ms is not None
        if block.step_ms is not None:
            extra_ms.add(block.step_ms - block.compute_ms.max(axis=1))
        if block.prefill_tokens is not None:
            is_told &= not np.isnan(block.prefill_tokens).any()
            is_some |= bool(block.prefill_tokens.any())
        parts.append(thinned(block, row, stride))
        row += len(block)
    found = joined(parts, -(-row // stride))
    found = replace(found, prefill_pairs=None)  # p alone is fitted here
    return found if is_told and is_some else replace(found, prefill_tokens=None), extra_ms.median()


def _factors(fit: RobustFit) -> tuple[Interval | None, ...]:
    known = np.bincount(fit.rank, minlength=len(fit.factor)) >= FEWEST_OF_RANK
    if not known.any():
        return (None,) * len(fit.factor)
    found = uncertainty(fit).factors
    return tuple(factor if known[rank] else None for rank, factor in enumerate(found))

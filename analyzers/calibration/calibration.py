"""Calibration: the coefficients of a step-time model, fitted to the recorded steps of a trace.

With rank times (`compute_ms`) every rank with work in every step is one observation of

    y = c + f_g * (a*L + b*n + p*P + e*A)

with P prefill tokens (where recorded), A the pairs of a query and a key in their attention (where recorded too) and
f_g the factor of the rank, 1 for the median rank; C is c plus the median of
step time minus largest rank time. Without rank times every step is one observation of

    t = C + max_g f_g * (a*L + b*n + p*P + e*A)

and only ranks that need a factor get one (`step_times.py`). Values are those of rank times without noise, which predict
step times best; intervals also allow for noise of rank times. b_mean is left out: its work is in C and b.

Coefficients are non-negative. Errors count relative to the fitted time, as in the presets, and outliers are weighed
down (Tukey's biweight, 4.685 scaled median deviations, after Huber's weights; Huber and Ronchetti, Robust Statistics).
Intervals are over blocks of consecutive steps (`uncertainty.py`), so that noise may be correlated from step to step.
Assumption: what is not explained by L, n and P does not depend on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.mixed_work import common_times_ms, lacks_pairs, rank_times_ms
from lbal.analyzers.barrier.step_time import Band, StepTimeModel
from lbal.analyzers.barrier.whole_steps import whole_blocks
from lbal.analyzers.calibration.rank_sums import FEWEST_OF_RANK, NAMES
from lbal.analyzers.calibration.rank_times import late_rank, more_ms
from lbal.analyzers.calibration.robust_fit import RobustFit
from lbal.analyzers.calibration.step_times import MOST_CELLS as MOST_CELLS_OF_STEP_TIMES
from lbal.analyzers.calibration.step_times import settle_step_times
from lbal.analyzers.calibration.telling_apart import MOST_CELLS, why_not_told
from lbal.analyzers.calibration.uncertainty import Interval, Uncertainty, uncertainty
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.step_blocks import blocks_of
from lbal.analyzers.trace.trace import FloatArray, StepArrays, Trace

FEWEST_STEPS = 50
FIT_SHARE = 0.7
"""Part of the steps, the first, that validation fits; it predicts the rest."""
WIDEST = 0.2
"""A coefficient whose interval makes this share of a mean time uncertain, on either side, is not identified."""
POOR_ERROR = 0.2
SMALLEST_LOAD_SHARE = 1e-6
"""Of a mean time: what loads add below it is the rounding of the fit."""
NOTABLE_FACTOR = 1.05
"""A rank this much slower or faster than the median, and surely so, gets a speed of its own."""
NOTABLE_STRAGGLER = 1.1
"""The same from step times alone, which tell of slow ranks only: a rank shows where it is the straggler."""


@dataclass(frozen=True)
class Errors:
    """How far predicted step times (rank times, without the former) are from measured ones, as shares."""

    steps: int
    bias: float
    """Sum of predicted over sum of measured times, minus 1."""
    median: float
    p95: float
    r2: float

    def as_dict(self) -> dict[str, float]:
        """For the result."""
        return {"steps": self.steps, "bias": self.bias, "p50": self.median, "p95": self.p95, "r2": self.r2}


@dataclass(frozen=True)
class RankFit:
    """A rank against the model of the others."""

    rank: int
    observations: int
    factor: Interval | None
    """Time over what the model gives the median rank; None where there are too few observations."""
    residual_median: float
    """Of measured over modelled time with the rank's factor, minus 1; NaN without observations."""
    residual_p95: float
    """p95 of its size."""

    def as_dict(self) -> dict[str, Any]:
        """For the result."""
        factor = None if self.factor is None else self.factor._asdict()
        return {
            "rank": self.rank,
            "observations": self.observations,
            "factor": factor,
            "residual_p50": self.residual_median,
            "residual_p95": self.residual_p95,
        }


@dataclass(frozen=True)
class Calibration:
    """A step-time model fitted to a trace, and what is known of its quality."""

    model: StepTimeModel
    fitted_to: str
    """`rank times` or `step times`."""
    coefficients: dict[str, Interval]
    """By name, in seconds."""
    errors: Errors
    """Of the model on the steps that it was fitted to."""
    held_out: Errors | None
    """Of a model fitted to the first steps, on the rest; None where the first steps alone cannot tell a model."""
    outliers: int
    """Observations that count for nothing."""
    observations: int
    ranks: tuple[RankFit, ...]
    idle_measured: float | None
    """Barrier idle as a share of rank-time, where rank times were measured."""
    idle_modelled: float
    warnings: tuple[str, ...] = ()

    @property
    def quality(self) -> str:
        """How far predicted times are from measured ones, in words."""
        held_out = "n/a" if self.held_out is None else f"{self.held_out.p95:.1%}"
        return (
            f"calibrated on {self.errors.steps:,} steps: p95 error {self.errors.p95:.1%} on them, "
            f"{held_out} on steps held out"
        )

    @property
    def is_poor(self) -> bool:
        """Whether more than one step in twenty is off by more than `POOR_ERROR`."""
        return _worst_p95(self.errors, self.held_out) > POOR_ERROR

    def as_dict(self) -> dict[str, Any]:
        """For the result and the model file; coefficients in seconds."""
        return {
            "fitted_to": self.fitted_to,
            "coefficients": {name: interval._asdict() for name, interval in self.coefficients.items()},
            "errors": self.errors.as_dict(),
            "held_out": None if self.held_out is None else self.held_out.as_dict(),
            "observations": self.observations,
            "outliers": self.outliers,
            "idle_measured": self.idle_measured,
            "idle_modelled": self.idle_modelled,
            "ranks": [rank.as_dict() for rank in self.ranks],
        }


def calibrate(trace: Trace, name: str = "") -> Calibration:
    """Fit C, a, b (and p, where prefill tokens were recorded, and e, where their pairs were) to the steps of a trace.

    C_x is not fitted: what steps with prefill lose beside it is in p. Where the pairs of prefill cannot be told from
    its tokens, as chunks are too alike, p alone is fitted, and a note says so. Raises `InputError` with the reason
    where the trace has no measured times or cannot tell the coefficients.
    """
    source = trace.meta.source
    steps, notes = measured_steps(trace)
    fit, (intervals, factors, most_noise), left_out = _sure_fit(steps, source)
    notes += left_out
    ranks = _rank_fits(fit, factors)
    model = _model(fit, intervals, ranks, name or f"calibrated on {source}", source)
    errors = _errors(fit.steps, model)
    held_out, doubts = _held_out(fit.steps, source)
    doubts += ["C_x is not fitted: what steps lose where ranks prefill is in p"] if "p" in intervals else []
    measured = fit.steps.compute_ms is not None
    return Calibration(
        model=model,
        fitted_to="rank times" if measured else "step times",
        coefficients=intervals,
        errors=errors,
        held_out=held_out,
        outliers=int((fit.weight == 0).sum()),
        observations=len(fit.y),
        ranks=ranks,
        idle_measured=_idle(fit.steps, model, measured=True) if measured else None,
        idle_modelled=_idle(fit.steps, model, measured=False),
        warnings=(*notes, *doubts, *_warnings(fit, intervals, ranks, errors, held_out, most_noise)),
    )


def _sure_fit(steps: StepArrays, source: str) -> tuple[RobustFit, Uncertainty, list[str]]:
    """A fit whose coefficients are sure enough, and how sure; without e, as a note says, where e is not."""
    notes: list[str] = []
    if steps.prefill_pairs is not None:
        try:
            fit = _fit(steps, source)
            found = uncertainty(fit)
            _refuse_vague(fit, found.coefficients, source)
        except InputError as error:
            notes = [f"e is left out of the fit: {error.problem}"]
            steps = replace(steps, prefill_pairs=None)
        else:
            return fit, found, notes
    fit = _fit(steps, source)
    found = uncertainty(fit)
    _refuse_vague(fit, found.coefficients, source)
    return fit, found, notes


def _worst_p95(errors: Errors, held_out: Errors | None) -> float:
    return max(errors.p95, 0.0 if held_out is None else held_out.p95)


def _held_out(steps: StepArrays, source: str) -> tuple[Errors | None, list[str]]:
    """The errors on the last steps of a model that was fitted to those before; why there are none, if so."""
    cut = int(len(steps) * FIT_SHARE)
    try:
        early = _fit(steps.part(slice(0, cut)), source, fewest=int(FEWEST_STEPS * FIT_SHARE))
    except InputError as error:
        return None, [f"nothing could be held out to validate the model, as of the first {cut:,} steps {error.problem}"]
    return _errors(steps.part(slice(cut, None)), _plain_model(early)), []


def measured_steps(trace: Trace) -> tuple[StepArrays, list[str]]:
    """The steps of a trace that a model is fitted to, evenly spaced ones of very many, and notes on them.

    Raises `InputError` where there are none with times, or a replay made them.
    """
    source = trace.meta.source
    if not trace.num_steps:
        raise InputError(source, "it has no steps", expected="recorded steps with step_ms or compute_ms")
    if trace.meta.kind == "replayed":
        made_by = (trace.meta.step_model or {}).get("name", "a step model")
        raise InputError(
            source, f"its times were made by a replay with {made_by}", expected="times measured on a real system"
        )
    whole, notes = whole_blocks(blocks_of(trace), trace.meta.source)
    measured = whole.tells("compute_ms")
    if not measured and not whole.tells("step_ms"):
        raise InputError(source, "no step has a time", expected="recorded steps with step_ms or compute_ms")
    most_cells = MOST_CELLS if measured else MOST_CELLS_OF_STEP_TIMES
    every = -(-len(whole) * whole.dp_size // most_cells)
    steps = whole.thinned(every)
    if steps.prefill_tokens is not None and (np.isnan(steps.prefill_tokens).any() or not steps.prefill_tokens.any()):
        if np.isnan(steps.prefill_tokens).any():
            notes.append("some steps do not tell their prefill_tokens: prefill is left out of the fit")
        steps = replace(steps, prefill_tokens=None)
    if steps.prefill_tokens is None or lacks_pairs(steps):
        steps = replace(steps, prefill_pairs=None)
    if steps.prefill_pairs is not None:
        steps = replace(steps, prefill_pairs=np.nan_to_num(steps.prefill_pairs))
    if every > 1:
        notes.append(f"fitted on every {every}th of {len(whole):,} steps")
    return steps, notes


def _fit(steps: StepArrays, source: str, fewest: int = FEWEST_STEPS) -> RobustFit:
    """Fit the steps. Raises `InputError` where they cannot tell the coefficients."""
    if len(steps) < fewest:
        raise InputError(
            source,
            f"the trace has only {len(steps)} whole {'step' if len(steps) == 1 else 'steps'} with times",
            expected=f"at least {fewest}",
        )
    if steps.compute_ms is None:
        fit = RobustFit.of_step_times(steps)
        _refuse_alike(fit, source)
        settle_step_times(fit)
        _refuse_alike(fit, source)
        _refuse_one_straggler(fit, source)
        return fit
    fit = RobustFit.of_rank_times(steps)
    _refuse_alike(fit, source)
    fit.settle()
    if steps.step_ms is not None:
        fit.extra_ms = max(float(np.median(steps.step_ms - steps.compute_ms.max(axis=1))), 0.0)
    return fit


def _refuse_alike(fit: RobustFit, source: str) -> None:
    """Loads that hardly vary, or that go together, cannot be told apart."""
    if reason := why_not_told(fit):
        raise InputError(source, reason, expected="steps with more different loads, such as the first minutes of a run")


def _refuse_one_straggler(fit: RobustFit, source: str) -> None:
    """From step times alone nobody knows the speed of a rank that sets nearly all of them, nor a and b then."""
    others = int((~fit.is_free[fit.rank]).sum())
    if others >= FEWEST_OF_RANK or not fit.coefficients[1:].any():
        return
    ranks = [str(rank) for rank in np.flatnonzero(fit.is_free & np.isin(np.arange(fit.steps.dp_size), fit.rank))]
    named = f"rank {ranks[0]} is" if len(ranks) == 1 else f"ranks {', '.join(ranks)} are"
    raise InputError(
        source,
        f"{named} the straggler in {len(fit.rank) - others:,} of {len(fit.rank):,} steps: step times alone cannot tell "
        "a slow rank from a and b there",
        expected="compute_ms per rank, or steps in which other ranks are the straggler",
    )


def _refuse_vague(fit: RobustFit, intervals: dict[str, Interval], source: str) -> None:
    mean_s = (fit.y.mean() + fit.extra_ms) / 1e3
    a_ms, b_ms = (fit.loads[:, NAMES.index(name)].mean() * intervals[name].value * 1e3 for name in ("a", "b"))
    if a_ms + b_ms <= SMALLEST_LOAD_SHARE * fit.y.mean():
        raise InputError(
            source,
            "its times do not grow with KV tokens or requests, so no coefficient of load can be told",
            expected="times that depend on the load",
        )
    for index, name in enumerate(NAMES):
        if name not in intervals:
            continue
        interval, load = intervals[name], fit.loads[:, index].mean()
        share = (interval.high - interval.low) / 2 * load / mean_s
        if share > WIDEST:
            raise InputError(
                source,
                f"{len(fit.steps):,} steps cannot tell {name}: its 95% interval leaves {share:.0%} of a mean time "
                "open on either side (loads too alike, or too few steps for the noise)",
                expected="a longer trace, or one with more different loads",
            )


def _rank_fits(fit: RobustFit, factors: Sequence[Interval | None]) -> tuple[RankFit, ...]:
    fitted = np.maximum(fit.effective_loads() @ fit.coefficients, 1e-12)
    residual = fit.y / fitted - 1
    found = []
    for rank in range(fit.steps.dp_size):
        own = residual[fit.rank == rank]
        found.append(
            RankFit(
                rank=rank,
                observations=len(own),
                factor=factors[rank] if len(own) >= FEWEST_OF_RANK else None,
                residual_median=float(np.median(own)) if len(own) else np.nan,
                residual_p95=float(np.percentile(np.abs(own), 95)) if len(own) else np.nan,
            )
        )
    return tuple(found)


def _plain_model(fit: RobustFit, name: str = "fit") -> StepTimeModel:
    notable = {
        rank: 1 / factor
        for rank, factor in enumerate(fit.factor.tolist())
        if is_notable(fit, Interval(factor, factor, factor))
    }
    found = dict(zip(NAMES, (fit.coefficients / 1e3).tolist(), strict=False))
    model = StepTimeModel(name, 0.0, 0.0).with_coefficients(**{**found, "C": found["C"] + fit.extra_ms / 1e3})
    return model.with_speeds(notable)


def _model(
    fit: RobustFit, intervals: dict[str, Interval], ranks: Sequence[RankFit], name: str, source: str
) -> StepTimeModel:
    """The model of a fit, with a speed for ranks that are surely and notably slower or faster."""
    speeds = {
        rank.rank: 1 / rank.factor.value for rank in ranks if rank.factor is not None and is_notable(fit, rank.factor)
    }
    model = StepTimeModel(
        name=name,
        shared_s=0.0,
        per_token_s=0.0,
        source=f"fitted to {len(fit.steps):,} steps of {source}",
        confidence="measured on that system; bands are 95% intervals of the fit; b_mean is not fitted: "
        "its work is in C and b",
        bands=tuple(Band(key, low, high) for key, (_value, low, high) in intervals.items() if high > low),
    )
    model = model.with_coefficients(**{key: interval.value for key, interval in intervals.items()})
    return model.with_speeds(speeds)


def is_notable(fit: RobustFit, factor: Interval) -> bool:
    """Whether a rank is surely and notably slower or faster than the median rank."""
    if fit.steps.compute_ms is None:
        return factor.value >= NOTABLE_STRAGGLER and factor.low >= NOTABLE_FACTOR
    if factor.value > 1:
        return factor.value >= NOTABLE_FACTOR and factor.low > 1
    return factor.value <= 1 / NOTABLE_FACTOR and factor.high < 1


def predicted_step_ms(steps: StepArrays, model: StepTimeModel) -> FloatArray:
    """(S,) step times of a model for recorded loads, in ms, prefill included where both know it."""
    return np.asarray(common_times_ms(steps, model) + rank_times_ms(steps, model).max(axis=1))


def step_errors(measured_ms: FloatArray, predicted_ms: FloatArray) -> Errors:
    """Errors of predicted times; arrays of one shape, no gaps."""
    relative = np.abs(predicted_ms / measured_ms - 1)
    spread = ((measured_ms - measured_ms.mean()) ** 2).sum()
    return Errors(
        steps=len(measured_ms),
        bias=float(predicted_ms.sum() / measured_ms.sum() - 1),
        median=float(np.median(relative)),
        p95=float(np.percentile(relative, 95)),
        r2=float(1 - ((measured_ms - predicted_ms) ** 2).sum() / spread) if spread > 0 else np.nan,
    )


def _errors(steps: StepArrays, model: StepTimeModel) -> Errors:
    if steps.step_ms is not None:
        return step_errors(steps.step_ms, predicted_step_ms(steps, model))
    assert steps.compute_ms is not None
    work = steps.compute_ms > 0
    return step_errors(steps.compute_ms[work], (rank_times_ms(steps, model) + model.shared_s * 1e3)[work])


def _idle(steps: StepArrays, model: StepTimeModel, *, measured: bool) -> float:
    """Barrier idle as a share of rank-time."""
    accounts = account(steps if measured else replace(steps, step_ms=None), model, measured=measured)
    return float(accounts.idle_ms.sum() / (accounts.dp_size * accounts.step_ms.sum()))


def _warnings(
    fit: RobustFit,
    intervals: dict[str, Interval],
    ranks: Sequence[RankFit],
    errors: Errors,
    held_out: Errors | None,
    most_noise: float,
) -> list[str]:
    found = []
    worst = _worst_p95(errors, held_out)
    if worst > POOR_ERROR:
        found.append(
            f"the model fits poorly: one step in twenty is off by more than {worst:.0%} "
            f"(above {POOR_ERROR:.0%}); do not trust small differences between policies"
        )
    for name, interval in intervals.items():
        if interval.low <= 0 and name not in ("p", "e"):
            found.append(f"{name} may be 0: its interval reaches {interval.high:.3g} s")
    more = [math.nan] * len(ranks) if fit.steps.compute_ms is None else list(more_ms(fit))
    for rank in ranks:
        if rank.factor is None or not is_notable(fit, rank.factor):
            continue
        if rank.factor.value > 1 and not math.isnan(more[rank.rank]):
            stands_in = f"in the model a speed of {1 / rank.factor.value:.2f} stands for it"
            found.append(f"{late_rank(rank.rank, more[rank.rank])}; {stands_in}")
        else:
            word = "slow" if rank.factor.value > 1 else "fast"
            found.append(
                f"rank {rank.rank} is {word}: it takes {rank.factor.value:.2f}x the time of the median rank for its "
                f"load ({rank.factor.low:.2f} to {rank.factor.high:.2f}), a speed of {1 / rank.factor.value:.2f}"
            )
    if fit.steps.compute_ms is None:
        found.append(
            "fitted to step times alone: a rank is seen only where it is the straggler, and noise of rank times bends "
            f"a and b, so their intervals allow for any noise up to {most_noise:.0%}; compute_ms per rank tells more"
        )
    return found

"""Calibration: the coefficients of a step-time model, fitted to the recorded steps of a trace.

With rank times (`compute_ms`) every rank with work in every step is one observation of

    y = c + f_g * (a*L + b*n + p*P)

with P prefill tokens (where recorded) and f_g the factor of the rank, 1 for the median rank; C is c plus the median of
step time minus largest rank time. Without rank times every step is one observation of

    t = C + max_g f_g * (a*L + b*n + p*P)

and the straggler is chosen anew until it stays.

Coefficients are non-negative. Errors count relative to the fitted time, as in the presets, and outliers are weighed
down (Tukey's biweight, 4.685 scaled median deviations, after Huber's weights; Huber and Ronchetti, Robust Statistics).
Intervals are 95% percentiles of a bootstrap over blocks of consecutive steps (Kuensch, 1989), so that noise may be
correlated from step to step. Assumption: what is not explained by L, n and P does not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from lbal.analyzers.barrier import account
from lbal.analyzers.errors import InputError
from lbal.analyzers.recorded import whole_steps
from lbal.analyzers.steptime import LEAST_SPEED, MOST_SPEED, Band, StepTimeModel
from lbal.analyzers.trace import FloatArray, IntArray, StepArrays, Trace

FEWEST_STEPS = 50
FIT_SHARE = 0.7
"""Part of the steps, the first, that validation fits; it predicts the rest."""
MOST_CELLS = 2_000_000
"""Rank-steps, in evenly spaced steps, that a longer trace is fitted on."""
LEAST_SPREAD = 0.01
"""Loads whose standard deviation is below this share of their mean are too alike."""
LEAST_TOLERANCE = 1e-6
"""Least part of a load that the others do not explain."""
WIDEST = 0.2
"""A coefficient whose interval makes this share of a mean time uncertain, on either side, is not identified."""
POOR_ERROR = 0.2
NOTABLE_FACTOR = 1.05
"""A rank this much slower or faster than the median, and surely so, gets a speed of its own."""
HUBER, TUKEY, MAD = 1.345, 4.685, 1.4826
ROUNDS = 12
BLOCKS, REPLICATES = 50, 400
FEWEST_OF_RANK = 30
"""Observations that the factor of a rank needs."""
NAMES = ("C", "a", "b", "p")
LOADS = ("", "KV tokens", "requests", "prefill tokens")


class Interval(NamedTuple):
    """A fitted value with its 95% interval."""

    value: float
    low: float
    high: float


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
    held_out: Errors
    """Of a model fitted to the first steps, on the rest."""
    outliers: int
    """Observations that count for nothing."""
    observations: int
    ranks: tuple[RankFit, ...]
    idle_measured: float | None
    """Barrier idle as a share of rank-time, where rank times were measured."""
    idle_modelled: float
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For the result and the model file; coefficients in seconds."""
        return {
            "fitted_to": self.fitted_to,
            "coefficients": {name: interval._asdict() for name, interval in self.coefficients.items()},
            "errors": self.errors.as_dict(),
            "held_out": self.held_out.as_dict(),
            "observations": self.observations,
            "outliers": self.outliers,
            "idle_measured": self.idle_measured,
            "idle_modelled": self.idle_modelled,
            "ranks": [rank.as_dict() for rank in self.ranks],
        }


def calibrate(trace: Trace, name: str = "") -> Calibration:
    """Fit C, a, b (and p, where prefill tokens were recorded) to the steps of a trace.

    Raises `InputError` with the reason where the trace has no measured times or cannot tell the coefficients.
    """
    source = trace.meta.source
    steps, notes = _measured_steps(trace)
    fit = _Fit.of(steps, source)
    intervals, factors = _intervals(fit)
    _refuse_vague(fit, intervals, source)
    ranks = _rank_fits(fit, factors)
    model = _model(fit, intervals, ranks, name or f"calibrated on {source}", source)
    errors = _errors(fit.steps, model)
    cut = int(len(fit.steps) * FIT_SHARE)
    early = _Fit.of(fit.steps.part(slice(0, cut)), source, "the first part of it, which validation fits")
    held_out = _errors(fit.steps.part(slice(cut, None)), _plain_model(early))
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
        warnings=(*notes, *_warnings(fit, intervals, ranks, errors, held_out)),
    )


def _measured_steps(trace: Trace) -> tuple[StepArrays, list[str]]:
    source = trace.meta.source
    if trace.steps is None:
        raise InputError(source, "it has no steps", expected="recorded steps with step_ms or compute_ms")
    if trace.meta.kind == "replayed":
        made_by = (trace.meta.step_model or {}).get("name", "a step model")
        raise InputError(
            source, f"its times were made by a replay with {made_by}", expected="times measured on a real system"
        )
    steps, notes = whole_steps(trace)
    if steps.compute_ms is None and steps.step_ms is None:
        raise InputError(source, "no step has a time", expected="recorded steps with step_ms or compute_ms")
    if steps.prefill_tokens is not None and (np.isnan(steps.prefill_tokens).any() or not steps.prefill_tokens.any()):
        if np.isnan(steps.prefill_tokens).any():
            notes.append("some steps do not tell their prefill_tokens: prefill is left out of the fit")
        steps = replace(steps, prefill_tokens=None)
    every = -(-len(steps) * steps.dp_size // MOST_CELLS)
    if every > 1:
        notes.append(f"fitted on every {every}th of {len(steps):,} steps")
        steps = steps.part(slice(None, None, every))
    return steps, notes


@dataclass
class _Fit:
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
    def of(cls, steps: StepArrays, source: str, what: str = "the trace") -> _Fit:
        """Fit the steps. Raises `InputError` where they cannot tell the coefficients."""
        if len(steps) < FEWEST_STEPS:
            raise InputError(
                source, f"{what} has only {len(steps)} whole steps with times", expected=f"at least {FEWEST_STEPS}"
            )
        fit = cls._of_rank_times(steps) if steps.compute_ms is not None else cls._of_step_times(steps, source)
        _refuse_alike(fit, source)
        if steps.compute_ms is not None:
            fit._settle()
            if steps.step_ms is not None:
                fit.extra_ms = max(float(np.median(steps.step_ms - steps.compute_ms.max(axis=1))), 0.0)
        return fit

    @classmethod
    def _of_rank_times(cls, steps: StepArrays) -> _Fit:
        assert steps.compute_ms is not None
        row, rank = np.nonzero((steps.num_running > 0) & (steps.compute_ms > 0))
        return cls(
            steps, row, rank, _loads(steps, row, rank), steps.compute_ms[row, rank], factor=np.ones(steps.dp_size)
        )

    @classmethod
    def _of_step_times(cls, steps: StepArrays, source: str) -> _Fit:
        """Choose the stragglers by load, fit, choose them by the fit, until they stay."""
        assert steps.step_ms is not None
        rows, straggler = np.arange(len(steps)), steps.kv_tokens.argmax(axis=1)
        fit = cls(steps, rows, straggler, _loads(steps, rows, straggler), steps.step_ms, factor=np.ones(steps.dp_size))
        _refuse_alike(fit, source)
        for _ in range(ROUNDS):
            fit._settle()
            rank_ms = fit.factor * np.einsum("sgk,k->sg", _all_loads(steps), fit.coefficients[1:])
            chosen = rank_ms.argmax(axis=1)
            if (chosen == fit.rank).all():
                break
            fit.rank, fit.loads = chosen, _loads(steps, rows, chosen)
        return fit

    def _settle(self) -> None:
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


def _normalised(above: FloatArray, below: FloatArray, enough: Any) -> FloatArray:
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


def _refuse_alike(fit: _Fit, source: str) -> None:
    """Loads that hardly vary, or that go together, cannot be told apart."""
    if len(fit.y) < FEWEST_STEPS:
        raise InputError(source, f"only {len(fit.y)} steps have work and a time", expected=f"at least {FEWEST_STEPS}")
    present = [index for index in range(1, len(NAMES)) if fit.loads[:, index].any()]
    for index in present:
        values = fit.loads[:, index]
        if values.std() < LEAST_SPREAD * values.mean():
            raise InputError(
                source,
                f"loads are too alike to tell {NAMES[index]} from C: {LOADS[index]} per rank vary by "
                f"{values.std() / values.mean():.2%} of their mean only",
                expected="steps with different loads (such as the first minutes of a run)",
            )
    relative = fit.loads / fit.y[:, None]
    for index in present:
        others = [other for other in (0, *present) if other != index]
        tolerance = _unexplained(relative[:, index], relative[:, others])
        if tolerance < LEAST_TOLERANCE:
            raise InputError(
                source,
                f"loads are too alike to tell {NAMES[index]} from the other coefficients: {LOADS[index]} of a rank "
                f"follow from its other loads to {tolerance:.1g} of their variation",
                expected="requests of different lengths",
            )


def _unexplained(values: FloatArray, others: FloatArray) -> float:
    scaled = others / np.sqrt((others**2).sum(axis=0))
    found = np.linalg.lstsq(scaled, values, rcond=None)[0]
    return float(((values - scaled @ found) ** 2).sum() / (values**2).sum())


def _intervals(fit: _Fit) -> tuple[dict[str, Interval], FloatArray]:
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


def _extra_replicates(fit: _Fit, drawn: IntArray, blocks: int) -> FloatArray:
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
    enough: Any
    """(G,) whether the factor of a rank is fitted."""

    @classmethod
    def of(cls, fit: _Fit, weight: FloatArray, block: IntArray, blocks: int) -> _BlockSums:
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

    def refitted(self, drawn: FloatArray, fit: _Fit) -> tuple[FloatArray, FloatArray]:
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


def _refuse_vague(fit: _Fit, intervals: dict[str, Interval], source: str) -> None:
    mean_s = fit.y.mean() / 1e3
    if intervals["a"].value + intervals["b"].value <= 0:
        raise InputError(
            source,
            "its times do not grow with KV tokens or requests, so no coefficient of load can be told",
            expected="times that depend on the load",
        )
    for index, name in enumerate(NAMES):
        if name not in intervals:
            continue
        interval, load = intervals[name], fit.loads[:, index].mean()
        if (interval.high - interval.low) / 2 * load > WIDEST * mean_s:
            share = (interval.high - interval.low) / 2 * load / mean_s
            raise InputError(
                source,
                f"{len(fit.steps):,} steps cannot tell {name}: its 95% interval leaves {share:.0%} of a mean time "
                "open on either side (loads too alike, or too few steps for the noise)",
                expected="a longer trace, or one with more different loads",
            )


def _rank_fits(fit: _Fit, factors: FloatArray) -> tuple[RankFit, ...]:
    fitted = np.maximum(fit.effective_loads() @ fit.coefficients, 1e-12)
    residual = fit.y / fitted - 1
    low, high = np.percentile(factors, [2.5, 97.5], axis=0)
    found = []
    for rank in range(fit.steps.dp_size):
        own = residual[fit.rank == rank]
        value = float(fit.factor[rank])
        known = len(own) >= FEWEST_OF_RANK
        found.append(
            RankFit(
                rank=rank,
                observations=len(own),
                factor=Interval(value, min(float(low[rank]), value), max(float(high[rank]), value)) if known else None,
                residual_median=float(np.median(own)) if len(own) else np.nan,
                residual_p95=float(np.percentile(np.abs(own), 95)) if len(own) else np.nan,
            )
        )
    return tuple(found)


def _plain_model(fit: _Fit, name: str = "fit") -> StepTimeModel:
    c, a, b, p = fit.coefficients / 1e3
    notable = {
        rank: 1 / factor
        for rank, factor in enumerate(fit.factor.tolist())
        if not 1 / NOTABLE_FACTOR < factor < NOTABLE_FACTOR
    }
    model = StepTimeModel(name, c + fit.extra_ms / 1e3, a, b, per_prefill_token_s=p)
    return model.with_speeds(notable)


def _model(
    fit: _Fit, intervals: dict[str, Interval], ranks: Sequence[RankFit], name: str, source: str
) -> StepTimeModel:
    """The model of a fit, with a speed for ranks that are surely and notably slower or faster."""
    speeds = {rank.rank: 1 / rank.factor.value for rank in ranks if rank.factor is not None and is_notable(rank.factor)}
    model = StepTimeModel(
        name=name,
        shared_s=0.0,
        per_token_s=0.0,
        source=f"fitted to {len(fit.steps):,} steps of {source}",
        confidence="measured on that system; bands are 95% intervals of the fit",
        bands=tuple(Band(key, low, high) for key, (_value, low, high) in intervals.items() if high > low),
    )
    model = model.with_coefficients(**{key: interval.value for key, interval in intervals.items()})
    return model.with_speeds(speeds)


def is_notable(factor: Interval) -> bool:
    """Whether a rank is surely and notably slower or faster than the median rank."""
    if factor.value > 1:
        return factor.value >= NOTABLE_FACTOR and factor.low > 1
    return factor.value <= 1 / NOTABLE_FACTOR and factor.high < 1


def predicted_step_ms(steps: StepArrays, model: StepTimeModel) -> FloatArray:
    """(S,) step times of a model for recorded loads, in ms, prefill included where both know it."""
    return np.asarray(model.common_ms(steps.num_running) + _rank_ms(steps, model).max(axis=1))


def _rank_ms(steps: StepArrays, model: StepTimeModel) -> FloatArray:
    rank_ms = model.rank_time_ms(steps.kv_tokens, steps.num_running)
    if steps.prefill_tokens is not None and model.per_prefill_token_s:
        extra = model.per_prefill_token_s * 1e3 * np.nan_to_num(steps.prefill_tokens)
        rank_ms = rank_ms + extra * model.slowness(steps.dp_size)
    return rank_ms


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
    return step_errors(steps.compute_ms[work], (_rank_ms(steps, model) + model.shared_s * 1e3)[work])


def _idle(steps: StepArrays, model: StepTimeModel, *, measured: bool) -> float:
    """Barrier idle as a share of rank-time."""
    accounts = account(steps if measured else replace(steps, step_ms=None), model, measured=measured)
    return float(accounts.idle_ms.sum() / (accounts.dp_size * accounts.step_ms.sum()))


def _warnings(
    fit: _Fit, intervals: dict[str, Interval], ranks: Sequence[RankFit], errors: Errors, held_out: Errors
) -> list[str]:
    found = []
    worst = max(errors.p95, held_out.p95)
    if worst > POOR_ERROR:
        found.append(
            f"the model fits poorly: one step in twenty is off by more than {worst:.0%} "
            f"(above {POOR_ERROR:.0%}); do not trust small differences between policies"
        )
    for name, interval in intervals.items():
        if interval.low <= 0 and name != "p":
            found.append(f"{name} may be 0: its interval reaches {interval.high:.3g} s")
    for rank in ranks:
        if rank.factor is not None and is_notable(rank.factor):
            word = "slow" if rank.factor.value > 1 else "fast"
            found.append(
                f"rank {rank.rank} is {word}: it takes {rank.factor.value:.2f}x the time of the median rank for its "
                f"load ({rank.factor.low:.2f} to {rank.factor.high:.2f}), a speed of {1 / rank.factor.value:.2f}"
            )
    if fit.steps.compute_ms is None:
        found.append(
            "fitted to step times alone: a rank is seen only where it is the straggler, and noise of rank times makes a "
            "and b look some percent larger; compute_ms per rank tells more"
        )
    return found

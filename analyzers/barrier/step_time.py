"""Time of a step: t = C + max_g(a*L_g + b*n_g) + b_mean*mean(n)  (L in KV tokens, n in requests).

A rank's own time, `rank time`, is (a*L + b*n) / speed; the barrier waits for the largest. C is shared work
(weights, collectives): busy, not idle. All speeds are 1 unless a rank is known to be slow or fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.trace import FloatArray, StepArrays

Load = TypeVar("Load", float, FloatArray)
LEAST_SPEED, MOST_SPEED = 0.01, 100.0
"""Speeds beyond these are typing mistakes."""
COEFFICIENTS = {
    "C": "shared_s",
    "a": "per_token_s",
    "b": "per_request_s",
    "b_mean": "per_mean_request_s",
    "p": "per_prefill_token_s",
}
"""Names of the coefficients in files, results and on the command line; all in seconds."""


class Coefficients(NamedTuple):
    """The coefficients of the step-time formula, all in the same unit of time. Compiled loops take it as it is."""

    shared: float
    """C"""
    per_token: float
    """a"""
    per_request: float
    """b"""
    per_mean_request: float
    """b_mean"""
    per_prefill_token: float
    """p; no formula uses it yet."""


def rank_time(tokens: Load, running: Load, coefficients: Coefficients) -> Load:
    """What a rank of speed 1 takes for its own load: a*L + b*n, in the unit of the coefficients.

    Of numbers or of arrays of any shape. Written for compilation too.
    """
    return coefficients.per_token * tokens + coefficients.per_request * running


def common_time(mean_running: Load, coefficients: Coefficients) -> Load:
    """What every rank spends alike in a step: C + b_mean*mean(n), in the unit of the coefficients."""
    return coefficients.shared + coefficients.per_mean_request * mean_running


def step_time(slowest: float, mean_running: float, coefficients: Coefficients) -> float:
    """What a step takes whose slowest rank takes `slowest`: C + slowest + b_mean*mean(n). For the compiled loop.

    The same as `common_time` + slowest, but for the order of the additions, which keeps replays equal to the bit.
    """
    return coefficients.shared + slowest + coefficients.per_mean_request * mean_running


class Band(NamedTuple):
    """Within what a coefficient may lie, in seconds."""

    coefficient: str
    low: float
    high: float


@dataclass(frozen=True)
class StepTimeModel:
    """Coefficients of the step-time formula, in seconds (as published); its methods give milliseconds."""

    name: str
    shared_s: float
    """C: seconds of every step that do not depend on load."""
    per_token_s: float
    """a: seconds per resident KV token of a rank."""
    per_request_s: float = 0.0
    """b: seconds per running request of a rank."""
    per_mean_request_s: float = 0.0
    """b_mean: seconds per running request, averaged over the ranks."""
    source: str = ""
    confidence: str = ""
    per_prefill_token_s: float = 0.0
    """p: seconds per prompt token that a rank processes in the step. Replays do not model prefill."""
    rank_speeds: tuple[tuple[int, float], ...] = ()
    """(rank, speed) of the ranks whose speed is not 1; 0.8 takes 1/0.8 of the time for the same load."""
    bands: tuple[Band, ...] = ()
    """Of the coefficients that are known to some accuracy; the others have none."""
    gpu: str = ""
    """The accelerator it was measured on, by the name of its power model; empty where unknown."""
    gpus_per_rank: int = 1
    """Accelerators that work as one rank (tensor parallelism)."""

    @property
    def coefficients_s(self) -> Coefficients:
        """In seconds."""
        return Coefficients(
            self.shared_s, self.per_token_s, self.per_request_s, self.per_mean_request_s, self.per_prefill_token_s
        )

    @property
    def coefficients_ms(self) -> Coefficients:
        """In milliseconds."""
        return Coefficients(*(value * 1e3 for value in self.coefficients_s))

    def slowness(self, dp_size: int) -> FloatArray:
        """(G,) 1 / speed of each rank. Raises `UsageError` for a speed of a rank that is not there."""
        slowness = np.ones(dp_size)
        for rank, speed in self.rank_speeds:
            if rank >= dp_size:
                raise UsageError(
                    f"--rank-speed {rank}={speed:.4g}: there are {dp_size} ranks, expected one of 0..{dp_size - 1} "
                    "(speeds come from the option or from the step model)"
                )
            slowness[rank] = 1.0 / speed
        return slowness

    def rank_time_ms(self, kv_tokens: FloatArray, num_running: FloatArray) -> FloatArray:
        """Each rank's own time before the barrier, in ms; same shape as the loads, ranks last."""
        plain = rank_time(kv_tokens, num_running, self.coefficients_ms)
        return np.asarray(self.slowness(kv_tokens.shape[-1]) * plain) if self.rank_speeds else plain

    def common_ms(self, num_running: FloatArray) -> FloatArray:
        """What every rank spends alike in a step: C + b_mean*mean(n), in ms; (S, G) -> (S,)."""
        return np.asarray(common_time(num_running.mean(axis=-1), self.coefficients_ms))

    def as_dict(self) -> dict[str, Any]:
        """For the result and for the header of a replayed trace; coefficients in seconds."""
        return {
            "name": self.name,
            "C": self.shared_s,
            "a": self.per_token_s,
            "b": self.per_request_s,
            "b_mean": self.per_mean_request_s,
            **({"p": self.per_prefill_token_s} if self.per_prefill_token_s else {}),
            "unit": "seconds",
            "source": self.source,
            "confidence": self.confidence,
            **({"gpu": self.gpu, "gpus_per_rank": self.gpus_per_rank} if self.gpu else {}),
            **({"rank_speed": {str(rank): speed for rank, speed in self.rank_speeds}} if self.rank_speeds else {}),
            **({"bands": {name: {"low": low, "high": high} for name, low, high in self.bands}} if self.bands else {}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> StepTimeModel:
        """The inverse of `as_dict`; KeyError, TypeError or ValueError where the record is not one."""
        speeds = {int(rank): float(speed) for rank, speed in dict(record.get("rank_speed", {})).items()}
        bands = dict(record.get("bands", {}))
        model = cls(
            name=str(record["name"]),
            shared_s=float(record["C"]),
            per_token_s=float(record["a"]),
            per_request_s=float(record.get("b", 0.0)),
            per_mean_request_s=float(record.get("b_mean", 0.0)),
            source=str(record.get("source", "")),
            confidence=str(record.get("confidence", "")),
            per_prefill_token_s=float(record.get("p", 0.0)),
            bands=tuple(Band(name, float(band["low"]), float(band["high"])) for name, band in bands.items()),
            gpu=str(record.get("gpu", "")),
            gpus_per_rank=int(record.get("gpus_per_rank", 1)),
        )
        return model.with_speeds(speeds)

    def with_speeds(self, speeds: Mapping[int, float]) -> StepTimeModel:
        """The same model with these ranks at these speeds. Raises `ValueError` for a speed that cannot be."""
        for rank, speed in speeds.items():
            if rank < 0 or not LEAST_SPEED <= speed <= MOST_SPEED:
                raise ValueError(
                    f"rank {rank} cannot have the speed {speed:g}, "
                    f"expected a rank from 0 and a speed from {LEAST_SPEED:g} to {MOST_SPEED:g}"
                )
        return replace(self, rank_speeds=tuple(sorted(speeds.items())))

    def with_coefficients(self, **values: float) -> StepTimeModel:
        """The same model with other coefficients, by the names of `COEFFICIENTS`, in seconds."""
        fields: dict[str, Any] = {COEFFICIENTS[name]: value for name, value in values.items()}
        return replace(self, **fields)

    def coefficient(self, name: str) -> float:
        """A coefficient by its name in `COEFFICIENTS`, in seconds."""
        value: float = getattr(self, COEFFICIENTS[name])
        return value


def fitted_model(steps: StepArrays, fallback: StepTimeModel) -> StepTimeModel:
    """Slopes a and b fitted to measured rank times, and C to what is left of the step times.

    Non-negative least squares of `compute_ms` on KV tokens and requests, over all ranks and steps, repeated with every
    rank divided by its own factor so that one slow rank does not bend the slopes. C is the median of step time minus
    largest rank time where step times are known, the fallback's otherwise. The fallback is also the answer where no
    rank ever has work.
    """
    assert steps.compute_ms is not None
    sums = _RankSums.of(steps.kv_tokens, steps.num_running, steps.compute_ms)
    factor = np.ones(steps.dp_size)
    per_token = per_request = 0.0
    for _ in range(4):
        per_token, per_request = sums.slopes(factor)
        total = per_token * sums.tokens + per_request * sums.running
        if not total.any():
            return fallback
        factor = np.divide(sums.time, total, out=np.ones_like(total), where=total > 0)
        factor[factor <= 0] = 1.0
        factor /= np.median(factor)
    shared = fallback.shared_s
    if steps.step_ms is not None:
        shared = max(float(np.median(steps.step_ms - steps.compute_ms.max(axis=1))) / 1e3, 0.0)
    return StepTimeModel(
        name="fitted",
        shared_s=shared,
        per_token_s=per_token / 1e3,
        per_request_s=per_request / 1e3,
        source="fitted to the rank times of the trace",
        confidence="measured",
    )


@dataclass(frozen=True)
class _RankSums:
    """Sums over the steps, shape (G,): all that a fit needs, so that its rounds need not go through the steps."""

    tokens: FloatArray
    running: FloatArray
    time: FloatArray
    tt: FloatArray
    tn: FloatArray
    nn: FloatArray
    ty: FloatArray
    ny: FloatArray

    @classmethod
    def of(cls, tokens: FloatArray, running: FloatArray, time_ms: FloatArray) -> _RankSums:
        """From loads and rank times of shape (S, G)."""
        t, n, y = tokens, running, time_ms
        products = [np.einsum("sg,sg->g", left, right) for left, right in ((t, t), (t, n), (n, n), (t, y), (n, y))]
        return cls(t.sum(axis=0), n.sum(axis=0), y.sum(axis=0), *products)

    def slopes(self, factor: FloatArray) -> tuple[float, float]:
        """Non-negative least squares, in closed form, of the times divided by each rank's factor; ms per load."""
        tt, tn, nn = self.tt.sum(), self.tn.sum(), self.nn.sum()
        ty, ny = (self.ty / factor).sum(), (self.ny / factor).sum()
        determinant = tt * nn - tn * tn
        if determinant > 1e-12 * tt * nn:
            both = float((ty * nn - ny * tn) / determinant), float((ny * tt - ty * tn) / determinant)
            if min(both) >= 0:
                return both
        token_only = max(float(ty / tt), 0.0) if tt else 0.0
        request_only = max(float(ny / nn), 0.0) if nn else 0.0
        # Squared errors less the sum of y*y, which is common to both.
        if token_only * (token_only * tt - 2 * ty) <= request_only * (request_only * nn - 2 * ny):
            return token_only, 0.0
        return 0.0, request_only

"""Time of a step: t = C + max_g(a*L_g + b*n_g) + b_mean*mean(n)  (L in KV tokens, n in requests).

A rank's own time, `rank time`, is (a*L + b*n) / speed; the barrier waits for the largest. C is shared work
(weights, collectives): busy, not idle. All speeds are 1 unless a rank is known to be slow or fast.

A step that also prefills lasts

    t = C + (C_x if any rank prefills) + max_g(a*L_g + b*n_g + p*q_g + e*A_g) + b_mean*mean(n)

with q_g the prompt tokens that rank g computes in the step, and A_g the pairs of a query and a key in their attention:
a chunk of q tokens with m tokens of its prompt before it has q*m + q^2/2. L and n are of the requests that decode.
C_x is what a step loses for want of its CUDA graph. Where a rank computes for more requests than it has (padding),
b counts those that it computes for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.trace.trace import FloatArray

Load = TypeVar("Load", float, FloatArray)
LEAST_SPEED, MOST_SPEED = 0.01, 100.0
"""Speeds beyond these are typing mistakes."""
FITTED = "fitted"
"""The name of a model that was fitted to the very trace that it is used on: another trace has another one."""
COEFFICIENTS = {
    "C": "shared_s",
    "a": "per_token_s",
    "b": "per_request_s",
    "b_mean": "per_mean_request_s",
    "p": "per_prefill_token_s",
    "e": "per_prefill_pair_s",
    "C_x": "graph_loss_s",
}
"""Names of the coefficients in files, results and on the command line; all in seconds."""
PREFILL_COEFFICIENTS = ("p", "e", "C_x")
"""Those of prefill; a model need not have them."""


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
    """p"""
    per_prefill_pair: float = 0.0
    """e"""
    graph_loss: float = 0.0
    """C_x"""


def rank_time(tokens: Load, running: Load, coefficients: Coefficients) -> Load:
    """What a rank of speed 1 takes for its own load: a*L + b*n, in the unit of the coefficients.

    Of numbers or of arrays of any shape. Written for compilation too.
    """
    return coefficients.per_token * tokens + coefficients.per_request * running


def prefill_time(prefill_tokens: Load, prefill_pairs: Load, coefficients: Coefficients) -> Load:
    """What a rank of speed 1 takes for its prefill: p*q + e*A, in the unit of the coefficients.

    Of numbers or of arrays of any shape. Written for compilation too.
    """
    return coefficients.per_prefill_token * prefill_tokens + coefficients.per_prefill_pair * prefill_pairs


def mixed_rank_time(
    tokens: Load, running: Load, prefill_tokens: Load, prefill_pairs: Load, coefficients: Coefficients
) -> Load:
    """What a rank of speed 1 takes for its decodes and its prefill: a*L + b*n + (p*q + e*A); as `rank_time`.

    `running` are the requests that it computes for: with padding, more than it has. Without prefill it is equal to
    `rank_time` to the bit.
    """
    return rank_time(tokens, running, coefficients) + prefill_time(prefill_tokens, prefill_pairs, coefficients)


def common_time(mean_running: Load, coefficients: Coefficients) -> Load:
    """What every rank spends alike in a step: C + b_mean*mean(n), in the unit of the coefficients."""
    return coefficients.shared + coefficients.per_mean_request * mean_running


def step_time(slowest: float, mean_running: float, coefficients: Coefficients) -> float:
    """What a step takes whose slowest rank takes `slowest`: C + slowest + b_mean*mean(n). For the compiled loop.

    The same as `common_time` + slowest, but for the order of the additions, which keeps replays equal to the bit.
    """
    return coefficients.shared + slowest + coefficients.per_mean_request * mean_running


def mixed_step_time(slowest: float, mean_running: float, prefills: bool, coefficients: Coefficients) -> float:
    """As `step_time`, and C_x more if any rank `prefills`; without prefill equal to it to the bit."""
    took = step_time(slowest, mean_running, coefficients)
    return took + coefficients.graph_loss if prefills else took


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
    """p: seconds per prompt token that a rank computes in the step; 0 where unknown."""
    per_prefill_pair_s: float = 0.0
    """e: seconds per pair of a query and a key in the attention of prefill; 0 where unknown, and part of p then."""
    graph_loss_s: float = 0.0
    """C_x: seconds more of every step in which any rank prefills."""
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
            self.shared_s,
            self.per_token_s,
            self.per_request_s,
            self.per_mean_request_s,
            self.per_prefill_token_s,
            self.per_prefill_pair_s,
            self.graph_loss_s,
        )

    @property
    def tells_prefill(self) -> bool:
        """Whether it knows what prefill takes; if not, steps with prefill take what their decodes take."""
        return self.per_prefill_token_s > 0 or self.per_prefill_pair_s > 0

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
                    f"there are {dp_size} ranks, expected one of 0..{dp_size - 1} "
                    "(speeds come from the option or from the step model)",
                    parameter=Parameter("rank_speed", f"{rank}={speed:.4g}"),
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
            **{name: value for name in PREFILL_COEFFICIENTS if (value := self.coefficient(name))},
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
            per_prefill_pair_s=float(record.get("e", 0.0)),
            graph_loss_s=float(record.get("C_x", 0.0)),
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

    def without_prefill(self) -> StepTimeModel:
        """The same model for steps that only decode: it knows nothing of prefill, nor any band of it."""
        bands = tuple(band for band in self.bands if band.coefficient not in PREFILL_COEFFICIENTS)
        return replace(self, bands=bands).with_coefficients(**dict.fromkeys(PREFILL_COEFFICIENTS, 0.0))

    def with_coefficients(self, **values: float) -> StepTimeModel:
        """The same model with other coefficients, by the names of `COEFFICIENTS`, in seconds."""
        fields: dict[str, Any] = {COEFFICIENTS[name]: value for name, value in values.items()}
        return replace(self, **fields)

    def coefficient(self, name: str) -> float:
        """A coefficient by its name in `COEFFICIENTS`, in seconds."""
        value: float = getattr(self, COEFFICIENTS[name])
        return value

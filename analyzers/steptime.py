"""Time of a step: t = C + max_g(a*L_g + b*n_g) + b_mean*mean(n)  (L in KV tokens, n in requests).

A rank's own time, `rank time`, is a*L + b*n; the barrier waits for the largest. C is shared work
(weights, collectives): busy, not idle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lbal.analyzers.trace import FloatArray, StepArrays


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

    def rank_time_ms(self, kv_tokens: FloatArray, num_running: FloatArray) -> FloatArray:
        """Each rank's own time before the barrier, in ms; same shape as the loads."""
        return self.per_token_s * 1e3 * kv_tokens + self.per_request_s * 1e3 * num_running

    def common_ms(self, num_running: FloatArray) -> FloatArray:
        """What every rank spends alike in a step: C + b_mean*mean(n), in ms; (S, G) -> (S,)."""
        return np.asarray(self.shared_s * 1e3 + self.per_mean_request_s * 1e3 * num_running.mean(axis=-1))

    def as_dict(self) -> dict[str, Any]:
        """For the result and for the header of a replayed trace; coefficients in seconds."""
        return {
            "name": self.name,
            "C": self.shared_s,
            "a": self.per_token_s,
            "b": self.per_request_s,
            "b_mean": self.per_mean_request_s,
            "unit": "seconds",
            "source": self.source,
            "confidence": self.confidence,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> StepTimeModel:
        """The inverse of `as_dict`; KeyError or ValueError where the record is not one."""
        return cls(
            name=str(record["name"]),
            shared_s=float(record["C"]),
            per_token_s=float(record["a"]),
            per_request_s=float(record.get("b", 0.0)),
            per_mean_request_s=float(record.get("b_mean", 0.0)),
            source=str(record.get("source", "")),
            confidence=str(record.get("confidence", "")),
        )


def fitted_model(steps: StepArrays, fallback: StepTimeModel) -> StepTimeModel:
    """Slopes a and b fitted to measured rank times, and C to what is left of the step times.

    Non-negative least squares of `compute_ms` on KV tokens and requests, over all ranks and steps, repeated with every
    rank divided by its own factor so that one slow rank does not bend the slopes. C is the median of step time minus
    largest rank time where step times are known, the fallback's otherwise. The fallback is also the answer where no
    rank ever has work.
    """
    assert steps.compute_ms is not None
    tokens, running = steps.kv_tokens, steps.num_running
    measured_s = steps.compute_ms / 1e3
    factor = np.ones(steps.dp_size)
    per_token = per_request = 0.0
    for _ in range(4):
        per_token, per_request = _two_slopes(tokens, running, measured_s / factor)
        modelled = per_token * tokens + per_request * running
        total = modelled.sum(axis=0)
        if not total.any():
            return fallback
        factor = np.divide(measured_s.sum(axis=0), total, out=np.ones_like(total), where=total > 0)
        factor[factor <= 0] = 1.0
        factor /= np.median(factor)
    shared = fallback.shared_s
    if steps.step_ms is not None:
        shared = max(float(np.median(steps.step_ms - steps.compute_ms.max(axis=1))) / 1e3, 0.0)
    return StepTimeModel(
        name="fitted",
        shared_s=shared,
        per_token_s=per_token,
        per_request_s=per_request,
        source="fitted to the rank times of the trace",
        confidence="measured",
    )


def _two_slopes(tokens: FloatArray, running: FloatArray, time_s: FloatArray) -> tuple[float, float]:
    """Non-negative least squares of time on two loads, in closed form."""
    tt, tn, nn = (tokens * tokens).sum(), (tokens * running).sum(), (running * running).sum()
    ty, ny = (tokens * time_s).sum(), (running * time_s).sum()
    determinant = tt * nn - tn * tn
    if determinant > 1e-12 * tt * nn:
        both = float((ty * nn - ny * tn) / determinant), float((ny * tt - ty * tn) / determinant)
        if min(both) >= 0:
            return both
    token_only = (max(float(ty / tt), 0.0) if tt else 0.0, 0.0)
    request_only = (0.0, max(float(ny / nn), 0.0) if nn else 0.0)
    errors = [((a * tokens + b * running - time_s) ** 2).sum() for a, b in (token_only, request_only)]
    return token_only if errors[0] <= errors[1] else request_only

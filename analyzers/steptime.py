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

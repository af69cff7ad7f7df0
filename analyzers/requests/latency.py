"""How long requests waited and how fast they were served."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lbal.analyzers.requests.token_gaps import TokenGaps
from lbal.analyzers.trace.trace import FloatArray, IntArray


@dataclass(frozen=True)
class RequestTimes:
    """The latencies of N completed requests in ms, shape (N,); None where a time that they take is unknown."""

    requests: pl.DataFrame
    gaps: TokenGaps | None = None
    """Times between their tokens, where the steps that gave them are known."""
    has_first_token: bool = True
    """Whether the time of the first token counts: without its prefill it would leave out most of a TTFT."""

    @property
    def count(self) -> int:
        """N."""
        return self.requests.height

    @property
    def tpot_ms(self) -> FloatArray | None:
        """Time from admission to end per output token."""
        span_ms = self._between("admitted_ms", "finish_ms")
        return None if span_ms is None else span_ms / self.requests["output_tokens"].to_numpy()

    @property
    def tpot_after_first_ms(self) -> FloatArray | None:
        """Time from the first token to the last per token after the first; NaN for a request of one token."""
        span_ms, tokens = self._between("first_token_ms", "finish_ms"), self.requests["output_tokens"].to_numpy()
        if span_ms is None:
            return None
        return np.where(tokens > 1, span_ms / np.maximum(tokens - 1, 1), np.nan)

    @property
    def ttft_ms(self) -> FloatArray | None:
        """Time from arrival to the first token."""
        return self._between("arrival_ms", "first_token_ms") if self.has_first_token else None

    @property
    def e2e_ms(self) -> FloatArray | None:
        """Time from arrival to end."""
        return self._between("arrival_ms", "finish_ms")

    @property
    def queue_wait_ms(self) -> FloatArray | None:
        """Time from arrival to admission."""
        return self._between("arrival_ms", "admitted_ms")

    @property
    def longest_gap_ms(self) -> FloatArray | None:
        """The longest time between two tokens; NaN for a request of one token."""
        return None if self.gaps is None else self.gaps.longest_ms

    def _between(self, earlier: str, later: str) -> FloatArray | None:
        if any(name not in self.requests.columns or self.requests[name].null_count() for name in (earlier, later)):
            return None
        return np.asarray(self.requests[later].to_numpy() - self.requests[earlier].to_numpy())


PARTS: dict[str, tuple[str, ...]] = {
    "tpot_ms": ("mean", "p50", "p95", "p99"),
    "tpot_after_first_ms": ("mean", "p50", "p99"),
    "ttft_ms": ("mean", "p50", "p90", "p95", "p99"),
    "e2e_ms": ("mean", "p50", "p95", "p99"),
    "longest_gap_ms": ("p50", "p99", "max"),
    "queue_wait_ms": ("p50", "p99", "max"),
}
"""What is told of each latency."""


def request_metrics(times: RequestTimes, waited_steps: IntArray | None = None) -> dict[str, float]:
    """Latency figures of completed requests, by metric name; those whose times are unknown are left out.

    Percentiles interpolate linearly between the two nearest requests.
    """
    figures: dict[str, float] = {"requests_completed": float(times.count)}
    if not times.count:
        return figures
    for name, parts in PARTS.items():
        values = getattr(times, name)
        if values is not None and len(values := values[~np.isnan(values)]):
            figures |= distribution(name, values, parts)
    if times.gaps is not None and len(times.gaps.count):
        figures |= {f"itl_ms_p{rank}": times.gaps.percentile(rank) for rank in (50, 99)}
    if waited_steps is not None:
        figures |= distribution("queue_wait_steps", waited_steps.astype(np.float64), ("p99", "max"))
    return figures


ITL = ("itl_ms_p50", "itl_ms_p99")
AFTER_FIRST = tuple(f"{name}_{part}" for name in ("tpot_after_first_ms", "longest_gap_ms") for part in PARTS[name])
ONE_TOKEN = "no request has more than one output token"
INTERRUPTED = "requests were preempted, and the steps of their tokens are not kept"


def unavailable_latencies(times: RequestTimes) -> dict[str, str]:
    """Why figures of the tokens after the first are not among those of a replay, by metric name."""
    if times.gaps is None:
        return dict.fromkeys((*ITL, *(name for name in AFTER_FIRST if name.startswith("longest"))), INTERRUPTED)
    return {} if len(times.gaps.count) else dict.fromkeys((*ITL, *AFTER_FIRST), ONE_TOKEN)


def waited_steps(requests: pl.DataFrame, start_ms: FloatArray) -> IntArray:
    """(N,) steps that started between arrival and admission of each request; `start_ms` of shape (S,), in order."""
    arrived = np.searchsorted(start_ms, requests["arrival_ms"].to_numpy(), side="left")
    admitted = np.searchsorted(start_ms, requests["admitted_ms"].to_numpy(), side="left")
    return np.asarray(np.maximum(admitted - arrived, 0))


def distribution(name: str, values: FloatArray, parts: tuple[str, ...]) -> dict[str, float]:
    """`name_mean`, `name_max` and `name_pNN` of the values, as asked for in `parts`."""
    ranks = [int(part[1:]) for part in parts if part not in ("mean", "max")]
    percentiles = np.percentile(values, ranks) if ranks else np.zeros(0)
    figures = {f"{name}_p{rank}": float(value) for rank, value in zip(ranks, percentiles, strict=True)}
    figures |= {f"{name}_mean": float(values.mean()), f"{name}_max": float(values.max())}
    return {f"{name}_{part}": figures[f"{name}_{part}"] for part in parts}

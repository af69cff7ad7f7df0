"""What a request trace asks for: arrivals, their burstiness, and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from lbal.analyzers.requests.latency import distribution
from lbal.analyzers.trace.trace import FloatArray

BURST_WINDOW_MS = 10_000.0
LENGTH_PARTS = ("mean", "p50", "p90", "p99", "max")


def demand(requests: pl.DataFrame) -> dict[str, Any]:
    """Figures of a table of requests; those on arrivals only where it has times that differ.

    `interarrival_cv` is the standard deviation of the gaps between arrivals over their mean: 1 for a Poisson process,
    more for bursts. `peak_to_mean_10s` is the busiest 10 s (on a fixed grid) over the mean 10 s.
    """
    prompt, output = requests["prompt_tokens"].to_numpy(), requests["output_tokens"].to_numpy()
    return {
        "requests": requests.height,
        **(_arrivals(requests["arrival_ms"].to_numpy(), output) if "arrival_ms" in requests.columns else {}),
        **distribution("prompt_tokens", prompt, LENGTH_PARTS),
        **distribution("output_tokens", output, LENGTH_PARTS),
        "prompt_tokens_total": int(prompt.sum()),
        "output_tokens_total": int(output.sum()),
    }


def _arrivals(arrival_ms: FloatArray, output: FloatArray) -> dict[str, float]:
    span_ms = float(arrival_ms[-1] - arrival_ms[0])
    if span_ms <= 0:
        return {"duration_s": 0.0}
    gaps = np.diff(arrival_ms)
    bins = np.floor((arrival_ms - arrival_ms[0]) / BURST_WINDOW_MS).astype(np.int64)
    busiest = np.unique(bins, return_counts=True)[1].max()
    per_window = len(arrival_ms) / max(span_ms / BURST_WINDOW_MS, 1.0)
    return {
        "duration_s": span_ms / 1e3,
        "arrivals_per_second": len(gaps) / span_ms * 1e3,
        "interarrival_cv": float(gaps.std() / gaps.mean()),
        "peak_to_mean_10s": float(busiest / per_window),
        "output_tokens_per_second": float(output.sum() / span_ms * 1e3),
    }

"""How long requests waited and how fast they were served."""

from __future__ import annotations

import numpy as np
import polars as pl

from lbal.analyzers.trace.trace import FloatArray, IntArray

TIMES = ("arrival_ms", "admitted_ms", "first_token_ms", "finish_ms")


def request_metrics(requests: pl.DataFrame, waited_steps: IntArray | None = None) -> dict[str, float]:
    """Latency figures of completed requests, by metric name; those whose times are unknown are left out.

    TPOT = (finish - admission) / output tokens and excludes the queue; queue wait = admission - arrival; TTFT = first
    token - arrival. Percentiles interpolate linearly between the two nearest requests.
    """
    times = {name: requests[name].drop_nulls().to_numpy() for name in TIMES if name in requests.columns}
    known = {name for name, values in times.items() if len(values) == requests.height}
    figures: dict[str, float] = {"requests_completed": float(requests.height)}
    if requests.is_empty():
        return figures
    if {"admitted_ms", "finish_ms"} <= known:
        tpot = (times["finish_ms"] - times["admitted_ms"]) / requests["output_tokens"].to_numpy()
        figures |= distribution("tpot_ms", tpot, ("mean", "p50", "p95", "p99"))
    if {"arrival_ms", "first_token_ms"} <= known:
        ttft = times["first_token_ms"] - times["arrival_ms"]
        figures |= distribution("ttft_ms", ttft, ("mean", "p50", "p95", "p99"))
    if {"arrival_ms", "admitted_ms"} <= known:
        wait = times["admitted_ms"] - times["arrival_ms"]
        figures |= distribution("queue_wait_ms", wait, ("p50", "p99", "max"))
    if waited_steps is not None:
        figures |= distribution("queue_wait_steps", waited_steps.astype(np.float64), ("p99", "max"))
    return figures


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

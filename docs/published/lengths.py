"""Lengths of requests for the fidelity page, drawn from a fixed seed: those of the published runs are not public."""

from __future__ import annotations

import numpy as np
import polars as pl

from lbal.analyzers.trace.trace import FloatArray
from lbal.replay.scenario.workload import Workload


def log_normal(generator: np.random.Generator, mean: float, sigma: float, count: int) -> FloatArray:
    """Log-normal numbers with this mean; sigma is that of their logarithm."""
    return np.exp(generator.normal(np.log(mean) - sigma**2 / 2, sigma, count))


def workload(prompts: FloatArray, outputs: FloatArray, arrival_ms: FloatArray | None = None) -> Workload:
    """The requests of these lengths, which are rounded to at least one token."""
    names = pl.Series([str(index) for index in range(len(prompts))])
    whole = [np.maximum(np.rint(lengths), 1).astype(np.int64) for lengths in (prompts, outputs)]
    return Workload("drawn lengths", names, whole[0], whole[1], arrival_ms, None)

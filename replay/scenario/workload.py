"""The requests that a replay serves, as arrays, and how they arrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.trace.trace import FloatArray, IntArray, Trace

Arrivals = Literal["trace", "backlog", "steps"]
"""By the times of the trace, from a pool that is kept full, or by times that are numbers of steps."""
NO_RANK = -1


@dataclass(frozen=True)
class Workload:
    """N requests in order of arrival; arrays of shape (N,)."""

    source: str
    request_id: pl.Series
    prompt_tokens: IntArray
    output_tokens: IntArray
    arrival_ms: FloatArray | None
    """None where the input has no times: then only a backlog can be replayed."""
    recorded_rank: IntArray | None
    """The rank that served each request, -1 where unknown; None where the input names no ranks."""

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @classmethod
    def of(cls, trace: Trace) -> Workload:
        """The requests of a trace. Raises `UsageError` where it has none."""
        table = trace.requests
        if table is None or table.is_empty():
            raise UsageError(
                f"{trace.meta.source}: it has steps but no requests, so there is nothing to replay; "
                "`lbal analyze` reads it"
            )
        columns = table.columns
        return cls(
            source=trace.meta.source,
            request_id=table["request_id"],
            prompt_tokens=table["prompt_tokens"].to_numpy(),
            output_tokens=table["output_tokens"].to_numpy(),
            arrival_ms=table["arrival_ms"].to_numpy() if "arrival_ms" in columns else None,
            recorded_rank=table["rank"].fill_null(NO_RANK).to_numpy() if "rank" in columns else None,
        )

    def scaled_arrivals(self, rate_scale: float) -> FloatArray:
        """Arrival times with the rate multiplied by `rate_scale`: 2 means twice the requests per second."""
        if self.arrival_ms is None:
            raise UsageError(f"{self.source}: it has no arrival times, expected ", Parameter("arrivals", "backlog"))
        start = self.arrival_ms[0]
        return np.asarray(start + (self.arrival_ms - start) / rate_scale)

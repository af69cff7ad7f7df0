"""The requests that a replay serves, as arrays, and how they arrive."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.trace.trace import FloatArray, IntArray, Trace

NO_RANK = -1


@dataclass(frozen=True)
class Waits:
    """Which requests wait for the end of others before they join: E pairs, by place in the workload."""

    request: IntArray
    """(E,) the one that waits."""
    wait_for: IntArray
    """(E,) the one that it waits for."""
    delay_ms: FloatArray
    """(N,) from the end of the last one that a request waits for to its arrival; 0 for those that wait for none."""


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
    waits: Waits | None = None
    """None where no request waits for another."""

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
        start = np.nanmin(self.arrival_ms)
        return np.asarray(start + (self.arrival_ms - start) / rate_scale)

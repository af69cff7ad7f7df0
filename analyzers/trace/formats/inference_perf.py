"""The per-request report of inference-perf (`per_request_lifecycle_metrics.json`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, after_ms, json_values
from lbal.analyzers.trace.source import Source


class _Text(msgspec.Struct):
    input_tokens: int | None = None


class _RequestMetrics(msgspec.Struct):
    text: _Text | None = None


class _ResponseMetrics(msgspec.Struct):
    output_tokens: int | None = None
    output_token_times: list[float] = []


class _Info(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    output_token_times: list[float] = []
    request_metrics: _RequestMetrics | None = None
    response_metrics: _ResponseMetrics | None = None


class _Lifecycle(msgspec.Struct):
    start_time: float
    end_time: float | None = None
    info: _Info | None = None
    error: Any = None


class InferencePerfFormat(RecordFormat):
    """A JSON list of `start_time`, `end_time` (s) and `info` with token counts; in either of its two shapes.

    Requests with an `error` are left out and counted. There are no ranks.
    """

    name = "inference-perf"
    time_unit = "s"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head begins a list of requests with `info`."""
        head = source.head
        return head.lstrip().startswith(b"[") and all(key in head for key in (b'"start_time"', b'"info"', b"_tokens"))

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of the list."""
        for _line, requests in self.values(json_values(source), list[_Lifecycle], source.name):
            for request in requests:
                yield None, _record(request)


def _record(request: _Lifecycle) -> RequestRecord:
    info = request.info or _Info()
    of_request, of_response = info.request_metrics, info.response_metrics
    prompt = of_request.text.input_tokens if of_request is not None and of_request.text is not None else None
    output = of_response.output_tokens if of_response is not None else None
    times = of_response.output_token_times if of_response is not None else info.output_token_times
    return RequestRecord(
        prompt_tokens=prompt if prompt is not None else info.input_tokens,
        output_tokens=output if output is not None else info.output_tokens,
        arrival=request.start_time,
        first_token_after_ms=after_ms(times[0], request.start_time) if times else None,
        finish_after_ms=after_ms(request.end_time, request.start_time),
        left_out=None if request.error is None else "failed (error)",
    )

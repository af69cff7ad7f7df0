"""The report of GuideLLM (`benchmarks.json`) with its single requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, after_ms, json_values
from lbal.analyzers.trace.source import Source


class _Request(msgspec.Struct):
    request_id: str | None = None
    request_start_time: float | None = None
    request_end_time: float | None = None
    start_time: float | None = None
    end_time: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    time_to_first_token_ms: float | None = None


class _Requests(msgspec.Struct):
    successful: list[_Request] = []
    errored: list[Any] = []
    incomplete: list[Any] = []


class _Benchmark(msgspec.Struct):
    requests: _Requests | None = None


class _Report(msgspec.Struct):
    benchmarks: list[_Benchmark]


class GuidellmFormat(RecordFormat):
    """JSON of `benchmarks`, each with `requests` by status; times in seconds since 1970. There are no ranks.

    Errored and incomplete requests are left out and counted. Several benchmarks in a file follow one another.
    """

    name = "guidellm"
    time_unit = "s"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head begins a report of benchmarks of GuideLLM."""
        head = source.head[:4096].lstrip()
        return head.startswith(b"{") and b'"benchmarks"' in source.head and b"uidellm" in source.head.lower()

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of every benchmark."""
        report: _Report
        for line, report in self.values(json_values(source), _Report, source.name):
            kept = [benchmark.requests for benchmark in report.benchmarks if benchmark.requests is not None]
            if not kept:
                problem = "has benchmarks without their single requests"
                raise InputError(source.name, problem, line=line, field="requests", expected="the full JSON report")
            for requests in kept:
                for request in requests.successful:
                    yield None, _record(request)
                for reason, others in (("errored", requests.errored), ("incomplete", requests.incomplete)):
                    yield from ((None, RequestRecord(0, 0, left_out=reason)) for _other in others)


def _record(request: _Request) -> RequestRecord:
    start = request.request_start_time if request.request_start_time is not None else request.start_time
    end = request.request_end_time if request.request_end_time is not None else request.end_time
    return RequestRecord(
        prompt_tokens=request.prompt_tokens,
        output_tokens=request.output_tokens,
        arrival=start,
        request_id=request.request_id,
        first_token_after_ms=request.time_to_first_token_ms,
        finish_after_ms=after_ms(end, start),
    )

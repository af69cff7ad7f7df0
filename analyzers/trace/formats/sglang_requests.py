"""The request log of SGLang (`--log-requests --log-requests-format json`), with the DP rank of each request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, in_ms
from lbal.analyzers.trace.source import Source


class MetaInfo(msgspec.Struct):
    """What SGLang tells of a finished request; times in seconds."""

    id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    dp_rank: int | None = None
    e2e_latency: float | None = None
    queue_time: float | None = None
    first_token_latency: float | None = None
    request_received_ts: float | None = None
    finish_reason: Any = None


class _Out(msgspec.Struct):
    meta_info: MetaInfo | None = None


class _Line(msgspec.Struct):
    event: str | None = None
    timestamp: str | None = None
    rid: str | list[str] | None = None
    out: _Out | None = None


class SglangRequestsFormat(RecordFormat):
    """Lines of `[time] {json}`; the events `request.finished` are the requests. Other lines are counted.

    A request without `request_received_ts` arrived `e2e_latency` before the log's own timestamp.
    """

    name = "sglang-requests"
    time_unit = "s"
    has_pieces = True

    def __init__(self) -> None:
        self._others = 0
        self._without_rank = 0

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head has an event of a request."""
        return b'"event": "request.' in source.head or b'"event":"request.' in source.head

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every finished request."""
        count = 0
        line: _Line
        for number, line in self.values(self._of_finished(source), _Line, source.name):
            info = line.out.meta_info if line.out is not None else None
            if line.event != "request.finished" or info is None:
                self._others += 1
                continue
            count += 1
            self._without_rank += info.dp_rank is None
            yield number, record_of(info, _arrival(line, info))
        if not count:
            problem = "is a request log of SGLang without a finished request"
            raise InputError(source.name, problem, expected="lines with request.finished and meta_info")

    def _of_finished(self, source: Source) -> Iterator[tuple[int, bytes]]:
        for number, text in source.lines():
            start = text.find(b"{")
            if b"request.finished" in text and start >= 0:
                yield number, text[start:]
            else:
                self._others += 1

    def notes(self) -> tuple[str, ...]:
        """How many lines are no finished requests, and how many requests lack their rank."""
        notes = []
        if self._others:
            notes.append(f"{self._others:,} line{'s are' if self._others > 1 else ' is'} no finished request")
        if self._without_rank:
            notes.append(f"{self._without_rank:,} requests have no dp_rank (SGLang writes it from version 0.5.10 on)")
        return tuple(notes)


def _arrival(line: _Line, info: MetaInfo) -> float | None:
    if info.request_received_ts is not None or line.timestamp is None or info.e2e_latency is None:
        return info.request_received_ts
    try:
        return datetime.fromisoformat(line.timestamp).timestamp() - info.e2e_latency
    except ValueError:
        return None


def record_of(info: MetaInfo, arrival: float | None) -> RequestRecord:
    """The request of a `meta_info`; one that was aborted is left out."""
    reason = info.finish_reason.get("type") if isinstance(info.finish_reason, dict) else None
    return RequestRecord(
        prompt_tokens=info.prompt_tokens,
        output_tokens=info.completion_tokens,
        arrival=arrival,
        request_id=info.id,
        rank=info.dp_rank,
        admitted_after_ms=in_ms(info.queue_time),
        first_token_after_ms=in_ms(info.first_token_latency),
        finish_after_ms=in_ms(info.e2e_latency),
        left_out="aborted" if reason == "abort" else None,
    )

"""Request traces of Dynamo (`DYN_REQUEST_TRACE=1`, schema `dynamo.request.trace.v1`), with the rank of each request."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, json_values
from lbal.analyzers.trace.source import Source


class _Worker(msgspec.Struct):
    decode_dp_rank: int | None = None
    decode_worker_id: int | None = None


class _Replay(msgspec.Struct):
    input_length: int | None = None


class _Request(msgspec.Struct):
    request_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    request_received_ms: float | None = None
    prefill_wait_time_ms: float | None = None
    ttft_ms: float | None = None
    total_time_ms: float | None = None
    worker: _Worker | None = None
    replay: _Replay | None = None


class _Event(msgspec.Struct):
    event_type: str | None = None
    request: _Request | None = None
    event: _Event | None = None
    """The event itself, where a collector wrapped it."""


class DynamoRequestsFormat(RecordFormat):
    """JSON Lines of events, plain or wrapped in `{"event": …}`; the `request_end` events are the requests.

    Times in ms. The rank is `worker.decode_dp_rank`; with several decode workers, ranks are numbered by worker first.
    """

    name = "dynamo-requests"
    time_unit = "ms"
    has_pieces = True
    ms_per_unit = 1.0

    def __init__(self) -> None:
        self._others = 0
        self._ranks: dict[tuple[int, int], None] = {}

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head names the schema."""
        return b"dynamo.request.trace.v1" in source.head

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request that ended, its rank numbered over all decode workers."""
        ended = list(self._ended(source))
        workers = sorted({key for _line, request in ended if (key := _place_of(request)) is not None})
        several = len({worker for worker, _rank in workers}) > 1
        rank_of = {key: index if several else key[1] for index, key in enumerate(workers)}
        for line, request in ended:
            place = _place_of(request)
            yield line, _record(request, None if place is None else rank_of[place])

    def _ended(self, source: Source) -> Iterator[tuple[int, _Request]]:
        event: _Event
        for line, event in self.values(json_values(source), _Event, source.name):
            event = event.event or event
            if event.event_type == "request_end" and event.request is not None:
                yield line, event.request
            else:
                self._others += 1

    def notes(self) -> tuple[str, ...]:
        """How many lines are other events."""
        return (
            (f"{self._others:,} other event{'s are' if self._others > 1 else ' is'} no end of a request",)
            if self._others
            else ()
        )


def _place_of(request: _Request) -> tuple[int, int] | None:
    worker = request.worker
    if worker is None or worker.decode_dp_rank is None:
        return None
    return worker.decode_worker_id or 0, worker.decode_dp_rank


def _record(request: _Request, rank: int | None) -> RequestRecord:
    prompt = request.input_tokens
    if prompt is None and request.replay is not None:
        prompt = request.replay.input_length
    return RequestRecord(
        prompt_tokens=prompt,
        output_tokens=request.output_tokens,
        arrival=request.request_received_ms,
        request_id=request.request_id,
        rank=rank,
        first_token_after_ms=request.ttft_ms,
        finish_after_ms=request.total_time_ms,
    )

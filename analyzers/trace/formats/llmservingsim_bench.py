"""Requests that LLMServingSim recorded on vLLM: the client's clock for arrivals, the engine's clock for the rest."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lbal.analyzers.trace.reading.jsonlines import head_keys
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, after_ms, json_values
from lbal.analyzers.trace.source import Source

SAME_CLOCK_S = 100_000.0
"""Moments further apart than this are of two clocks: one counts from 1970, the other from the start of the machine."""


class _Request(msgspec.Struct):
    input_toks: int
    output_toks: int | None = None
    request_id: str | None = None
    arrival_time: float | None = None
    queued_ts: float | None = None
    scheduled_ts: float | None = None
    first_token_ts: float | None = None
    last_token_ts: float | None = None


class LlmServingSimBenchFormat(RecordFormat):
    """JSON Lines of `input_toks`, `output_toks`, `arrival_time` and the moments `queued_ts` … `last_token_ts` (s).

    The arrival is of another clock than the moments, so these count from `queued_ts`, and the time to the first token
    stays unknown.
    """

    name = "llmservingsim-bench"
    time_unit = "s"

    def __init__(self) -> None:
        self._two_clocks = 0

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line has token counts and moments of the engine."""
        return {"input_toks", "output_toks", "arrival_time"} <= head_keys(source)

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of the file."""
        for line, request in self.values(json_values(source), _Request, source.name):
            yield line, self._record(request)

    def _record(self, request: _Request) -> RequestRecord:
        origin = request.arrival_time
        apart = abs((request.arrival_time or 0.0) - (request.queued_ts or 0.0)) > SAME_CLOCK_S
        if apart and request.queued_ts is not None:
            self._two_clocks += 1
            origin = request.queued_ts
        return RequestRecord(
            prompt_tokens=request.input_toks,
            output_tokens=request.output_toks,
            arrival=request.arrival_time,
            request_id=request.request_id,
            admitted_after_ms=after_ms(request.scheduled_ts, origin),
            first_token_after_ms=None if apart else after_ms(request.first_token_ts, origin),
            finish_after_ms=after_ms(request.last_token_ts, origin),
        )

    def notes(self) -> tuple[str, ...]:
        """That two clocks stand in a row."""
        if not self._two_clocks:
            return ()
        return (
            f"{self._two_clocks:,} requests have their arrival on another clock than the engine's moments: waits count "
            "from when the engine queued them, and the time to the first token is unknown",
        )

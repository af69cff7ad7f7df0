"""The individual responses of LLMPerf (`…_individual_responses.json`), which have no times of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, json_values
from lbal.analyzers.trace.source import Source


class _Response(msgspec.Struct):
    number_input_tokens: int | None = None
    number_output_tokens: float | None = None
    error_code: Any = None


class LlmperfFormat(RecordFormat):
    """A JSON list of `number_input_tokens` and `number_output_tokens`; no times of arrival, no ranks."""

    name = "llmperf"
    time_unit = "none"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head begins a list of responses with token counts."""
        head = source.head
        return head.lstrip().startswith(b"[") and b'"number_input_tokens"' in head

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of the list."""
        for _line, responses in self.values(json_values(source), list[_Response], source.name):
            for response in responses:
                output = response.number_output_tokens
                yield (
                    None,
                    RequestRecord(
                        prompt_tokens=response.number_input_tokens,
                        output_tokens=None if output is None else int(output),
                        left_out=None if response.error_code is None else "failed (error)",
                    ),
                )

    def notes(self) -> tuple[str, ...]:
        """That there are no arrivals."""
        return ("LLMPerf does not record when requests were sent: only a backlog can be replayed",)

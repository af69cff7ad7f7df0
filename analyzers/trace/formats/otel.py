"""OpenTelemetry spans of requests as vLLM exports them: OTLP as JSON, or one span per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, in_ms, json_values
from lbal.analyzers.trace.source import Source

PROMPT, OUTPUT = "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens"
QUEUED, FIRST, END = (f"gen_ai.latency.{name}" for name in ("time_in_queue", "time_to_first_token", "e2e"))


class OtelFormat(RecordFormat):
    """Spans `llm_request` with `startTimeUnixNano` and the attributes of token counts and latencies (s).

    Other spans are counted. There are no ranks.
    """

    name = "otel"
    time_unit = "ns"
    ms_per_unit = 1e-6

    def __init__(self) -> None:
        self._others = 0

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head has spans with attributes of generative AI."""
        head = source.head
        return b"gen_ai." in head and (b"startTimeUnixNano" in head or b'"spans"' in head)

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every span with token counts."""
        count = 0
        for line, value in self.values(json_values(source), Any, source.name):
            for span in _spans(value):
                values = _attributes(span)
                start = _integer(span.get("startTimeUnixNano", span.get("start_time_unix_nano")))
                if PROMPT not in values or start is None:
                    self._others += 1
                    continue
                count += 1
                yield (
                    line,
                    RequestRecord(
                        prompt_tokens=_integer(values[PROMPT]),
                        output_tokens=_integer(values.get(OUTPUT)),
                        arrival=start,
                        request_id=_text(values.get("gen_ai.request.id")),
                        admitted_after_ms=in_ms(_number(values.get(QUEUED))),
                        first_token_after_ms=in_ms(_number(values.get(FIRST))),
                        finish_after_ms=in_ms(_number(values.get(END))),
                    ),
                )
        if not count:
            problem = f"has {self._others:,} spans, none with token counts"
            raise InputError(source.name, problem, field=PROMPT, expected="spans of vLLM (--otlp-traces-endpoint)")

    def notes(self) -> tuple[str, ...]:
        """How many spans are no requests."""
        return (f"{self._others:,} spans are no requests with token counts",) if self._others else ()


def _spans(value: Any) -> Iterator[dict[str, Any]]:
    """The spans anywhere in a document: OTLP nests them in resources and scopes."""
    if isinstance(value, list):
        for element in value:
            yield from _spans(element)
    elif isinstance(value, dict):
        if "attributes" in value and ("startTimeUnixNano" in value or "name" in value):
            yield value
        else:
            for name in ("resourceSpans", "scopeSpans", "instrumentationLibrarySpans", "spans", "batches", "data"):
                if isinstance(value.get(name), list):
                    yield from _spans(value[name])


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    """Attributes as a plain object; OTLP has a list of keys and typed values."""
    attributes = span["attributes"]
    if isinstance(attributes, dict):
        return attributes
    found: dict[str, Any] = {}
    for item in attributes if isinstance(attributes, list) else ():
        if isinstance(item, dict) and isinstance(item.get("key"), str):
            value = item.get("value")
            found[item["key"]] = next(iter(value.values()), None) if isinstance(value, dict) else value
    return found


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None

"""The per-request records of AIPerf (`profile_export.jsonl`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from lbal.analyzers.trace.reading.jsonlines import head_keys
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, json_values
from lbal.analyzers.trace.source import Source

_MS_PER = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "sec": 1e3}


class _Metadata(msgspec.Struct):
    request_start_ns: int | None = None
    request_end_ns: int | None = None
    x_request_id: str | None = None
    benchmark_phase: str | None = None
    was_cancelled: bool = False


class _Value(msgspec.Struct):
    value: Any = None
    unit: str = ""


class _Record(msgspec.Struct):
    metadata: _Metadata
    metrics: dict[str, _Value] = {}
    error: Any = None


class AiperfFormat(RecordFormat):
    """JSON Lines of `metadata` (`request_start_ns`), `metrics` (`input_sequence_length`, …) and `error`.

    Warm-up requests, cancelled ones and errors are left out and counted. There are no ranks.
    """

    name = "aiperf"
    time_unit = "ns"
    ms_per_unit = 1e-6

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line has metadata and metrics of a request."""
        return {"metadata", "request_start_ns", "metrics"} <= head_keys(source)

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of the file."""
        record: _Record
        for line, record in self.values(json_values(source), _Record, source.name):
            meta = record.metadata
            finish = None
            if meta.request_start_ns is not None and meta.request_end_ns is not None:
                finish = (meta.request_end_ns - meta.request_start_ns) * 1e-6
            yield (
                line,
                RequestRecord(
                    prompt_tokens=_count(record.metrics.get("input_sequence_length")),
                    output_tokens=_count(record.metrics.get("output_sequence_length")),
                    arrival=meta.request_start_ns,
                    request_id=meta.x_request_id,
                    first_token_after_ms=_ms(record.metrics.get("time_to_first_token")),
                    finish_after_ms=finish,
                    left_out=_why_left_out(record),
                ),
            )


def _why_left_out(record: _Record) -> str | None:
    if record.metadata.benchmark_phase not in (None, "profiling"):
        return f"of the phase {record.metadata.benchmark_phase}"
    if record.metadata.was_cancelled:
        return "cancelled"
    return None if record.error is None else "failed (error)"


def _count(value: _Value | None) -> int | None:
    if value is None or not isinstance(value.value, int | float) or value.value != int(value.value):
        return None
    return int(value.value)


def _ms(value: _Value | None) -> float | None:
    if value is None or not isinstance(value.value, int | float) or value.unit not in _MS_PER:
        return None
    return float(value.value) * _MS_PER[value.unit]

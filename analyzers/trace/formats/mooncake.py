"""Mooncake request traces (FAST 2025), and the forms that later tools write."""

from __future__ import annotations

import msgspec
import polars as pl

from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.fields import COUNT, ID, NUMBER, Rules, nullable
from lbal.analyzers.trace.reading.jsonlines import Count, Id, LineDecoder, head_keys
from lbal.analyzers.trace.reading.request_table import RequestTable, id_series
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import Trace, TraceMeta


class _Line(msgspec.Struct, gc=False):
    timestamp: float
    input_length: Count
    output_length: Count
    request_id: Id | None = None


RULES = Rules(
    "a Mooncake line",
    {"timestamp": NUMBER, "input_length": COUNT, "output_length": COUNT, "request_id": nullable(ID)},
    required=("timestamp", "input_length", "output_length"),
    closed=False,
)


class MooncakeFormat(TraceFormat):
    """JSON Lines of `timestamp` (ms), `input_length`, `output_length`, optionally `request_id`.

    `hash_ids`, `session_id`, `delay` and other keys are not read.
    """

    name = "mooncake"
    content = "requests"
    time_unit = "ms"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line is an object with two of the three required keys."""
        keys = head_keys(source)
        return "lbal_trace" not in keys and sum(name in keys for name in RULES.required) >= 2

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The requests of the file."""
        table = RequestTable(source.name)
        decoder = LineDecoder(source.name, [_Line], lambda _record: RULES)
        for lines, numbers in decoder.records(source.blocks()):
            table.add(_frame(lines), numbers)
        meta = TraceMeta(source.name, self.name, time_unit=self.time_unit, sha256=source.sha256)
        fields = {"arrival_ms": "timestamp", "prompt_tokens": "input_length", "output_tokens": "output_length"}
        return table.trace(meta, options, fields=fields)


def _frame(lines: list[_Line]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "time": pl.Series([line.timestamp for line in lines], dtype=pl.Float64),
            "prompt_tokens": pl.Series([line.input_length for line in lines], dtype=pl.Int64),
            "output_tokens": pl.Series([line.output_length for line in lines], dtype=pl.Int64),
            "request_id": id_series([line.request_id for line in lines]),
        }
    )

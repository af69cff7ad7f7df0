"""A reader for a log that writes one request per line: `t=12.25 in=812 out=143`."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.request_table import RequestTable
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import Trace, TraceMeta

LINE = re.compile(r"t=(\d+(?:\.\d+)?) in=(\d{1,9}) out=(\d{1,9})")


class KeyValueFormat(TraceFormat):
    """Lines of `t=` seconds, `in=` prompt tokens, `out=` output tokens."""

    name = "key-value"
    content = "requests"
    time_unit = "s"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line begins like one of this log."""
        return source.head_line.startswith("t=")

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The requests of the log; those without output are counted as failed."""
        rows: list[tuple[str, ...]] = []
        numbers: list[int] = []
        for number, line in source.lines():
            found = LINE.fullmatch(line.decode())
            if found is None:
                problem = f"{shown(line.decode())} is not a request"
                raise InputError(source.name, problem, line=number, expected="t=… in=… out=…")
            rows.append(found.groups())
            numbers.append(number)
        frame = pl.DataFrame(
            {
                "time": [float(time) for time, _prompt, _output in rows],
                "prompt_tokens": [int(prompt) for _time, prompt, _output in rows],
                "output_tokens": [int(output) for _time, _prompt, output in rows],
            }
        )
        table = RequestTable(source.name, ms_per_unit=1000.0)
        table.add(frame, np.array(numbers))
        meta = TraceMeta(source.name, self.name, time_unit=self.time_unit, sha256=source.sha256)
        return table.trace(meta, options)

"""Mooncake request traces (FAST 2025), and the forms that later tools write with the same keys."""

from __future__ import annotations

import msgspec
import polars as pl

from lbal.analyzers.errors import InputError, Parameter
from lbal.analyzers.trace.bad_lines import BadLines
from lbal.analyzers.trace.reading.base import LEAST_RATE, MOST_RATE, MS_PER_UNIT, ReadOptions, TimeUnit, TraceFormat
from lbal.analyzers.trace.reading.fields import COUNT, ID, NUMBER, Rules, nullable
from lbal.analyzers.trace.reading.jsonlines import Count, Id, LineDecoder, head_keys
from lbal.analyzers.trace.reading.request_table import RequestTable, id_series
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import IntArray, Trace, TraceMeta


class _Line(msgspec.Struct, gc=False):
    input_length: Count
    output_length: Count
    timestamp: float | None = None
    request_id: Id | None = None
    delay: float | None = None
    wait_for: list[Id] | None = None


RULES = Rules(
    "a Mooncake line",
    {
        "timestamp": nullable(NUMBER),
        "input_length": COUNT,
        "output_length": COUNT,
        "request_id": nullable(ID),
        "delay": nullable(NUMBER),
    },
    required=("input_length", "output_length"),
    closed=False,
)
CHATS = ("chat_id", "parent_chat_id", "turn")
LEAST_FRACTIONAL_RATE_IN_S, MOST_FRACTIONAL_RATE_IN_MS = 0.1, 30.0
"""Requests per second from which on fractions are seconds, and up to which they are ms; between them either may be."""
OTHERS = ("lbal_trace", "arrival_ms", "prompt_tokens", "sub_requests")


class MooncakeFormat(TraceFormat):
    """JSON Lines of `timestamp`, `input_length`, `output_length`, optionally `request_id`.

    Mooncake's own timestamps are whole milliseconds. Tools that write the same keys in seconds (GuideLLM, vLLM's timed
    traces) write fractions: what a file with fractions means is told from the rate of requests, and said, and the file
    is refused where both could be meant. Without timestamps there are no arrivals. `hash_ids` and other keys are not
    read; a row that starts a `delay` after others (`wait_for`) instead of at a time is refused.
    """

    name = "mooncake"
    content = "requests"
    time_unit = "ms"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line is an object with two of the three keys, and none of another format."""
        keys = head_keys(source)
        if keys.intersection(OTHERS) or keys.issuperset(CHATS):
            return False
        return sum(name in keys for name in ("timestamp", "input_length", "output_length")) >= 2

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The requests of the file."""
        table = RequestTable(source.name)
        times = _Times(source.name)
        decoder = LineDecoder(source.name, [_Line], lambda _record: RULES)
        for lines, numbers in decoder.records(source.blocks()):
            times.add(lines, numbers, decoder.bad)
            if not decoder.bad.count:
                table.add(_frame(lines, with_times=times.known is True), numbers)
        unit, note = times.unit(self.time_unit if self.name != "mooncake" else None, options.time_unit)
        table.ms_per_unit = MS_PER_UNIT[unit]
        meta = TraceMeta(source.name, self.name, time_unit=unit if times.known else None, sha256=source.sha256)
        fields = {"arrival_ms": "timestamp", "prompt_tokens": "input_length", "output_tokens": "output_length"}
        return table.trace(meta.warned(*note), options, fields=fields)


class _Times:
    """What the timestamps of a file are: on all lines or on none, whole or not, how far apart."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.known: bool | None = None
        self._whole = True
        self._first, self._last = float("inf"), float("-inf")
        self._count = 0

    def add(self, lines: list[_Line], numbers: IntArray, bad: BadLines) -> None:
        """Take the timestamps of a block; a line that lacks one, or has one unlike those before, is added to `bad`."""
        for line, number in zip(lines, numbers, strict=True):
            time = line.timestamp
            if time is None and (line.wait_for or line.delay is not None):
                expected = "a timestamp on every line: chains of requests (delay, wait_for) are not replayed"
                bad.add(InputError(self.file, "is missing", line=int(number), field="timestamp", expected=expected))
                continue
            if self.known is None:
                self.known = time is not None
            if self.known is not (time is not None):
                problem = "is missing, unlike in the lines before" if time is None else "stands here and not before"
                expected = "a timestamp on every line or on none"
                bad.add(InputError(self.file, problem, line=int(number), field="timestamp", expected=expected))
            elif time is not None:
                self._whole = self._whole and time == int(time)
                self._first, self._last = min(self._first, time), max(self._last, time)
        self._count += len(lines)

    def unit(self, of_format: str | None, asked: TimeUnit | None) -> tuple[str, tuple[str, ...]]:
        """The unit of the times: as asked, as the format has it, or as the times tell; with a note on how.

        Raises `InputError` where nothing tells: both readings are named, and the option that decides.
        """
        span = self._last - self._first if self.known else 0.0
        if asked is not None or not span > 0:
            return asked or of_format or "ms", ()
        in_s = (self._count - 1) / span
        if of_format is not None:
            return of_format, _beyond_belief(in_s * 1e3 / MS_PER_UNIT[of_format], of_format)
        in_ms = in_s * 1e3
        if self._whole:
            if in_ms <= MOST_RATE:
                return "ms", _beyond_belief(in_ms, "ms")
        elif in_s >= LEAST_FRACTIONAL_RATE_IN_S:
            return "s", (f"timestamps have fractions and are read as seconds ({in_s:.3g} requests per second)",)
        elif in_ms <= MOST_FRACTIONAL_RATE_IN_MS:
            return "ms", (f"timestamps have fractions and are read as ms ({in_ms:.3g} requests per second)",)
        raise InputError(
            self.file,
            f"the unit of time is open: {in_ms:.3g} requests per second if it is ms, {in_s:.3g} if it is s",
            field="timestamp",
            expected=[Parameter("time_unit", "ms"), " or ", Parameter("time_unit", "s")],
        )


def _beyond_belief(rate: float, unit: str) -> tuple[str, ...]:
    """A note where the rate of requests is hardly one."""
    if LEAST_RATE <= rate <= MOST_RATE:
        return ()
    return (f"timestamps in {unit} give {rate:.3g} requests per second: --time-unit names another unit",)


def _frame(lines: list[_Line], *, with_times: bool) -> pl.DataFrame:
    columns = {
        "prompt_tokens": pl.Series([line.input_length for line in lines], dtype=pl.Int64),
        "output_tokens": pl.Series([line.output_length for line in lines], dtype=pl.Int64),
        "request_id": id_series([line.request_id for line in lines]),
    }
    if with_times:
        columns["time"] = pl.Series([line.timestamp for line in lines], dtype=pl.Float64)
    return pl.DataFrame(columns)

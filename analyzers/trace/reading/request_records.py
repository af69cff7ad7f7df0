"""Request logs whose records are JSON: one record per line, or one document that holds them all.

A format of this kind says how one of its records becomes a `RequestRecord`; what is common stands here: reading lines
or a whole document, counting what was left out and why, arrival times on all requests or on none.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.bad_lines import BadLines
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.request_table import FAILED, RequestTable, id_series
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import MAX_TOKENS, Trace, TraceMeta

MOST_DOCUMENT_BYTES = 1 << 30
"""A longer document in one piece is refused: it is read into memory whole."""
NO_LENGTHS = "without token counts"
NO_OUTPUT = "without a number of output tokens"
MOMENTS = ("admitted_after_ms", "first_token_after_ms", "finish_after_ms")
OPTIONAL = ("rank", *MOMENTS)
CHUNK = 1 << 16
"""Records that are turned into a table at a time."""


class RequestRecord(NamedTuple):
    """One request as a log tells it. Moments after the arrival are in ms; None is unknown."""

    prompt_tokens: int | None
    output_tokens: int | None
    arrival: float | None = None
    """In the unit and from the origin of the log."""
    request_id: int | str | None = None
    rank: int | None = None
    admitted_after_ms: float | None = None
    first_token_after_ms: float | None = None
    finish_after_ms: float | None = None
    left_out: str | None = None
    """Why this is no request that was served: it is counted under this reason."""


class RecordFormat(TraceFormat):
    """A request log of JSON records."""

    content = "requests"
    ms_per_unit: ClassVar[float] = 1000.0
    """Of the arrivals."""
    arrivals: ClassVar[bool] = True
    """Whether records of this format may tell when requests arrived."""

    @cached_property
    def bad(self) -> BadLines:
        """The lines of the log that cannot be read: the log is refused at its end where there are any."""
        return BadLines()

    @abstractmethod
    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of the log, with its line where it has one of its own."""

    def values(self, texts: Iterable[tuple[int, bytes]], kind: Any, file: str) -> Iterator[tuple[int, Any]]:
        """(line, value of a kind that msgspec decodes) of JSON texts with their lines, without those that are bad.

        Raises `InputError` at the end where any line of the log is bad.
        """
        decoder = msgspec.json.Decoder(kind)
        for line, text in texts:
            try:
                value = decoded(decoder, text, file, line)
            except InputError as error:
                self.bad.add(error)
                continue
            yield line, value
        self.bad.enforce()

    def notes(self) -> tuple[str, ...]:
        """What a reader of the trace must be told, once all records are read."""
        return ()

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The requests of the log, in the order of their arrival."""
        collected = _Collected(source.name, options.ms_per_unit(self.time_unit, self.ms_per_unit))
        for line, record in self.records(source):
            try:
                collected.add(line, record)
            except InputError as error:
                self.bad.add(error)
        self.bad.enforce()
        collected.flush()
        unit = (options.time_unit or self.time_unit) if collected.has_arrivals else None
        meta = TraceMeta(source.name, self.name, time_unit=unit, sha256=source.sha256)
        return collected.table.trace(meta.warned(*self.notes(), *collected.notes()), options)


class _Collected:
    """Turns records into blocks of a request table."""

    def __init__(self, file: str, ms_per_unit: float) -> None:
        self.file = file
        self.table = RequestTable(file, ms_per_unit, in_any_order=True, optional=OPTIONAL)
        self.has_arrivals: bool | None = None
        self._pending: list[tuple[int, RequestRecord]] = []
        self._ids: set[int | str] = set()
        self._repeated_ids = 0
        self._inconsistent = 0

    def add(self, line: int | None, record: RequestRecord) -> None:
        """Take a record; one without lengths is counted as left out."""
        if record.left_out is None and record.prompt_tokens is None:
            record = record._replace(left_out=NO_LENGTHS)
        elif record.left_out is None and record.output_tokens is None:
            record = record._replace(left_out=NO_OUTPUT)
        elif record.left_out is None and record.output_tokens == 0:
            record = record._replace(left_out=FAILED)
        if record.left_out is not None:
            self.table.left_out[record.left_out] = self.table.left_out.get(record.left_out, 0) + 1
            return
        self._check(line, record)
        if record.request_id is not None:
            self._repeated_ids += record.request_id in self._ids
            self._ids.add(record.request_id)
        self._pending.append((line or 0, record))
        if len(self._pending) >= CHUNK:
            self.flush()

    def _check(self, line: int | None, record: RequestRecord) -> None:
        for name in ("prompt_tokens", "output_tokens"):
            value = getattr(record, name)
            if not 0 <= value <= MAX_TOKENS:
                expected = "a whole number from 0 to 2**40"
                raise InputError(self.file, f"{value} is out of range", line=line, field=name, expected=expected)
        known = record.arrival is not None
        if self.has_arrivals is not None and known is not self.has_arrivals:
            has = "has none, unlike the requests before it" if self.has_arrivals else "stands here and not before"
            expected = "a time on every request or on none"
            raise InputError(self.file, has, line=line, field="arrival time", expected=expected)
        self.has_arrivals = known

    def flush(self) -> None:
        """Hand what was collected to the table."""
        if not self._pending:
            return
        records = [self._consistent(record) for _line, record in self._pending]
        columns: dict[str, pl.Series] = {"request_id": id_series([record.request_id for record in records])}
        if self.has_arrivals:
            times = [record.arrival for record in records]
            whole = all(isinstance(time, int) for time in times)
            columns["time"] = pl.Series(times, dtype=pl.Int64 if whole else pl.Float64)
        for name in ("prompt_tokens", "output_tokens", "rank"):
            columns[name] = pl.Series([getattr(record, name) for record in records], dtype=pl.Int64)
        for name in MOMENTS:
            columns[name] = pl.Series([getattr(record, name) for record in records], dtype=pl.Float64)
        self.table.add(pl.DataFrame(columns), np.array([line for line, _record in self._pending], dtype=np.int64))
        self._pending = []

    def _consistent(self, record: RequestRecord) -> RequestRecord:
        """The record without moments that run backwards: clocks that disagree tell nothing."""
        ahead = float("inf")
        kept: list[float | None] = []
        for name in reversed(MOMENTS):
            value = getattr(record, name)
            if value is not None and not 0 <= value <= ahead:
                self._inconsistent += 1
                value = None
            ahead = ahead if value is None else value
            kept.append(value)
        finish, first_token, admitted = kept
        return record._replace(finish_after_ms=finish, first_token_after_ms=first_token, admitted_after_ms=admitted)

    def notes(self) -> tuple[str, ...]:
        """What was mended."""
        notes = []
        if self._repeated_ids:
            notes.append(f"{self._repeated_ids:,} request ids stand more than once; all requests were numbered")
            self.table.renumber = True
        if self._inconsistent:
            notes.append(f"{self._inconsistent:,} times of requests run backwards and are taken as unknown")
        return tuple(notes)


def json_values(source: Source) -> Iterator[tuple[int, bytes]]:
    """(line, JSON text) of every value of a source: each line one, or the whole source one that spans lines.

    Raises `InputError` where a document in one piece is larger than `MOST_DOCUMENT_BYTES`.
    """
    lines = source.lines()
    first = next(lines, None)
    if first is None:
        raise InputError(source.name, "the file is empty", expected="JSON")
    second = next(lines, None)
    rest = () if second is None else chain([second], lines)
    if _is_json(first[1]) or (second is not None and _begin_objects(first[1], second[1])):
        yield first
        yield from rest
        return
    parts, size = [first[1]], len(first[1])
    for _number, line in rest:
        parts.append(line)
        size += len(line) + 1
        if size > MOST_DOCUMENT_BYTES:
            problem = f"is one JSON document of more than {MOST_DOCUMENT_BYTES >> 20} MiB"
            raise InputError(source.name, problem, line=first[0], expected="a smaller one, or JSON Lines")
    yield first[0], b"\n".join(parts)


def _begin_objects(first: bytes, second: bytes) -> bool:
    """Whether two lines are objects of their own, the first one damaged: no line of an object begins another."""
    return first.lstrip().startswith(b"{") and second.lstrip().startswith(b"{")


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def decoded(decoder: msgspec.json.Decoder[Any], text: bytes, file: str, line: int | None) -> Any:
    """The value of a JSON text; `InputError` that names the field where it is not of the decoder's type."""
    try:
        return decoder.decode(text)
    except msgspec.ValidationError as error:
        problem, _at, path = str(error).partition(" - at `$")
        field = path.rstrip("`").lstrip(".") or None
        raise InputError(file, problem[0].lower() + problem[1:], line=line, field=field) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError(file, f"is not JSON ({error})", line=line, expected="a whole JSON value") from error


def after_ms(later_s: float | None, earlier_s: float | None) -> float | None:
    """Milliseconds from one moment to another, both in seconds of one clock; None where one is unknown."""
    return None if later_s is None or earlier_s is None else (later_s - earlier_s) * 1e3


def in_ms(seconds: float | None) -> float | None:
    """Seconds as milliseconds; None stays None."""
    return None if seconds is None else seconds * 1e3

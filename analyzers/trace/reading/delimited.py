"""Request logs as comma-separated values: a header line, then one request per line."""

from __future__ import annotations

import csv
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.fields import COUNT, NUMBER, Kind, number_in
from lbal.analyzers.trace.reading.request_table import RequestTable
from lbal.analyzers.trace.source import Block, Source
from lbal.analyzers.trace.trace import MAX_TOKENS, IntArray, Trace, TraceMeta

_FIELD = rb'(?:"(?:[^"]|"")*"|[^",]*)'
_ROW = re.compile(rb"%s(?:,%s)*" % (_FIELD, _FIELD))
_EACH_FIELD = re.compile(rb"(?:^|,)" + _FIELD)


@dataclass(frozen=True)
class Column:
    """A column that a reader needs: its name in the file, its name in the trace, and how its texts are read."""

    name: str
    target: str
    values: Callable[[pl.Series], pl.Series]
    """From texts (stripped, null where empty) to numbers; null where a text is not of the kind."""
    kind: Kind
    """Of the texts; it words what is wrong with one that has no number."""


def _spelt(kind: Kind) -> Kind:
    """Texts that spell values of a kind."""
    return Kind(kind.expected, lambda text: kind.fault(number_in(str(text))))


def count_column(name: str, target: str) -> Column:
    """A column of token counts."""
    return Column(name, target, _counts, _spelt(COUNT))


def number_column(name: str, target: str) -> Column:
    """A column of finite numbers."""
    return Column(name, target, _numbers, _spelt(NUMBER))


def _counts(texts: pl.Series) -> pl.Series:
    numbers = texts.cast(pl.Int64, strict=False)
    return numbers.set(~numbers.is_between(0, MAX_TOKENS), None)


def _numbers(texts: pl.Series) -> pl.Series:
    numbers = texts.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)


class DelimitedFormat(TraceFormat):
    """A comma-separated request log; a subclass names its columns."""

    content = "requests"
    names: ClassVar[tuple[str, ...]]
    """The columns that it needs, as the file calls them."""
    ms_per_unit: ClassVar[float] = 1.0
    """Of the column `time`."""

    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """One `Column` for each of `names`, made afresh for each file."""

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the header has at least half of the columns, so that a missing one can be named."""
        header = header_names(source)
        return 2 * sum(name in header for name in cls.names) >= len(cls.names)

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The requests of the file; other columns than `names` are not read."""
        columns = self.columns()
        header_line, line, blocks = source.first_line()
        header = _split(line.decode())
        self.check_header(header, source.name, header_line)
        table = RequestTable(source.name, self.ms_per_unit)
        rows = _Rows(source.name, header, columns)
        block = None
        for block in blocks:
            for frame, lines in rows.of(block):
                table.add(frame, lines)
        if not rows.count:
            raise InputError(source.name, "has a header but no rows", line=header_line, expected="a request per line")
        time_unit = None if self.time_unit == "none" else self.time_unit
        meta = TraceMeta(source.name, self.name, time_unit=time_unit, sha256=source.sha256)
        if block is not None and not block.complete and header[-1] in self.names:
            meta = _with_open_end(meta, rows.last_line, header[-1], options)
        return table.trace(
            meta, options, fields={column.target: column.name for column in columns} | {"arrival_ms": columns[0].name}
        )

    def check_header(self, header: list[str], file: str, line: int) -> None:
        """Raise `InputError` for columns that are missing or stand twice."""
        missing = [name for name in self.names if name not in header]
        if missing:
            problem = f"no such column in the header {shown(','.join(header), 200)}"
            raise InputError(file, problem, line=line, field=", ".join(missing), expected=",".join(self.names))
        for name in self.names:
            if header.count(name) > 1:
                raise InputError(file, "stands twice in the header", line=line, field=name, expected="one such column")


def header_names(source: Source) -> list[str]:
    """The column names in the first line of a source; empty for a directory."""
    return _split(source.head_line)


def _split(line: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line]), [])]
    except csv.Error:
        return []


def _with_open_end(meta: TraceMeta, line: int, name: str, options: ReadOptions) -> TraceMeta:
    """A number that ends where the file ends may have lost digits: nobody can tell, so somebody must be told."""
    problem = "the last line has no line end, so this number may be cut off"
    if options.strict:
        raise InputError(meta.source, problem, line=line, field=name, expected="a newline after the last row")
    return meta.warned(f"line {line}: {name}: {problem}")


class _Rows:
    """Turns blocks of lines into tables of the needed columns."""

    def __init__(self, file: str, header: list[str], columns: tuple[Column, ...]) -> None:
        self.file = file
        self.columns = columns
        self.width = len(header)
        self.positions = [header.index(column.name) for column in columns]
        self.count = 0
        self.last_line = 0

    def of(self, block: Block) -> Iterator[tuple[pl.DataFrame, IntArray]]:
        """The rows of a block and their lines; nothing for a block of blank lines."""
        texts, lines = self._texts(block)
        if texts is None:
            return
        self.count += texts.height
        self.last_line = int(lines[-1])
        yield self._numbers(texts, lines), lines

    def _texts(self, block: Block) -> tuple[pl.DataFrame | None, IntArray]:
        """The fields as texts: in one go where each line is a row, without the blank lines otherwise."""
        texts = self._parsed(block.data)
        if texts is not None and 0 < texts.height == block.num_lines:
            return texts, np.arange(block.first_line, block.first_line + texts.height)
        filled = list(block.lines())
        lines = np.array([number for number, _line in filled], dtype=np.int64)
        if not filled:
            return None, lines
        for number, line in filled:
            self._refuse_torn(number, line, cut=not block.complete and number == filled[-1][0])
        texts = self._parsed(b"\n".join(line for _number, line in filled), ragged=True)
        if texts is None or texts.height != len(filled):
            raise InputError(self.file, "cannot be split into fields", line=filled[0][0], expected="CSV")
        return texts, lines

    def _parsed(self, data: bytes, ragged: bool = False) -> pl.DataFrame | None:
        """The fields of all lines; None where not every line has all fields, unless `ragged` says that they do."""
        schema = {str(position): pl.String() for position in range(self.width)}
        try:
            texts = pl.read_csv(data, has_header=False, schema=schema)
        except pl.exceptions.PolarsError:
            return None
        return texts if ragged or not texts.to_series(-1).null_count() else None

    def _refuse_torn(self, number: int, line: bytes, cut: bool) -> None:
        """Raise for a line that is not one row of the right width."""
        if not _ROW.fullmatch(line):
            raise InputError(self.file, "quotes do not pair up", line=number, expected="each row on one line")
        width = len(_EACH_FIELD.findall(line))
        if width != self.width:
            end = " and no line end, truncated?" if cut else ""
            problem = f"the row has {width} field{'s' if width != 1 else ''}{end}"
            raise InputError(self.file, problem, line=number, expected=f"{self.width}, as in the header")

    def _numbers(self, texts: pl.DataFrame, lines: IntArray) -> pl.DataFrame:
        """The needed columns as numbers, or the error for the first line where one is bad."""
        series: list[pl.Series] = []
        faults: list[tuple[int, int, Column, str | None]] = []
        for column, position in zip(self.columns, self.positions, strict=True):
            stripped = texts.to_series(position).str.strip_chars()
            numbers = column.values(stripped).alias(column.target)
            series.append(numbers)
            if column.target == "time":
                series.append(stripped.alias("time_text"))
            if numbers.null_count():
                row = numbers.is_null().arg_max() or 0
                faults.append((row, len(faults), column, stripped[row]))
        if faults:
            row, _order, column, text = min(faults, key=lambda fault: fault[:2])
            problem = column.kind.fault(text or "") or f"{text!r} cannot be read"
            raise InputError(self.file, problem, line=int(lines[row]), field=column.name, expected=column.kind.expected)
        return pl.DataFrame(series)

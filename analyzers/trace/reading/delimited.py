"""Request logs as comma-separated values: a header line, then one request per line."""

from __future__ import annotations

import csv
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.trace.bad_lines import BadLines
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.fields import COUNT, NUMBER, TEXT, Kind, number_in
from lbal.analyzers.trace.reading.request_table import RequestTable
from lbal.analyzers.trace.source import Block, Source
from lbal.analyzers.trace.trace import MAX_TOKENS, IntArray, Trace, TraceMeta

SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Column:
    """A column that a reader needs: its name in the file, its name in the trace, and how its texts are read."""

    name: str
    target: str
    values: Callable[[pl.Series], pl.Series]
    """From texts (stripped, null where empty) to numbers; null where a text is not of the kind."""
    kind: Kind
    """Of the texts; it words what is wrong with one that has no number."""
    optional: bool = False
    """The file may lack the column, and a row its value."""


def _spelt(kind: Kind) -> Kind:
    """Texts that spell values of a kind."""
    return Kind(kind.expected, lambda text: kind.fault(number_in(str(text))))


def count_column(name: str, target: str, *, optional: bool = False) -> Column:
    """A column of token counts; `655.0` spells a whole number too."""
    return Column(name, target, _counts, _spelt(COUNT), optional)


def number_column(name: str, target: str, *, optional: bool = False) -> Column:
    """A column of finite numbers."""
    return Column(name, target, _numbers, _spelt(NUMBER), optional)


def text_column(name: str, target: str) -> Column:
    """A column of texts, which a file may lack."""
    return Column(name, target, lambda texts: texts.set(texts == "", None), TEXT, optional=True)


def _counts(texts: pl.Series) -> pl.Series:
    numbers = texts.cast(pl.Int64, strict=False)
    if numbers.null_count() > texts.null_count():
        spelt = texts.cast(pl.Float64, strict=False)
        whole = (spelt == spelt.floor()) & (spelt.abs() <= MAX_TOKENS)
        numbers = numbers.fill_null(spelt.set(~whole.fill_null(False), None).cast(pl.Int64))
    return numbers.set(~numbers.is_between(0, MAX_TOKENS), None)


def _numbers(texts: pl.Series) -> pl.Series:
    numbers = texts.cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)


class DelimitedFormat(TraceFormat):
    """A request log with a header and one request per line; a subclass names its columns.

    Fields are separated by commas, semicolons or tabs; upper and lower case of the header are the same.
    """

    content = "requests"
    names: ClassVar[tuple[str, ...]]
    """The columns that it needs, as the file calls them. Some of the optional ones of `columns` may stand beside."""
    ms_per_unit: ClassVar[float] = 1.0
    """Of the column `time`."""

    @abstractmethod
    def columns(self) -> tuple[Column, ...]:
        """One `Column` for each of `names`, made afresh for each file."""

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the header has at least half of the columns, so that a missing one can be named."""
        return 2 * known_names(source, cls.names) >= len(cls.names)

    def use(self, options: ReadOptions) -> None:
        """Take what the options say of the columns; called before anything is read."""

    def finished(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows as `RequestTable` takes them; a subclass derives columns here, or names why a row is left out."""
        return rows

    def notes(self) -> tuple[str, ...]:
        """What a reader of the trace must be told, once all rows are read."""
        return ()

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The requests of the file; other columns than those of `columns` are not read."""
        self.use(options)
        columns = self.columns()
        header_line, line, blocks = source.first_line()
        separator, header = _header(line.decode(), [column.name for column in columns])
        self.check_header(header, source.name, header_line)
        columns = tuple(column for column in columns if column.name in header)
        table = RequestTable(source.name, options.ms_per_unit(self.time_unit, self.ms_per_unit))
        rows = _Rows(source.name, header, columns, separator)
        block = None
        for block in blocks:
            for frame, lines in rows.of(block):
                table.add(self.finished(frame), lines)
        rows.bad.enforce()
        if not rows.count:
            raise InputError(source.name, "has a header but no rows", line=header_line, expected="a request per line")
        time_unit = None if self.time_unit == "none" else options.time_unit or self.time_unit
        meta = TraceMeta(source.name, self.name, time_unit=time_unit, sha256=source.sha256).warned(*self.notes())
        if block is not None and not block.complete and header[-1] in {column.name for column in columns}:
            meta = _with_open_end(meta, rows.last_line, header[-1], options)
        return table.trace(
            meta,
            options,
            fields={"arrival_ms" if column.target == "time" else column.target: column.name for column in columns},
        )

    def check_header(self, header: list[str], file: str, line: int) -> None:
        """Raise `InputError` for columns that are missing or stand twice."""
        missing = [name for name in self.names if name not in header]
        if missing:
            problem = f"no such column in the header {shown(','.join(header), 200)}"
            raise InputError(file, problem, line=line, field=", ".join(missing), expected=",".join(self.names))
        for name in sorted({*self.names, *(column.name for column in self.columns())}):
            if header.count(name) > 1:
                raise InputError(file, "stands twice in the header", line=line, field=name, expected="one such column")


def header_names(source: Source, names: Sequence[str]) -> list[str]:
    """The column names in the first line of a source, spelt as in `names` where they are among them."""
    return _header(source.head_line, names)[1]


def known_names(source: Source, names: Sequence[str]) -> int:
    """How many of the names stand in the first line of a source."""
    header = header_names(source, names)
    return sum(name in header for name in names)


def _header(line: str, names: Sequence[str]) -> tuple[str, list[str]]:
    """The separator under which most of the names stand in a header, and the names between the separators."""
    spelling = {name.lower(): name for name in names}
    best = (SEPARATORS[0], [name.strip() for name in _split(line, SEPARATORS[0])])
    most = -1
    for separator in SEPARATORS:
        found = [spelling.get(name.strip().lower(), name.strip()) for name in _split(line, separator)]
        known = len(set(found) & set(names))
        if known > most:
            best, most = (separator, found), known
    return best


def _split(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
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

    def __init__(self, file: str, header: list[str], columns: tuple[Column, ...], separator: str) -> None:
        self.file = file
        self.columns = columns
        self.separator = separator
        self.bad = BadLines()
        mark = re.escape(separator.encode())
        field = rb'(?:"(?:[^"]|"")*"|[^"%s]*)' % mark
        self._row = re.compile(rb"%s(?:%s%s)*" % (field, mark, field))
        self._each_field = re.compile(rb"(?:^|%s)%s" % (mark, field))
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
        last = filled[-1][0] if filled and not block.complete else None
        filled = [(number, line) for number, line in filled if self._is_whole(number, line, cut=number == last)]
        lines = np.array([number for number, _line in filled], dtype=np.int64)
        if not filled:
            return None, lines
        texts = self._parsed(b"\n".join(line for _number, line in filled), ragged=True)
        if texts is None or texts.height != len(filled):
            raise InputError(self.file, "cannot be split into fields", line=filled[0][0], expected="CSV")
        return texts, lines

    def _parsed(self, data: bytes, ragged: bool = False) -> pl.DataFrame | None:
        """The fields of all lines; None where not every line has all fields, unless `ragged` says that they do."""
        schema = {str(position): pl.String() for position in range(self.width)}
        try:
            texts = pl.read_csv(data, has_header=False, schema=schema, separator=self.separator)
        except pl.exceptions.PolarsError:
            return None
        return texts if ragged or not texts.to_series(-1).null_count() else None

    def _is_whole(self, number: int, line: bytes, cut: bool) -> bool:
        """Whether a line is one row of the right width; one that is not counts as bad."""
        if not self._row.fullmatch(line):
            problem, expected = "quotes do not pair up", "each row on one line"
        elif (width := len(self._each_field.findall(line))) != self.width:
            end = " and no line end, truncated?" if cut else ""
            problem, expected = (
                f"the row has {width} field{'s' if width != 1 else ''}{end}",
                f"{self.width}, as in the header",
            )
        else:
            return True
        self.bad.add(InputError(self.file, problem, line=number, expected=expected))
        return False

    def _numbers(self, texts: pl.DataFrame, lines: IntArray) -> pl.DataFrame:
        """The needed columns as numbers. Rows with a bad value are counted in `bad`, to be enforced at the end."""
        series: list[pl.Series] = []
        bad: dict[int, tuple[Column, str | None]] = {}
        for column, position in zip(self.columns, self.positions, strict=True):
            stripped = texts.to_series(position).str.strip_chars()
            numbers = column.values(stripped).alias(column.target)
            series.append(numbers)
            if column.target == "time":
                series.append(stripped.alias("time_text"))
            faulty = numbers.is_null() & (stripped.fill_null("") != "") if column.optional else numbers.is_null()
            for row in faulty.arg_true() if faulty.any() else ():
                bad.setdefault(row, (column, stripped[row]))
        for row, (column, text) in sorted(bad.items()):
            problem = column.kind.fault(text or "") or f"{text!r} cannot be read"
            self.bad.add(
                InputError(self.file, problem, line=int(lines[row]), field=column.name, expected=column.kind.expected)
            )
        return pl.DataFrame(series)

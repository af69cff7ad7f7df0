"""Where lines that differ in their digits alone tell what: learned of one line, and read of all of them at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from lbal.analyzers.trace.reading.line_clock import fraction_of_second
from lbal.analyzers.trace.reading.text_arrays import TextArrays
from lbal.analyzers.trace.trace import FloatArray, IntArray

MOST_DIGITS, MOST_DECIMALS = (9, 6, 3), (18, 4, 2)
"""Of a number that is read in bulk: the first of them with which the plain reader still reads the line, if any."""
MOST_HEADS = 1 << 14
NUMBER = re.compile(rb"[0-9]+")
Place = tuple[float, float, float]
"""What stands before a message: rank, time in ms and kind of the clock; NaN is unknown."""
PLACE = ("rank", "time_ms", "clock")
Find = Callable[[bytes], "Fields | None"]


class Field(NamedTuple):
    """A number that stands from `start` to `end` of a line, in some unit. A text that is no number stands for 1."""

    start: int
    end: int
    unit: float = 1.0

    def value(self, line: bytes) -> float:
        """NaN where there is no text."""
        text = line[self.start : self.end]
        return (float(text) if text[-1:].isdigit() else 1.0) * self.unit if text else float("nan")


ABSENT = Field(0, 0)


class Fields(NamedTuple):
    """What a plain reader finds in a line: where its message begins, behind clock and rank, and where values are."""

    message: int
    fields: tuple[Field, ...]
    other_head: bytes | None = None
    """What tells clock and rank, where it is not what stands before the message. Such a line is not read in bulk."""

    def head(self, line: bytes) -> bytes:
        """What tells clock and rank."""
        return line[: self.message] if self.other_head is None else self.other_head

    def values(self, line: bytes) -> list[float]:
        """All values of the line."""
        return [one.value(line) for one in self.fields]


class _Column(NamedTuple):
    """A field by the numbers of the line: which one it is, and which one are its decimals; or a text that is there."""

    number: int | None
    decimals: int | None
    unit: float
    is_there: bool


@dataclass(frozen=True)
class LineForm:
    """How lines of one shape are read whose heads have as many digits in each number."""

    head_length: int
    head_numbers: int
    columns: tuple[_Column, ...]
    longest: IntArray
    """Digits that each number behind the head may have."""
    fraction: tuple[int, int] | None
    """Where the head has the fraction of a second, and which number that is."""
    fraction_number: int
    has_time: bool
    place: Callable[[bytes], Place]
    _places: dict[bytes, Place | None] = field(default_factory=dict)

    @classmethod
    def of(cls, line: bytes, find: Find, place: Callable[[bytes], Place]) -> Self | None:
        """The form of a line; None where the plain reader does not take its numbers from the same places in all."""
        found = find(line)
        columns = _columns(line, found)
        if found is None or columns is None or found.other_head is not None or found.head(line).endswith(b"\0"):
            return None
        head, spans = found.head(line), _spans(line)
        in_head = [span for span in spans if span[1] <= len(head)]
        behind = spans[len(in_head) :]
        shown = _Shown(line, behind, find, columns)
        longest = [shown.longest(index) for index in range(len(behind))]
        if not shown.reads([1] * len(behind)) or not shown.reads(longest):
            return None
        if any(column.number is not None and column.number < len(in_head) for column in columns):
            return None
        fraction = fraction_of_second(head)
        if fraction and fraction not in in_head:
            return None
        return cls(
            len(head),
            len(in_head),
            columns,
            np.array(longest, dtype=np.int64),
            fraction,
            in_head.index(fraction) if fraction else -1,
            place(head)[1] == place(head)[1],
            place,
        )

    def read(self, text: TextArrays, rows: IntArray) -> tuple[IntArray, FloatArray, FloatArray]:
        """The rows of the lines that can be read so, their places and their values."""
        lengths = text.lengths_of_numbers(rows, self.head_numbers, len(self.longest))
        rows = rows[(lengths <= self.longest).all(axis=1)]
        places, known = self._read_heads(text, rows)
        rows, places = rows[known], places[known]
        values = np.empty((len(rows), len(self.columns)))
        for index, (number, decimals, unit, is_there) in enumerate(self.columns):
            there = 1.0 if is_there else np.nan
            values[:, index] = (there if number is None else text.number(rows, number, decimals)) * unit
        return rows, places, values

    def _read_heads(self, text: TextArrays, rows: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """The places of lines, and whether they are known. Heads that differ in the fraction of a second are one."""
        heads = text.beginnings(rows, self.head_length, slice(*self.fraction or (0, 0)))
        kinds = {head: index for index, head in enumerate(dict.fromkeys(heads))}
        if len(self._places) > MOST_HEADS:
            self._places.clear()
        told = [self._places[head] if head in self._places else self._place_of(head) for head in kinds]
        table = np.array([place or (np.nan,) * 3 for place in told]).reshape(-1, 3)
        known = np.array([place is not None for place in told], dtype=np.bool_)
        each = np.fromiter(map(kinds.__getitem__, heads), np.int64, len(heads))
        places = table[each]
        if self.fraction:
            start, end = self.fraction
            places[:, 1] += text.number(rows, self.fraction_number) / 10.0 ** (end - start) * 1e3
        return places, known[each]

    def _place_of(self, head: bytes) -> Place | None:
        place = self.place(head)
        alike = not self.fraction or fraction_of_second(head) == self.fraction
        self._places[head] = place if alike and (place[1] == place[1]) == self.has_time else None
        return self._places[head]


def _columns(line: bytes, found: Fields | None) -> tuple[_Column, ...] | None:
    """The fields by the numbers of the line; None where a field is more, or less, than one or two whole numbers."""
    if found is None:
        return None
    columns = []
    starts = {start: index for index, (start, _end) in enumerate(_spans(line))}
    ends = {end: index for index, (_start, end) in enumerate(_spans(line))}
    for start, end, unit in found.fields:
        text = line[start:end]
        if not text[-1:].isdigit():
            columns.append(_Column(None, None, unit, bool(text)))
            continue
        first, last = starts.get(start), ends.get(end)
        if first is None or last is None or not last - first == text.count(b".") <= 1:
            return None
        columns.append(_Column(first, last if last > first else None, unit, True))
    return tuple(columns)


def _spans(line: bytes) -> list[tuple[int, int]]:
    return [number.span() for number in NUMBER.finditer(line)]


@dataclass(frozen=True)
class _Shown:
    """Shows a line with other numbers to the plain reader."""

    line: bytes
    numbers: Sequence[tuple[int, int]]
    """Those that are replaced."""
    find: Find
    columns: tuple[_Column, ...]
    """What it reads of the line itself."""

    def reads(self, lengths: Sequence[int]) -> bool:
        """Whether it reads the same where the numbers have so many digits."""
        line = self.line
        for (start, end), length in reversed(list(zip(self.numbers, lengths, strict=True))):
            line = line[:start] + b"1" * length + line[end:]
        return _columns(line, self.find(line)) == self.columns

    def longest(self, index: int) -> int:
        """Digits that one of the numbers may have in lines that are read in bulk."""
        lengths = [end - start for start, end in self.numbers]
        start, own = self.numbers[index][0], lengths[index]
        for lengths[index] in MOST_DECIMALS if self.line[start - 1 : start] == b"." else MOST_DIGITS:
            if lengths[index] > own and self.reads(lengths):
                return lengths[index]
        return own

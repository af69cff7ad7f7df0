"""Lines of one shape differ in their digits alone: those of a log are read all at once, not one by one.

Where the numbers of a shape stand is asked of the plain reader of one line, with the first line of that shape. Three
things keep the values those that the plain reader finds itself:

- it is also shown the shortest and the longest line that is read in bulk: a shape in which it then takes numbers from
  other places is not read so;
- what stands before the message, where lengths of numbers matter (clocks), has as many digits in each number as there,
  and is shown to the plain reader in every form that it takes, but for fractions of seconds;
- a line with more digits, without a line end, or without a time where the first one has one is handed back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lbal.analyzers.trace.reading.line_form import Fields, LineForm, Place
from lbal.analyzers.trace.reading.text_arrays import TextArrays
from lbal.analyzers.trace.trace import FloatArray, IntArray

MOST_SHAPES = 1 << 12
TOO_LONG = 255
"""Digits of a number before a message with which a line is not read in bulk."""
_NO_MESSAGE, _OTHER = -1, -2


@dataclass(frozen=True)
class ShapedLines:
    """What N lines say."""

    row: IntArray
    """(N,) the place of each among the lines of the text, from 0."""
    places: FloatArray
    """(N, 3) rank, time in ms and kind of the clock; NaN is unknown."""
    values: FloatArray
    """(N, F) the fields of each; NaN where one is not there."""
    marks: IntArray
    """(M,) how often each mark stands in all lines that were looked at."""

    def mangled(self) -> int:
        """Lines that were begun and not found whole: each whole line has each of the marks once."""
        return max(int(self.marks.max()) - len(self.row), 0)


class LineShapes:
    """Reads the lines of the shapes that a log has, which it learns on the way.

    Each whole line with a message has all `marks`, which have no digits; `find` is the plain reader of one line, and
    `place` that of what stands before its message. A line tells `width` fields.
    """

    def __init__(
        self,
        marks: tuple[bytes, ...],
        find: Callable[[bytes], Fields | None],
        place: Callable[[bytes], Place],
        width: int,
    ) -> None:
        self._marks, self._find, self._place, self._width = marks, find, place, width
        self._shapes: dict[bytes, int] = {}
        self._head_numbers: list[int] = []
        self._shape_marks: list[IntArray] = []
        self._forms: dict[tuple[int, bytes], LineForm | None] = {}

    def read(self, data: bytes) -> ShapedLines:
        """All lines of some text that the plain reader reads, in their order."""
        alike, others = self.read_alike(data)
        read = [(row, line, fields) for row, line in others if (fields := self._find(line))]
        plain = ShapedLines(
            np.array([row for row, _line, _fields in read], dtype=np.int64),
            np.array([self._place(fields.head(line)) for _row, line, fields in read]).reshape(-1, 3),
            np.array([fields.values(line) for _row, line, fields in read]).reshape(-1, self._width),
            self._marks_of(b"".join(line for _row, line in others)),
        )
        found = self._together([alike, plain])
        order = np.argsort(found.row, kind="stable")
        return ShapedLines(found.row[order], found.places[order], found.values[order], found.marks)

    def read_alike(self, data: bytes) -> tuple[ShapedLines, list[tuple[int, bytes]]]:
        """What was read in bulk of some whole lines, in no order; and all other lines with a mark, with their rows."""
        if not any(mark in data for mark in self._marks):
            return self._together([]), []
        text = TextArrays(data)
        shapes = self._shapes_of(text)
        found, handed_back = [], [np.flatnonzero(shapes == _OTHER)]
        for shape in np.unique(shapes[shapes >= 0]).tolist():
            rows = np.flatnonzero(shapes == shape)
            for lengths, part in _by_head(text, rows, self._head_numbers[shape]):
                alike, left = self._read_form(text, (shape, lengths), part)
                found.append(alike)
                handed_back.append(left)
        others = np.sort(np.concatenate(handed_back))
        return self._together(found), [(row, text.line(row)) for row in others.tolist()]

    def _shapes_of(self, text: TextArrays) -> IntArray:
        """(L,) the shape of each line; negative where it has none that is read in bulk."""
        known = [self._shapes.get(shape, _NO_MESSAGE) for shape in text.shapes]
        for row in [row for row, shape in enumerate(known) if shape == _NO_MESSAGE]:
            if any(mark in text.shapes[row] for mark in self._marks):
                known[row] = self._learned(text, row)
        if not text.ends_whole and known[-1] != _NO_MESSAGE:
            known[-1] = _OTHER
        return np.array(known, dtype=np.int64)

    def _learned(self, text: TextArrays, row: int) -> int:
        """The shape of a line, new or one that was learned a few lines before."""
        shape = text.shapes[row]
        if shape in self._shapes:
            return self._shapes[shape]
        fields = self._find(text.line(row)) if len(self._shapes) < MOST_SHAPES else None
        if not fields:
            return _OTHER
        self._shapes[shape] = len(self._head_numbers)
        self._head_numbers.append(text.numbers_before(row, fields.message))
        self._shape_marks.append(self._marks_of(shape))
        return self._shapes[shape]

    def _read_form(self, text: TextArrays, key: tuple[int, bytes], rows: IntArray) -> tuple[ShapedLines, IntArray]:
        """Lines of one shape with heads of one form, and the rows of those that cannot be read so."""
        shape, lengths = key
        if key not in self._forms:
            line = text.line(int(rows[0]))
            self._forms[key] = None if TOO_LONG in lengths else LineForm.of(line, self._find, self._place)
        form = self._forms[key]
        if form is None or form.head_numbers != self._head_numbers[shape]:
            return self._together([]), rows
        read, places, values = form.read(text, rows)
        left = np.setdiff1d(rows, read) if len(read) < len(rows) else read[:0]
        return ShapedLines(read, places, values, self._shape_marks[shape] * len(read)), left

    def _marks_of(self, line: bytes) -> IntArray:
        return np.array([line.count(mark) for mark in self._marks])

    def _together(self, parts: Sequence[ShapedLines]) -> ShapedLines:
        none = np.zeros(len(self._marks), np.int64)
        empty = ShapedLines(np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, self._width)), none)
        columns = ((part.row, part.places, part.values, part.marks) for part in (empty, *parts))
        row, places, values, marks = zip(*columns, strict=True)
        return ShapedLines(np.concatenate(row), np.concatenate(places), np.concatenate(values), np.sum(marks, axis=0))


def _by_head(text: TextArrays, rows: IntArray, count: int) -> Iterator[tuple[bytes, IntArray]]:
    """The lines by how many digits each of the `count` numbers before their messages has, a byte for each number."""
    lengths = np.minimum(text.lengths_of_numbers(rows, 0, count), TOO_LONG).astype(np.uint8)
    if (lengths == lengths[0]).all():
        yield lengths[0].tobytes(), rows
        return
    each = lengths.view(f"S{count}")[:, 0].tolist()
    kinds = {kind: index for index, kind in enumerate(dict.fromkeys(each))}
    kind_of = np.fromiter(map(kinds.__getitem__, each), np.int64, len(each))
    for kind, index in kinds.items():
        yield kind, rows[kind_of == index]

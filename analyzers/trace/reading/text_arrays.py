"""Some lines of text as arrays: where its lines and its numbers are, and the shape of each line."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from lbal.analyzers.trace.trace import FloatArray, IntArray

ZERO, LINE_END = ord("0"), ord("\n")
EXACT_DIGITS = 15
"""A whole number of so many digits is exact in float64; divided by a power of ten it is what `float` reads."""
POWERS = 10.0 ** np.arange(EXACT_DIGITS + 1)
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)


class TextArrays:
    """L lines of a text that is not empty, with their numbers. A number is a row of digits, so `1.50` is two of them.

    The shape of a line is its text with one `0` for each number.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._chars = np.frombuffer(data, np.uint8)
        digit = (self._chars - np.uint8(ZERO)) < 10
        edges = np.flatnonzero(digit[1:] != digit[:-1]) + 1
        if digit[0] or digit[-1]:
            edges = np.concatenate([[0] * int(digit[0]), edges, [len(data)] * int(digit[-1])]).astype(np.int64)
        self._starts, self._ends = edges[::2], edges[1::2]
        ends = np.flatnonzero(self._chars == LINE_END) + 1
        self.ends_whole = bool(len(ends)) and int(ends[-1]) == len(data)
        self._line_ends = ends if self.ends_whole else np.append(ends, len(data))
        self._line_starts = np.concatenate([[0], self._line_ends[:-1]])
        self._first_numbers = np.searchsorted(self._starts, self._line_starts)
        self.shapes = self._shapes(digit)
        """(L,) the shape of each line."""

    def _shapes(self, digit: npt.NDArray[np.bool_]) -> list[bytes]:
        keep = ~digit
        keep[self._starts] = True
        zeros = np.frombuffer(self.data.translate(_DIGITS_TO_ZERO), np.uint8)
        shapes = zeros[keep].tobytes().split(b"\n")
        return shapes[:-1] if self.ends_whole else shapes

    @cached_property
    def _lengths(self) -> IntArray:
        return np.asarray(self._ends - self._starts)

    def __len__(self) -> int:
        return len(self._line_ends)

    def line(self, row: int) -> bytes:
        """A line, with its end."""
        return self.data[self._line_starts[row] : self._line_ends[row]]

    def numbers_before(self, row: int, place: int) -> int:
        """How many numbers of a line stand before one of its characters."""
        return int(np.searchsorted(self._starts, self._line_starts[row] + place) - self._first_numbers[row])

    def lengths_of_numbers(self, rows: IntArray, first: int, count: int) -> IntArray:
        """(N, count) digits of some numbers of lines, from the number `first` of each line on."""
        lengths: IntArray = self._lengths[(self._first_numbers[rows] + first)[:, None] + np.arange(count)]
        return lengths

    def number(self, rows: IntArray, index: int, decimals: int | None = None) -> FloatArray:
        """(N,) a number of each line, or two of them: that and its decimals."""
        first = self._first_numbers[rows] + index
        if decimals is None and int(self._lengths[first].max(initial=0)) <= EXACT_DIGITS:
            return self._whole(first)
        last = first if decimals is None else self._first_numbers[rows] + decimals
        if int((self._lengths[first] + self._lengths[last]).max(initial=0)) <= EXACT_DIGITS:
            power = POWERS[self._lengths[last]]
            return np.asarray((self._whole(first) * power + self._whole(last)) / power)
        places = zip(self._starts[first].tolist(), self._ends[last].tolist(), strict=True)
        return np.array([float(self.data[start:end]) for start, end in places])

    def _whole(self, numbers: IntArray) -> FloatArray:
        last, lengths = self._ends[numbers] - 1, self._lengths[numbers]
        value = np.zeros(len(numbers))
        shortest = int(lengths.min(initial=EXACT_DIGITS))
        for place in range(int(lengths.max(initial=0))):
            digits = self._chars[last - place] - np.uint8(ZERO)
            if place >= shortest:
                digits[lengths <= place] = 0
            value += digits * POWERS[place]
        return value

    def beginnings(self, rows: IntArray, length: int, zeros: slice) -> list[bytes]:
        """The first characters of lines that are as long at least, with zeros in place of some of them.

        The last one must not be a NUL.
        """
        if not length:
            return [b""] * len(rows)
        windows = np.lib.stride_tricks.sliding_window_view(self._chars, length)
        heads = windows[self._line_starts[rows]]
        heads[:, zeros] = ZERO
        texts: list[bytes] = heads.view(f"S{length}")[:, 0].tolist()
        return texts

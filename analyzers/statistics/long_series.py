"""Percentiles of more values than memory holds: exact, and the same as those of an array."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.array_file import ArrayFile, Handle
from lbal.analyzers.trace.trace import FloatArray

KEEP_BYTES = 1 << 25
"""Of the values of series in one file that are kept in memory; those beyond go to the file."""
MOST_SORTED = 1 << 21
"""Values that are put in order at a time."""
BITS = 16
"""Of a value by which its place is narrowed down in one pass over the values."""


class LongSeries:
    """Takes numbers, block by block, and tells their percentiles; no NaN among them.

    Several series may share a file; without one it makes its own.
    """

    def __init__(self, file: ArrayFile | None = None) -> None:
        self._file = file or ArrayFile(KEEP_BYTES)
        self._blocks: list[Handle] = []
        self._count = 0

    def add(self, values: FloatArray) -> None:
        """The next numbers."""
        if len(values):
            self._blocks.append(self._file.put(values))
            self._count += len(values)

    def percentile(self, share: float) -> float:
        """As `numpy.percentile`, between the two nearest values. NaN where there is no value."""
        if not self._count:
            return math.nan
        if self._count <= MOST_SORTED:
            return float(np.percentile(self._all(), share))
        place = (self._count - 1) * (share / 100)
        below = min(int(place), self._count - 2)
        low, high = self._in_order(below), self._in_order(below + 1)
        weight, between = place - below, high - low
        return low + between * weight if weight < 0.5 else high - between * (1 - weight)

    def median(self) -> float:
        """The middle value, or the mean of the two in the middle. NaN where there is no value."""
        if not self._count:
            return math.nan
        if self._count <= MOST_SORTED:
            return float(np.median(self._all()))
        return (self._in_order((self._count - 1) // 2) + self._in_order(self._count // 2)) / 2

    def share_at_most(self, share: float) -> float:
        """The smallest of the values that this share of them (in percent) does not exceed; NaN where there is none."""
        if not self._count:
            return math.nan
        if self._count <= MOST_SORTED:
            return float(np.percentile(self._all(), share, method="inverted_cdf"))
        return self._in_order(max(math.ceil(self._count * (share / 100) - 1), 0))

    def _all(self) -> FloatArray:
        return np.concatenate(list(self._read()))

    def _read(self) -> Iterator[FloatArray]:
        return (self._file.get(block) for block in self._blocks)

    def _in_order(self, place: int) -> float:
        """The value that stands at a place, from 0, when all are sorted: its bits are found from the highest on."""
        first, shift = 0, 64
        while True:
            last, shift = first + (1 << shift) - 1, shift - BITS
            sizes = np.zeros(1 << BITS, np.int64)
            for keys in map(_keys, self._read()):
                inside = keys[(keys >= np.uint64(first)) & (keys <= np.uint64(last))]
                part = (inside - np.uint64(first)) >> np.uint64(shift)
                sizes += np.bincount(part.astype(np.int64), minlength=1 << BITS)
            up_to = np.cumsum(sizes)
            index = int(np.searchsorted(up_to, place, side="right"))
            place -= int(up_to[index] - sizes[index])
            first += index << shift
            if sizes[index] <= MOST_SORTED or shift == 0:
                return self._within(first, first + (1 << shift) - 1, place)

    def _within(self, first: int, last: int, place: int) -> float:
        """The value at a place among those whose keys lie in a range; all are equal where they are too many to sort."""
        found = []
        for values in self._read():
            keys = _keys(values)
            inside = values[(keys >= np.uint64(first)) & (keys <= np.uint64(last))]
            if first == last and len(inside):
                return float(inside[0])
            found.append(inside)
        return float(np.partition(np.concatenate(found), place)[place])


def _keys(values: FloatArray) -> NDArray[np.uint64]:
    """Whole numbers in the order of the values."""
    bits = np.ascontiguousarray(values).view(np.int64)
    return np.asarray((bits ^ ((bits >> 63) & np.int64(2**63 - 1))).view(np.uint64) ^ np.uint64(1 << 63))

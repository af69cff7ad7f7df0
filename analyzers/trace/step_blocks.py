"""The steps of a trace some at a time, in their order: what is larger than memory is gone through like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import StepArrays, Trace

BLOCK_CELLS = 1 << 19
"""Steps times ranks of a block of `even`: some 4 MB of each of its arrays."""


@dataclass(frozen=True)
class StepBlocks:
    """S steps of G ranks in blocks, which can be gone through again and again; no block is empty."""

    count: int
    """S"""
    dp_size: int
    """G"""
    blocks: Callable[[], Iterator[StepArrays]]
    unknown: tuple[str, ...] = ()
    """The loads that the trace lacks: NaN throughout."""
    in_memory: bool = False
    """Whether all are one block, so that changing them once is better than each time they are gone through."""

    @classmethod
    def of(cls, steps: StepArrays) -> StepBlocks:
        """Steps that are in memory, as one block."""
        return cls(len(steps), steps.dp_size, lambda: iter([steps] if len(steps) else []), in_memory=True)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StepArrays]:
        return self.blocks()

    def tells(self, name: str) -> bool:
        """Whether the steps have this field of `StepArrays`."""
        return getattr(next(iter(self)), name) is not None

    def even(self) -> StepBlocks:
        """The same steps, cut by a rule that knows the numbers of steps and ranks alone.

        Sums that are taken block by block are then the same to the last bit, however the trace was read.
        """
        size = max(1, BLOCK_CELLS // self.dp_size)
        if self.count <= size:
            return StepBlocks.of(self.joined())
        return StepBlocks(self.count, self.dp_size, lambda: self._cut(size), self.unknown)

    def changed(self, change: Callable[[StepArrays], StepArrays], count: int, dp_size: int) -> StepBlocks:
        """What `change` makes of each block: `count` steps of `dp_size` ranks in all."""
        return self.replaced(lambda: (new for new in map(change, self.blocks()) if len(new)), count, dp_size)

    def replaced(
        self, blocks: Callable[[], Iterator[StepArrays]], count: int | None = None, dp_size: int | None = None
    ) -> StepBlocks:
        """Other blocks that are made of these; as many steps and ranks as here where no other numbers are given."""
        count, dp_size = self.count if count is None else count, dp_size or self.dp_size
        if self.in_memory:
            return StepBlocks.of(joined(blocks(), count))
        return StepBlocks(count, dp_size, blocks)

    def rows(self, rows: slice) -> StepBlocks:
        """The steps from `rows.start` on and before `rows.stop`."""
        start, stop, _ = rows.indices(self.count)
        if stop - start == self.count:
            return self
        return self.replaced(lambda: self._within(start, stop), max(stop - start, 0))

    def thinned(self, stride: int) -> StepArrays:
        """The first of every `stride` steps, in memory."""
        if stride == 1:
            return self.joined()
        parts, row = [], 0
        for steps in self.blocks():
            parts.append(thinned(steps, row, stride))
            row += len(steps)
        return joined(parts, -(-row // stride))

    def series(self, value: Callable[[StepArrays], NDArray[Any]]) -> NDArray[Any]:
        """(S,) one value of each step."""
        found, row = np.empty(0), 0
        for steps in self:
            values = value(steps)
            if not row:
                found = np.empty(self.count, values.dtype)
            found[row : row + len(values)] = values
            row += len(values)
        return found

    def _cut(self, size: int) -> Iterator[StepArrays]:
        parts: list[StepArrays] = []
        count = 0
        for steps in self.blocks():
            row = 0
            while row < len(steps):
                parts.append(steps.part(slice(row, row + size - count)))
                row, count = row + len(parts[-1]), count + len(parts[-1])
                if count == size:
                    yield joined(parts, count)
                    parts, count = [], 0
        if parts:
            yield joined(parts, count)

    def _within(self, start: int, stop: int) -> Iterator[StepArrays]:
        row = 0
        for steps in self.blocks():
            first, last = max(start - row, 0), min(stop - row, len(steps))
            row += len(steps)
            if first < last:
                yield steps.part(slice(first, last))
            if row >= stop:
                return

    def joined(self) -> StepArrays:
        """All of them together in memory: made once, and not to be written to."""
        return self._together

    @cached_property
    def _together(self) -> StepArrays:
        return joined(self, self.count)


def thinned(steps: StepArrays, first_row: int, stride: int) -> StepArrays:
    """Of a block that begins with this row of all steps, those whose row is a multiple of the stride."""
    # An array of rows, not a slice of them, which would keep the whole block in memory.
    return steps if stride == 1 else steps.part(np.arange(-first_row % stride, len(steps), stride))


def joined(parts: Iterable[StepArrays], count: int) -> StepArrays:
    """Steps of one trace, one after another: `count` of them, in at least one part; parts need not all be in memory."""
    arrays: dict[str, Any] = {}
    row = 0
    for steps in parts:
        if len(steps) == count:
            return steps
        for name, part in vars(steps).items():
            if part is not None:
                if name not in arrays:
                    arrays[name] = np.empty((count, *part.shape[1:]), part.dtype)
                arrays[name][row : row + len(part)] = part
        row += len(steps)
    return StepArrays(**arrays)


def blocks_of(trace: Trace) -> StepBlocks:
    """The steps of a trace that has steps, in even blocks."""
    return (StepBlocks.of(trace.step_arrays()) if trace.blocks is None else trace.blocks).even()


def tables_of(trace: Trace, most_rows: int) -> Iterator[pl.DataFrame]:
    """The steps of a trace as tables of whole steps, of about so many rows at most; none where it has no steps."""
    ranks = trace.meta.dp_size or 1
    steps_at_once = max(1, most_rows // ranks)
    if trace.steps is not None:
        yield from trace.steps.iter_slices(steps_at_once * ranks)
    if trace.blocks is not None:
        for steps in trace.blocks:
            for start in range(0, len(steps), steps_at_once):
                yield steps.part(slice(start, start + steps_at_once)).frame().drop(trace.blocks.unknown)


@dataclass(frozen=True)
class CheckedSteps:
    """Steps that were checked block by block, in order, and what is known of all of them."""

    blocks: StepBlocks
    ranks_seen: tuple[int, ...] | None
    """As in the metadata of a trace."""
    backwards: int
    """How many start before the step before them."""

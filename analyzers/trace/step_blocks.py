"""The steps of a trace some at a time, in their order: what is larger than memory is gone through like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from lbal.analyzers.trace.trace import FloatArray, StepArrays, Trace


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

    def changed(self, change: Callable[[StepArrays], StepArrays], count: int, dp_size: int) -> StepBlocks:
        """What `change` makes of each block: `count` steps of `dp_size` ranks in all."""
        if self.in_memory:
            return StepBlocks.of(change(self.joined()))
        return StepBlocks(count, dp_size, lambda: (new for new in map(change, self.blocks()) if len(new)))

    def rows(self, rows: slice) -> StepBlocks:
        """The steps from `rows.start` on and before `rows.stop`."""
        start, stop, _ = rows.indices(self.count)
        if stop - start == self.count:
            return self
        if self.in_memory:
            return StepBlocks.of(self.joined().part(rows))
        return StepBlocks(max(stop - start, 0), self.dp_size, lambda: self._within(start, stop))

    def every(self, stride: int) -> StepArrays:
        """One step in so many, from the first on, together in memory."""
        parts, row = [], 0
        for steps in self:
            parts.append(steps.part(slice(-row % stride, None, stride)))
            row += len(steps)
        return joined(parts)

    def joined(self) -> StepArrays:
        """All of them together in memory: made once, and not to be written to."""
        return self._together

    @cached_property
    def _together(self) -> StepArrays:
        arrays: dict[str, Any] = {}
        row = 0
        for steps in self:
            if len(steps) == self.count:
                return steps
            for name, part in vars(steps).items():
                if part is not None:
                    if name not in arrays:
                        arrays[name] = np.empty((self.count, *part.shape[1:]), part.dtype)
                    arrays[name][row : row + len(part)] = part
            row += len(steps)
        return StepArrays(**arrays)

    def series(self, value: Callable[[StepArrays], FloatArray]) -> FloatArray:
        """(S,) one value of each step."""
        return np.concatenate([value(steps) for steps in self])

    def _within(self, start: int, stop: int) -> Iterator[StepArrays]:
        row = 0
        for steps in self.blocks():
            first, last = max(start - row, 0), min(stop - row, len(steps))
            row += len(steps)
            if first < last:
                yield steps.part(slice(first, last))
            if row >= stop:
                return


def joined(parts: list[StepArrays]) -> StepArrays:
    """Steps of one trace, one after another; at least one part."""
    if len(parts) == 1:
        return parts[0]
    names = [name for name, array in vars(parts[0]).items() if array is not None]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return StepArrays(**arrays)


def blocks_of(trace: Trace) -> StepBlocks:
    """The steps of a trace that has steps."""
    return StepBlocks.of(trace.step_arrays()) if trace.blocks is None else trace.blocks


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

"""The steps of a trace some at a time, in their order: what is larger than memory is gone through like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from lbal.analyzers.trace.trace import StepArrays, Trace


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

    @classmethod
    def of(cls, steps: StepArrays) -> StepBlocks:
        """Steps that are in memory, as one block."""
        return cls(len(steps), steps.dp_size, lambda: iter([steps] if len(steps) else []))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[StepArrays]:
        return self.blocks()

    def joined(self) -> StepArrays:
        """All of them together in memory: made once, and not to be written to."""
        return self._together

    @cached_property
    def _together(self) -> StepArrays:
        return joined(self, self.count)


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

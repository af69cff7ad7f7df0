"""Steps whose recorded times overlap: the time that passed is counted once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays

OVERLAP = 1.01
"""Steps whose times add up to more than this many times the time that passed overlap; less is rounding."""
PAUSE = 0.1
"""A gap of more than this share of the step before it parts two stretches, each with its own overlap."""


def without_overlap(steps: StepBlocks) -> tuple[StepBlocks, list[str]]:
    """The steps with the time that passed counted once, and a note where that changes them.

    Steps of a barrier follow one another. Where their recorded times overlap, as those of an engine that schedules
    ahead do, all times of a stretch of them are scaled to the time that passed in it: each step keeps its share, and so
    its share of idle. Starts that are unknown, equal or backwards tell of no overlap.
    """
    if not (steps.tells("start_ms") and steps.tells("step_ms")):
        return steps, []
    found = _Stretches()
    for block in steps:
        if not found.add(block):
            return steps, []
    overlap = found.overlap()
    if overlap is None:
        return steps, []
    return steps.replaced(lambda: overlap.scaled(steps)), [overlap.note(len(steps))]


@dataclass(frozen=True)
class _Overlap:
    """The stretches of steps that overlap, in order; arrays of shape (stretches,)."""

    first_row: IntArray
    stop_row: IntArray
    times: FloatArray
    """How many times the time that passed in it the times of its steps add up to."""
    added_ms: float
    passed_ms: float

    def scaled(self, steps: StepBlocks) -> Iterator[StepArrays]:
        """The steps, those of each stretch scaled to the time that passed in it."""
        row = 0
        for block in steps:
            rows = np.arange(row, row + len(block))
            stretch = np.maximum(np.searchsorted(self.first_row, rows, side="right") - 1, 0)
            inside = (rows >= self.first_row[stretch]) & (rows < self.stop_row[stretch])
            yield _scaled(block, np.where(inside, self.times[stretch], 1.0))
            row += len(block)

    def note(self, steps: int) -> str:
        """What was done to them."""
        return (
            f"steps overlap: the times of {(self.stop_row - self.first_row).sum():,} of {steps:,} add up to "
            f"{self.added_ms / self.passed_ms:.3g} times the time that passed, and are scaled to it so that it counts "
            "once"
        )


def _scaled(steps: StepArrays, times: FloatArray) -> StepArrays:
    assert steps.step_ms is not None
    compute_ms, wait_ms = (
        None if values is None else values / times[:, None] for values in (steps.compute_ms, steps.wait_ms)
    )
    return replace(steps, step_ms=steps.step_ms / times, compute_ms=compute_ms, wait_ms=wait_ms)


@dataclass(frozen=True)
class _Closed:
    """Stretches whose steps are all known; arrays of shape (stretches,)."""

    row: IntArray
    added_ms: FloatArray
    start_ms: FloatArray
    end_ms: FloatArray

    def part(self, where: slice) -> _Closed:
        return _Closed(self.row[where], self.added_ms[where], self.start_ms[where], self.end_ms[where])


class _Stretches:
    """Takes steps in their order and keeps the stretches that overlap."""

    def __init__(self) -> None:
        self._row = 0
        self._last_start_ms = self._last_end_ms = -math.inf
        self._last_step_ms = 0.0
        self._open: _Closed | None = None
        """The stretch that the next step may belong to."""
        self._added_ms = self._counted_ms = 0.0
        self._scaled_ms = self._passed_ms = 0.0
        self._kept: list[tuple[IntArray, IntArray, FloatArray]] = []

    def add(self, steps: StepArrays) -> bool:
        """The next steps; false where their times or starts tell of no overlap."""
        start_ms, step_ms = steps.start_ms, steps.step_ms
        assert start_ms is not None
        assert step_ms is not None
        if not (np.diff(start_ms, prepend=self._last_start_ms) > 0).all() or np.isnan(step_ms).any():
            return False
        end_ms = np.maximum(np.maximum.accumulate(start_ms + step_ms), self._last_end_ms)
        paused_ms = start_ms - np.append(self._last_end_ms, end_ms[:-1])
        begins = paused_ms > PAUSE * np.append(self._last_step_ms, step_ms[:-1])
        first = np.flatnonzero(begins)
        goes_on = self._open if not begins[0] else None
        if goes_on is not None:
            first = np.append(0, first)
        added_ms = np.add.reduceat(step_ms, first)
        row, from_ms = first + self._row, start_ms[first]
        if goes_on is not None:
            added_ms[0] += goes_on.added_ms[0]
            row[0], from_ms[0] = goes_on.row[0], goes_on.start_ms[0]
        elif self._open is not None:
            self._close(self._open, self._row)
        found = _Closed(row, added_ms, from_ms, np.maximum.reduceat(end_ms, first))
        self._close(found.part(slice(None, -1)), int(row[-1]))
        self._open = found.part(slice(-1, None))
        self._row += len(steps)
        self._last_start_ms, self._last_end_ms = float(start_ms[-1]), float(end_ms[-1])
        self._last_step_ms = float(step_ms[-1])
        return True

    def _close(self, stretches: _Closed, stop_row: int) -> None:
        """Stretches that end where the next of them begins, the last one before `stop_row`."""
        added_ms = stretches.added_ms
        times = added_ms / (stretches.end_ms - stretches.start_ms)
        times = np.where(times > OVERLAP, times, 1.0)
        self._added_ms += float(added_ms.sum())
        self._counted_ms += float((added_ms / times).sum())
        overlap: NDArray[np.bool_] = times > 1
        if overlap.any():
            self._scaled_ms += float(added_ms[overlap].sum())
            self._passed_ms += float((added_ms / times)[overlap].sum())
            stops = np.append(stretches.row[1:], stop_row)
            self._kept.append((stretches.row[overlap], stops[overlap], times[overlap]))

    def overlap(self) -> _Overlap | None:
        """What overlaps of all steps so far; None where that is no more than rounding."""
        if self._open is not None:
            self._close(self._open, self._row)
            self._open = None
        if self._added_ms <= OVERLAP * self._counted_ms:
            return None
        first, stop, times = (np.concatenate(each) for each in zip(*self._kept, strict=True))
        return _Overlap(first, stop, times, self._scaled_ms, self._passed_ms)

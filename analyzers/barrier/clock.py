"""What the starts of steps tell of the time that passed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import FloatArray, StepArrays

SAME = 1 + 1e-9
"""Times that differ by less are the same, added up in another order."""


def is_backwards(start_ms: FloatArray) -> bool:
    """Whether some step starts before one before it; unknown starts (NaN) tell nothing."""
    known = start_ms[~np.isnan(start_ms)]
    return bool((np.diff(known) < 0).any())


def in_order(start_ms: FloatArray | None) -> bool:
    """Whether all starts are known and none is before the one before it: moments can be told from steps."""
    return start_ms is not None and not np.isnan(start_ms).any() and not is_backwards(start_ms)


@dataclass(frozen=True)
class Starts:
    """When each of all steps starts, which tells in which step a moment lies."""

    start_ms: FloatArray
    """(S,)"""
    are_known: bool
    """All of them."""
    are_backwards: bool
    rise: bool
    """Whether all are known, and each is after the one before it."""

    @classmethod
    def of(cls, steps: StepBlocks) -> Starts | None:
        """None where the steps have no starts. It keeps 8 bytes of each step."""
        if not steps.tells("start_ms"):
            return None
        start_ms, row = np.empty(len(steps)), 0
        are_known, are_backwards, rise = True, False, True
        last_ms = last_known_ms = math.nan
        for block in steps:
            assert block.start_ms is not None
            start_ms[row : row + len(block)] = block.start_ms
            known = block.start_ms[~np.isnan(block.start_ms)]
            are_known &= len(known) == len(block)
            are_backwards |= bool((np.diff(known, prepend=last_known_ms) < 0).any())
            rise &= bool((np.diff(block.start_ms, prepend=last_ms if row else -math.inf) > 0).all())
            last_ms, last_known_ms = float(block.start_ms[-1]), float(known[-1]) if len(known) else last_known_ms
            row += len(block)
        return cls(start_ms, are_known, are_backwards, rise)

    @property
    def are_in_order(self) -> bool:
        """Whether all are known and none is before the one before it."""
        return self.are_known and not self.are_backwards


class StepClock:
    """Takes starts and times of steps in their order, block by block, and tells the time that passed."""

    def __init__(self) -> None:
        self.is_known = False
        """Whether any start is."""
        self.is_backwards = False
        self.added_ms = 0.0
        """The sum of the step times."""
        self.longest_pause_ms = 0.0
        self.after_pause = 0
        """The number of the step that the longest pause comes before."""
        self._first_ms = self._last_ms = self._last_known_ms = self._last_step_ms = self._end_ms = math.nan
        self._steps = 0

    def add(self, steps: StepArrays, step_ms: FloatArray) -> None:
        """The next steps; `step_ms` (S,) are the times that count."""
        self.added_ms += float(step_ms.sum())
        start_ms = steps.start_ms
        if start_ms is None:
            return
        if not self._steps:
            self._first_ms = float(start_ms[0])
        known = start_ms[~np.isnan(start_ms)]
        if len(known):
            self.is_known = True
            self.is_backwards |= bool((np.diff(known, prepend=self._last_known_ms) < 0).any())
            self._last_known_ms = float(known[-1])
            self._end_ms = float(np.fmax(self._end_ms, np.fmax.reduce(start_ms + step_ms)))
        took_ms = np.append(self._last_step_ms, step_ms[:-1])
        pauses_ms = np.nan_to_num(np.diff(start_ms, prepend=self._last_ms) - took_ms)
        longest = int(pauses_ms.argmax())
        if pauses_ms[longest] > self.longest_pause_ms:
            self.longest_pause_ms, self.after_pause = float(pauses_ms[longest]), int(steps.step[longest])
        self._last_ms, self._last_step_ms = float(start_ms[-1]), float(step_ms[-1])
        self._steps += len(steps)

    @property
    def tells_ends(self) -> bool:
        """Whether the starts of the first and of the last step are known."""
        return not (math.isnan(self._first_ms) or math.isnan(self._last_ms))

    @property
    def makespan_ms(self) -> float:
        """End of the last step - start of the first; NaN where the clock does not tell it.

        Without starts it is the sum of the step times, and never less: steps take place one after the other, also
        where a coarse clock lets some of them start at once.
        """
        if not self.is_known:
            return self.added_ms
        if self.is_backwards or not self.tells_ends:
            return math.nan
        passed_ms = self._end_ms - self._first_ms
        return self.added_ms if self.added_ms > passed_ms * SAME else passed_ms

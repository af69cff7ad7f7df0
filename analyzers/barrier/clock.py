"""What the starts of steps tell of the time that passed: clocks that run backwards, steps that overlap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lbal.analyzers.trace.trace import FloatArray, StepArrays

OVERLAP = 1.01
"""Steps whose times add up to more than this many times the time that passed overlap; less is rounding."""
PAUSE = 0.1
"""A gap of more than this share of the step before it parts two stretches, each with its own overlap."""
SAME = 1 + 1e-9
"""Times that differ by less are the same, added up in another order."""


def is_backwards(start_ms: FloatArray) -> bool:
    """Whether some step starts before one before it; unknown starts (NaN) tell nothing."""
    known = start_ms[~np.isnan(start_ms)]
    return bool((np.diff(known) < 0).any())


def in_order(start_ms: FloatArray | None) -> bool:
    """Whether all starts are known and none is before the one before it: moments can be told from steps."""
    return start_ms is not None and not np.isnan(start_ms).any() and not is_backwards(start_ms)


def makespan_ms(steps: StepArrays, step_ms: FloatArray) -> float:
    """End of the last step - start of the first; NaN where the clock does not tell it.

    Without starts it is the sum of the step times, and never less: steps take place one after the other, also where a
    coarse clock lets some of them start at once.
    """
    start_ms = steps.start_ms
    if start_ms is None or np.isnan(start_ms).all():
        return float(step_ms.sum())
    if is_backwards(start_ms) or np.isnan(start_ms[[0, -1]]).any():
        return float("nan")
    passed, added = float(np.nanmax(start_ms + step_ms) - start_ms[0]), float(step_ms.sum())
    return added if added > passed * SAME else passed


def without_overlap(steps: StepArrays) -> tuple[StepArrays, list[str]]:
    """The steps with the time that passed counted once, and a note where that changes them.

    Steps of a barrier follow one another. Where their recorded times overlap, as those of an engine that schedules
    ahead do, all times of a stretch of them are scaled to the time that passed in it: each step keeps its share, and so
    its share of idle. Starts that are unknown, equal or backwards tell of no overlap.
    """
    start_ms, step_ms = steps.start_ms, steps.step_ms
    if start_ms is None or step_ms is None or not (np.diff(start_ms) > 0).all() or np.isnan(step_ms).any():
        return steps, []
    end_ms = np.maximum.accumulate(start_ms + step_ms)
    stretch = np.concatenate([[0], np.cumsum(start_ms[1:] - end_ms[:-1] > PAUSE * step_ms[:-1])])
    first = np.concatenate([[0], np.flatnonzero(np.diff(stretch)) + 1])
    added = np.add.reduceat(step_ms, first)
    times = added / (np.maximum.reduceat(end_ms, first) - start_ms[first])
    times = np.where(times > OVERLAP, times, 1.0)
    counted = (added / times).sum()
    if added.sum() <= OVERLAP * counted:
        return steps, []
    by_step = times[stretch]
    note = (
        f"steps overlap: the times of {(by_step > 1).sum():,} of {len(steps):,} add up to "
        f"{added[times > 1].sum() / (added / times)[times > 1].sum():.3g} times the time that passed, and are scaled "
        "to it so that it counts once"
    )
    compute_ms, wait_ms = (
        None if values is None else values / by_step[:, None] for values in (steps.compute_ms, steps.wait_ms)
    )
    return replace(steps, step_ms=step_ms / by_step, compute_ms=compute_ms, wait_ms=wait_ms), [note]

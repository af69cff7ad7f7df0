"""Plain references for what the clock of steps tells, of all steps at once."""

from __future__ import annotations

import numpy as np


def plain_makespan_ms(start_ms, step_ms):
    """End of the last step - start of the first; NaN where that is not told."""
    if np.isnan(start_ms).all():
        return step_ms.sum()
    known = start_ms[~np.isnan(start_ms)]
    if (np.diff(known) < 0).any() or np.isnan(start_ms[[0, -1]]).any():
        return np.nan
    return max(np.nanmax(start_ms + step_ms) - start_ms[0], step_ms.sum())


def plain_pause(start_ms, step_ms):
    """The longest time between the end of a step and the start of the next, and that step's row; 0 where none is."""
    pauses = [
        (start_ms[row] - start_ms[row - 1] - step_ms[row - 1], row)
        for row in range(1, len(start_ms))
        if start_ms[row] - start_ms[row - 1] > step_ms[row - 1]
    ]
    return max(pauses, key=lambda pause: pause[0], default=(0.0, 0))


def plain_times_once(start_ms, step_ms, pause, most):
    """The step times with the time that passed counted once, stretch by stretch."""
    if np.isnan(start_ms).any() or (np.diff(start_ms) <= 0).any():
        return step_ms
    stretches, end = [], -np.inf
    for row, (start, took) in enumerate(zip(start_ms, step_ms, strict=True)):
        if not row or start - end > pause * step_ms[row - 1]:
            stretches.append([])
        stretches[-1].append(row)
        end = max(end, start + took)
    once = step_ms.copy()
    for rows in stretches:
        times = step_ms[rows].sum() / ((start_ms[: rows[-1] + 1] + step_ms[: rows[-1] + 1]).max() - start_ms[rows[0]])
        if times > most:
            once[rows] /= times
    return once if step_ms.sum() > most * once.sum() else step_ms

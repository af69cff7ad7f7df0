"""Notes on steps beside their figures: what they leave undefined, a model that contradicts them, waits in vain."""

from __future__ import annotations

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.clock import is_backwards, makespan_ms
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.calibration import predicted_step_ms
from lbal.analyzers.trace.trace import FloatArray, StepArrays
from lbal.analyzers.wording.numbers import shown_value

LONGEST_RATIO = 1.1
"""Modelled over measured step time from which the model is said to contradict the trace."""
LONG_PAUSE = 0.5
"""One pause of more than this share of the makespan is told."""


def contradicted_model(steps: StepArrays, model: StepTimeModel) -> list[str]:
    """A note where the model takes longer for most steps than they took, by more than a tenth."""
    if steps.step_ms is None:
        return []
    modelled = predicted_step_ms(steps, model)
    if not np.median(modelled / steps.step_ms) > LONGEST_RATIO:
        return []
    took = f"{np.median(modelled):.3g} ms for steps that took {np.median(steps.step_ms):.3g} ms (medians)"
    return [
        f"the step model takes {took}: "
        "its idle is not that of this system; name a model that fits with --step-model, or calibrate one"
    ]


def undefined_notes(accounts: BarrierAccounts) -> list[str]:
    """Which steps figures leave out because these steps do not define them."""
    notes, count = [], len(accounts)
    if bare := count - int(accounts.loaded.sum()):
        rest = "balance ratios are n/a" if bare == count else "balance ratios are over the others"
        notes.append(f"no rank holds load in {bare:,} of {count:,} steps: {rest}")
    if timeless := int((accounts.step_ms <= 0).sum()):
        notes.append(
            f"{timeless:,} of {count:,} steps take no time under the step model: percentiles of barrier idle are over "
            "the others"
        )
    return notes


def clock_notes(steps: StepArrays, step_ms: FloatArray) -> list[str]:
    """Why the makespan is n/a, or that most of it is one pause; `step_ms` (S,) are the times that count."""
    start_ms = steps.start_ms
    if start_ms is None or np.isnan(start_ms).all():
        return []
    if is_backwards(start_ms):
        return ["the makespan and waits in steps are n/a, as the clock of the steps runs backwards"]
    if np.isnan(start_ms[[0, -1]]).any():
        return ["the makespan is n/a, as the start of the first or of the last step is not known"]
    passed_s, pauses_s = makespan_ms(steps, step_ms) / 1e3, np.nan_to_num(np.diff(start_ms) - step_ms[:-1]) / 1e3
    if not (pauses_s > LONG_PAUSE * passed_s).any():
        return []
    longest = int(pauses_s.argmax())
    return [
        f"no step runs for {shown_value(pauses_s[longest], 's')} s of a makespan of {shown_value(passed_s, 's')} s, "
        f"before step {steps.step[longest + 1]}: the system had no work, or its clock jumps"
    ]

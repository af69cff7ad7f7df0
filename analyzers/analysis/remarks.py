"""Notes on steps beside their figures: what they leave undefined, a model that contradicts them, waits in vain."""

from __future__ import annotations

from lbal.analyzers.barrier.clock import StepClock
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.calibration import predicted_step_ms
from lbal.analyzers.statistics.long_series import LongSeries
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.wording.numbers import shown_value

LONGEST_RATIO = 1.1
"""Modelled over measured step time from which the model is said to contradict the trace."""
LONG_PAUSE = 0.5
"""One pause of more than this share of the makespan is told."""


def contradicted_model(steps: StepBlocks, model: StepTimeModel) -> list[str]:
    """A note where the model takes longer for most steps than they took, by more than a tenth."""
    took, modelled, ratio = LongSeries(), LongSeries(), LongSeries()
    for block in steps:
        if block.step_ms is None:
            return []
        predicted = predicted_step_ms(block, model)
        for series, values in ((took, block.step_ms), (modelled, predicted), (ratio, predicted / block.step_ms)):
            series.add(values)
    if not ratio.median() > LONGEST_RATIO:
        return []
    times = f"{modelled.median():.3g} ms for steps that took {took.median():.3g} ms (medians)"
    return [
        f"the step model takes {times}: "
        "its idle is not that of this system; name a model that fits with --step-model, or calibrate one"
    ]


def undefined_notes(accounts: AccountFold) -> list[str]:
    """Which steps figures leave out because these steps do not define them."""
    count, bare, workless = len(accounts), len(accounts) - accounts.totals.loaded_steps, accounts.workless
    ratios, percentiles = "balance ratios", "percentiles of barrier idle"
    if bare == workless:
        left_out = [(bare, "no rank holds load", f"{ratios} and {percentiles}")]
    else:
        left_out = [(bare, "no rank holds load", ratios), (workless, "no rank has rank time", percentiles)]
    return [
        f"{why} in {steps:,} of {count:,} steps: {figures} are {'n/a' if steps == count else 'over the others'}"
        for steps, why, figures in left_out
        if steps
    ]


def clock_notes(clock: StepClock) -> list[str]:
    """Why the makespan is n/a, or that most of it is one pause."""
    if not clock.is_known:
        return []
    if clock.is_backwards:
        return ["the makespan and waits in steps are n/a, as the clock of the steps runs backwards"]
    if not clock.tells_ends:
        return ["the makespan is n/a, as the start of the first or of the last step is not known"]
    passed_s, longest_s = clock.makespan_ms / 1e3, clock.longest_pause_ms / 1e3
    if not longest_s > LONG_PAUSE * passed_s:
        return []
    return [
        f"no step runs for {shown_value(longest_s, 's')} s of a makespan of {shown_value(passed_s, 's')} s, "
        f"before step {clock.after_pause}: the system had no work, or its clock jumps"
    ]

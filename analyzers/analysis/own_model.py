"""The step-time model of a recorded trace, for `analyze` and `replay` alike: fitted to its measured times.

Where the trace cannot tell a and b, those of the default model stand in, with the C that the recorded steps then have.
So step times are those of the trace in either case, and a replay of its placement idles as the analysis says.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lbal.analyzers.barrier.step_time import FITTED, StepTimeModel
from lbal.analyzers.calibration.calibration import calibrate, measured_steps, predicted_step_ms, step_errors
from lbal.analyzers.calibration.rank_times import explained
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.step_blocks import StepBlocks, blocks_of
from lbal.analyzers.trace.trace import StepArrays, Trace
from lbal.analyzers.wording.numbers import percent

OWN_C = "{} with the trace's C"
"""The name of a model whose C is that of the recorded steps."""


def has_measured_times(trace: Trace) -> bool:
    """Whether a trace was recorded with times of its single steps or of its ranks."""
    if not trace.num_steps or trace.meta.kind != "recorded" or trace.meta.resolution != "step":
        return False
    steps = blocks_of(trace)
    return any(
        not np.isnan(times).all() for block in steps for times in (block.step_ms, block.compute_ms) if times is not None
    )


def own_model(trace: Trace, default: StepTimeModel) -> tuple[StepTimeModel, list[str]]:
    """The model fitted to the measured times of a trace, or one that stands in for it; with notes that say which."""
    try:
        found = calibrate(trace, FITTED)
    except InputError as error:
        model, which = _stand_in(trace, default)
        reason = f"the step model could not be calibrated on the trace: {error.problem}"
        return model, [f"{reason}; {which}, --step-model names another"]
    notes = [f"step model {found.quality}", *found.warnings]
    if found.is_poor:
        steps = measured_steps(trace)[0]
        other = _with_own_c(steps, default)
        if (median := _median_error(steps, other)) < found.errors.median:
            return other, [
                *notes,
                f"{other.name} is taken instead: it misses half of the step times by less than {percent(median)}, "
                f"the calibrated one by less than {percent(found.errors.median)}",
            ]
    return found.model, notes


def _stand_in(trace: Trace, default: StepTimeModel) -> tuple[StepTimeModel, str]:
    """The fit of the rank times that `analyze` shows, if nearer to the steps, else the default; which it is."""
    try:
        steps = measured_steps(trace)[0]
    except InputError:
        return default, f"{default.name} is taken, so idle is not that of the trace"
    other = _with_own_c(steps, default)
    if steps.compute_ms is not None:
        fitted = explained(StepBlocks.of(steps), default).model
        if _median_error(steps, fitted) < _median_error(steps, other):
            return fitted, "the fit of its rank times is taken, whose coefficients are not sure"
    if steps.step_ms is None:
        return default, f"{default.name} is taken, so idle is not that of the trace"
    medians = [float(np.median(times)) for times in (predicted_step_ms(steps, default), steps.step_ms)]
    return other, (
        f"a and b of {default.name} are taken, so idle is not that of this system, and the C that the steps then have, "
        f"{other.shared_s * 1e3:.4g} ms: the model itself takes {medians[0]:.3g} ms for steps that took "
        f"{medians[1]:.3g} ms (medians)"
    )


def _with_own_c(steps: StepArrays, default: StepTimeModel) -> StepTimeModel:
    """The default with the C that half of the recorded steps exceed; itself where no step has a time."""
    if steps.step_ms is None:
        return default
    decoding = default.without_prefill()  # what prefill takes there is not known here: it is part of C
    rest_ms = predicted_step_ms(steps, decoding) - default.shared_s * 1e3
    shared_s = max(float(np.median(steps.step_ms - rest_ms)), 0.0) / 1e3
    bands = tuple(band for band in default.bands if band.coefficient != "C")
    return replace(default, name=OWN_C.format(default.name), shared_s=shared_s, bands=bands)


def _median_error(steps: StepArrays, model: StepTimeModel) -> float:
    """Relative error of a model in half of the measured step times; infinite where only rank times were measured."""
    if steps.step_ms is None:
        return np.inf
    return step_errors(steps.step_ms, predicted_step_ms(steps, model)).median

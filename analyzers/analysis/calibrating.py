"""`calibrate`: from a trace to a step-time model, with how far to trust it, in one call."""

from __future__ import annotations

from dataclasses import replace

from lbal.analyzers.calibration.calibration import calibrate as fit
from lbal.analyzers.models.power_models import checked_gpu
from lbal.analyzers.result.result import Result, input_record
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.energy import calibration_headline


def calibrate(trace: Trace, *, name: str = "", gpu: str = "", gpus_per_rank: int = 1) -> Result:
    """Fit the coefficients of a step-time model to the recorded steps of a trace.

    The model, called `name` or after the trace, is `config["step_model"]` of the result; `calibration` says how it
    was fitted. `gpu` is the name of the power model of its accelerators.
    """
    gpu = checked_gpu(gpu)
    found = fit(trace, name)
    record = found.as_dict()
    return Result(
        command="calibrate",
        inputs=[input_record(trace)],
        config={"step_model": replace(found.model, gpu=gpu, gpus_per_rank=gpus_per_rank).as_dict()},
        runs=[],
        headline=calibration_headline(record),
        notes=[*trace.meta.warnings, *found.warnings],
        calibration=record,
    )

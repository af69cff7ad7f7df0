"""Notes on recorded steps beside their figures: a model that contradicts them, requests that wait in vain."""

from __future__ import annotations

import numpy as np

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.calibration import predicted_step_ms
from lbal.analyzers.trace.trace import StepArrays
from lbal.analyzers.wording.numbers import percent

LONGEST_RATIO = 1.1
"""Modelled over measured step time from which the model is said to contradict the trace."""


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


def waiting_beside_free_slots(steps: StepArrays, max_num_seqs: int | None, kv_capacity: int | None) -> list[str]:
    """A note on the rank-steps in which a request waits on a rank with a free slot, and whether KV memory explains it.

    All slots taken, the steps would have served running requests / slot use as many tokens: that bounds what is lost.
    """
    if steps.num_waiting is None or max_num_seqs is None:
        return []
    known = ~np.isnan(steps.num_waiting) & ~np.isnan(steps.num_running)
    beside = known & (steps.num_waiting > 0) & (steps.num_running < max_num_seqs)
    if not beside.any():
        return []
    use = float(steps.num_running[known].mean()) / max_num_seqs
    lost = f"; with all slots taken throughput would be at most {percent(1 / use - 1)} higher" if use > 0 else ""
    why = "the trace does not tell whether KV memory is full there"
    if kv_capacity is not None:
        held = float(np.nanmean(steps.kv_tokens[beside])) / kv_capacity
        why = f"KV memory is {percent(held)} full there"
    return [
        f"in {beside.sum():,} of {known.sum():,} rank-steps a request waits beside a free slot ({why}); "
        f"{percent(use)} of the slots are taken on average{lost}"
    ]

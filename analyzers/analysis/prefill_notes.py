"""Notes on prefill beside the figures of steps: what of its time is in them, and what is not."""

from __future__ import annotations

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.step_time import StepTimeModel


def prefill_notes(sums: BarrierAccounts, model: StepTimeModel, *, measured: bool, lacks_pairs: bool) -> list[str]:
    """What steps with prefill do not tell, or the model; nothing where no rank prefills.

    `sums` are over all steps, `lacks_pairs` says that the pairs of some prefill are unknown.
    """
    if not sums.has_prefill:
        return []
    if not model.tells_prefill:
        if measured:
            return ["what prefill takes is not told by the step model: its idle is among what load does not explain"]
        return [
            f"ranks prefill, and {model.name} is not asked what that takes: modelled rank times and idle leave it out; "
            "a model with p that is named with --step-model counts it"
        ]
    if model.per_prefill_pair_s and lacks_pairs:
        return ["the attention of prefill is left out (e), as the trace does not tell its pairs (prefill_pairs)"]
    return []

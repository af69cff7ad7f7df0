"""How loaded a cluster would be under a workload, before anything is replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lbal.analyzers.steptime import StepTimeModel

TARGET_SLOT_USE = 0.8
LEAST_SLOT_USE, MOST_SLOT_USE = 0.3, 0.95


@dataclass(frozen=True)
class Sizing:
    """An estimate: the share of slots that a workload asks for, and the rate scale that asks for `target`."""

    slot_use: float
    rate_scale: float
    target: float = TARGET_SLOT_USE

    @property
    def fits(self) -> bool:
        """Whether the workload neither leaves the ranks mostly empty nor overloads them as it is."""
        return LEAST_SLOT_USE <= self.slot_use <= MOST_SLOT_USE


def rate_scale_for(
    figures: Mapping[str, Any], dp_size: int, max_num_seqs: int, model: StepTimeModel, target: float = TARGET_SLOT_USE
) -> Sizing:
    """The arrival-rate scale that keeps about `target` of the slots busy, by Little's law with evenly loaded ranks.

    A rank with n requests of mean resident length l = prompt + output/2 takes C + (a*l + b + b_mean)*n per step and
    emits n tokens in it. `figures` are those of `analyzers.demand.demand`. Requests that the steps serve at once are
    n = rate*output*t(n)/G; where that has no solution below the slots, the use is told as offered over largest rate.
    """
    length = figures["prompt_tokens_mean"] + figures["output_tokens_mean"] / 2
    per_request = float(model.per_token_s * length + model.per_request_s + model.per_mean_request_s)
    offered = figures["output_tokens_per_second"] / dp_size

    def rate(running: float) -> float:
        return running / (model.shared_s + per_request * running)

    if (
        offered * per_request < 1
        and (running := offered * model.shared_s / (1 - offered * per_request)) <= max_num_seqs
    ):
        slot_use = running / max_num_seqs
    else:
        slot_use = offered / rate(max_num_seqs)
    return Sizing(slot_use=slot_use, rate_scale=rate(target * max_num_seqs) / offered, target=target)

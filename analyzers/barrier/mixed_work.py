"""What ranks compute in steps beside their decodes: prefill and padding; and rank times that include it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lbal.analyzers.barrier.step_time import Coefficients, StepTimeModel, prefill_time
from lbal.analyzers.trace.trace import FloatArray, StepArrays


class MixedWork(NamedTuple):
    """Arrays of shape (S, G); times in ms, of ranks of speed 1."""

    prefill_tokens: FloatArray
    """0 where unknown."""
    prefill_ms: FloatArray
    """p*q + e*A; without e*A where the pairs are unknown."""
    padding_ms: FloatArray
    """b times the requests that the rank computes for beyond its own."""


def mixed_work(steps: StepArrays, coefficients_ms: Coefficients) -> MixedWork | None:
    """What steps whose running requests are known compute beside decodes; None where no rank prefills or is padded."""
    if steps.prefill_tokens is None and steps.padded_running is None:
        return None
    padding = np.zeros_like(steps.num_running)
    if steps.padded_running is not None:
        padding = np.maximum(np.nan_to_num(steps.padded_running) - steps.num_running, 0.0)
    tokens = np.zeros_like(padding) if steps.prefill_tokens is None else np.nan_to_num(steps.prefill_tokens)
    if not tokens.any() and not padding.any():
        return None
    pairs = np.zeros_like(tokens) if steps.prefill_pairs is None else np.nan_to_num(steps.prefill_pairs)
    return MixedWork(tokens, prefill_time(tokens, pairs, coefficients_ms), coefficients_ms.per_request * padding)


def lacks_pairs(steps: StepArrays) -> bool:
    """Whether some rank prefills in some step and the pairs of its attention are unknown."""
    if steps.prefill_tokens is None:
        return False
    prefills = np.nan_to_num(steps.prefill_tokens) > 0
    return bool(prefills.any() if steps.prefill_pairs is None else np.isnan(steps.prefill_pairs[prefills]).any())


def rank_times_ms(steps: StepArrays, model: StepTimeModel) -> FloatArray:
    """(S, G) what the model says that each rank's own work takes, prefill and padding included, in ms."""
    decode_ms = model.rank_time_ms(steps.kv_tokens, steps.num_running)
    beside = mixed_work(steps, model.coefficients_ms)
    if beside is None:
        return decode_ms
    return np.asarray(decode_ms + model.slowness(steps.dp_size) * (beside.prefill_ms + beside.padding_ms))


def common_times_ms(steps: StepArrays, model: StepTimeModel) -> FloatArray:
    """(S,) what the ranks spend alike in each step: C + b_mean*mean(n), and C_x where any prefills; in ms."""
    common = model.common_ms(steps.num_running)
    if steps.prefill_tokens is None or not model.graph_loss_s:
        return common
    prefills = (np.nan_to_num(steps.prefill_tokens) > 0).any(axis=1)
    return np.asarray(common + model.coefficients_ms.graph_loss * prefills)

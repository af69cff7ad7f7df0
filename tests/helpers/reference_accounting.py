"""Barrier accounting in plain NumPy, array by array as the formulas read: what the compiled pass must equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from lbal.analyzers.barrier.account_pass import PowerCurves
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.trace.trace import StepArrays

NO_CURVES = PowerCurves()


def plain_account(
    steps: StepArrays, model: StepTimeModel, measured: bool, curves: PowerCurves = NO_CURVES
) -> dict[str, Any]:
    """The fields of `BarrierAccounts` by name."""
    tokens, running = steps.kv_tokens, steps.num_running
    prefill, pairs, padding = plain_beside(steps)
    prefill_ms = 1e3 * (model.per_prefill_token_s * prefill + model.per_prefill_pair_s * pairs)
    padding_ms = 1e3 * model.per_request_s * padding
    slowness = model.slowness(steps.dp_size)
    modelled = slowness * (plain_decode(steps, model) + padding_ms + prefill_ms)
    rank_ms = steps.compute_ms if measured else modelled
    slowest = rank_ms.max(axis=1)
    idle = slowest[:, None] - rank_ms
    step_ms = steps.step_ms
    if step_ms is None:
        step_ms = model.common_ms(running) + slowest
        step_ms = step_ms + 1e3 * model.graph_loss_s * (prefill > 0).any(axis=1)
    works = (running > 0) | (prefill > 0)
    causes = plain_causes(steps, works, prefill_ms, padding_ms, modelled, idle, model)
    share = running / (running + curves.n_half) if curves.n_half else np.zeros_like(running)
    largest = tokens.max(axis=1, keepdims=True)
    load_share = np.divide(tokens, largest, out=np.zeros_like(tokens), where=largest > 0)
    straggler = rank_ms.argmax(axis=1)
    is_slowest = rank_ms == slowest[:, None]
    return {
        "step": steps.step,
        "step_ms": step_ms,
        "idle_ms": idle.sum(axis=1),
        "slowest_ms": slowest,
        "max_kv_tokens": tokens.max(axis=1),
        "min_kv_tokens": tokens.min(axis=1),
        "total_kv_tokens": tokens.sum(axis=1),
        "running": running.sum(axis=1),
        "max_running": running.max(axis=1),
        "min_running": running.min(axis=1),
        "straggler": straggler,
        "straggler_kv_tokens": tokens[np.arange(len(straggler)), straggler],
        "power_curve": share.sum(axis=1),
        "power_curve_idle_ms": (share * idle).sum(axis=1),
        "power_curve_prefill_ms": (share * slowness * prefill_ms).sum(axis=1),
        "load_curve": (load_share**curves.gamma).sum(axis=1) * (largest[:, 0] > 0) if curves.gamma else 0 * slowest,
        "prefill_tokens": prefill.sum(axis=1),
        "prefill_ms": (slowness * prefill_ms).sum(axis=1),
        "padding_ms": (slowness * padding_ms).sum(axis=1),
        "causes_ms": causes.sum(axis=1),
        "rank_idle_ms": idle.sum(axis=0),
        "rank_straggler": (is_slowest / is_slowest.sum(axis=1, keepdims=True)).sum(axis=0),
        "rank_empty": (~works).sum(axis=0),
        "rank_kv_tokens": tokens.sum(axis=0),
        "rank_running": running.sum(axis=0),
        "rank_prefill_tokens": prefill.sum(axis=0),
        "rank_prefill_ms": (slowness * prefill_ms).sum(axis=0),
        "rank_padding_ms": (slowness * padding_ms).sum(axis=0),
        "rank_causes_ms": causes.sum(axis=0),
        "over_step": (slowest > step_ms * (1 + 1e-9)).sum(),
    }


def plain_beside(steps: StepArrays):
    """(S, G) prefill tokens, pairs and padding; 0 where unknown."""
    known = [steps.prefill_tokens, steps.prefill_pairs, steps.padded_running]
    zero = np.zeros_like(steps.num_running)
    tokens, pairs, padded = (zero if each is None else np.where(np.isnan(each), 0.0, each) for each in known)
    return tokens, pairs, np.maximum(padded - steps.num_running, 0.0)


def plain_decode(steps: StepArrays, model: StepTimeModel):
    """(S, G) what the decodes of each rank take at speed 1, in ms."""
    return 1e3 * (model.per_token_s * steps.kv_tokens + model.per_request_s * steps.num_running)


def plain_causes(steps: StepArrays, works, prefill_ms, padding_ms, modelled, idle, model: StepTimeModel):
    """(S, G, 6) idle by cause.

    Prefill is told by its definition: the idle there is, less the idle if all ranks had the mean prefill of the step.
    """
    tokens, running = steps.kv_tokens, steps.num_running
    total = running.sum(axis=1)
    mean_length = np.divide(tokens.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    by_count = (model.per_token_s * mean_length + model.per_request_s)[:, None] * 1e3 * running + padding_ms
    count = np.where(works, by_count.max(axis=1, keepdims=True) - by_count, 0.0)
    decode = plain_decode(steps, model) + padding_ms
    plain_idle = waits(decode + prefill_ms)
    even_idle = waits(decode + prefill_ms.mean(axis=1, keepdims=True))
    empty = np.where(works, 0.0, even_idle)
    length = np.where(works, even_idle - count, 0.0)
    modelled_idle = waits(modelled)
    prefill = plain_idle - even_idle
    return np.stack([empty, count, length, prefill, modelled_idle - plain_idle, idle - modelled_idle], axis=2)


def waits(rank_ms):
    """(S, G) what each rank waits for the slowest of its step."""
    return rank_ms.max(axis=1, keepdims=True) - rank_ms

"""Barrier accounting in plain NumPy, array by array as the formulas read: what the compiled pass must equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import PowerCurves
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.trace.trace import StepArrays

NO_CURVES = PowerCurves()


def plain_account(
    steps: StepArrays, model: StepTimeModel, measured: bool, curves: PowerCurves = NO_CURVES
) -> dict[str, Any]:
    """The fields of `BarrierAccounts` by name."""
    tokens, running = steps.kv_tokens, steps.num_running
    modelled = model.rank_time_ms(tokens, running)
    rank_ms = steps.compute_ms if measured else modelled
    slowest = rank_ms.max(axis=1)
    idle = slowest[:, None] - rank_ms
    step_ms = steps.step_ms if steps.step_ms is not None else model.common_ms(running) + slowest
    causes = plain_causes(tokens, running, modelled, idle, model)
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
        "load_curve": (load_share**curves.gamma).sum(axis=1) * (largest[:, 0] > 0) if curves.gamma else 0 * slowest,
        "causes_ms": causes.sum(axis=1),
        "rank_idle_ms": idle.sum(axis=0),
        "rank_straggler": (is_slowest / is_slowest.sum(axis=1, keepdims=True)).sum(axis=0),
        "rank_empty": (running == 0).sum(axis=0),
        "rank_kv_tokens": tokens.sum(axis=0),
        "rank_running": running.sum(axis=0),
        "rank_causes_ms": causes.sum(axis=0),
        "over_step": (slowest > step_ms * (1 + 1e-9)).sum(),
    }


def plain_causes(tokens, running, modelled, idle, model: StepTimeModel):
    """(S, G, 5) idle by cause."""
    has_work = running > 0
    total = running.sum(axis=1)
    mean_length = np.divide(tokens.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    by_count = (model.per_token_s * mean_length + model.per_request_s)[:, None] * 1e3 * running
    count = np.where(has_work, by_count.max(axis=1, keepdims=True) - by_count, 0.0)
    modelled_idle = modelled.max(axis=1, keepdims=True) - modelled
    plain = 1e3 * (model.per_token_s * tokens + model.per_request_s * running)
    plain_idle = plain.max(axis=1, keepdims=True) - plain
    empty = np.where(has_work, 0.0, plain_idle)
    length = np.where(has_work, plain_idle - count, 0.0)
    return np.stack([empty, count, length, modelled_idle - plain_idle, idle - modelled_idle], axis=2)

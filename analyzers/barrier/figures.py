"""From accounts to the figures of a run: metrics, ranks, attribution and the worst steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import CAUSES, BarrierAccounts
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.requests.latency import distribution

STEP_SHARES = ("p50", "p90", "p99")


def barrier_metrics(
    accounts: BarrierAccounts, model: StepTimeModel, max_num_seqs: int | None, makespan_ms: float
) -> dict[str, float]:
    """The figures of the accounted steps, by metric name. Formulas: `analyzers/metrics.py`."""
    time_ms, idle_ms = accounts.step_ms.sum(), accounts.idle_ms.sum()
    ratio = accounts.balance_ratio
    balanced_ms = accounts.balanced_ms.sum()
    straggler_tokens = accounts.straggler_kv_tokens
    if model.rank_speeds:
        straggler_tokens = straggler_tokens * model.slowness(accounts.dp_size)[accounts.straggler]
    figures = {
        "barrier_idle_fraction": idle_ms / (accounts.dp_size * time_ms),
        **distribution("barrier_idle_fraction", accounts.idle_fraction, STEP_SHARES),
        "barrier_idle_rank_seconds": idle_ms / 1e3,
        "imbalance_tokens_mean": accounts.imbalance_tokens.mean(),
        "balance_ratio_mean": ratio.mean(),
        "imbalance_ratio_mean": (1 / ratio).mean(),
        "tokens_per_second": accounts.running.sum() / time_ms * 1e3,
        "makespan_s": makespan_ms / 1e3,
        "steps": float(len(accounts)),
        "perfect_balance_speedup": time_ms / balanced_ms if balanced_ms > 0 else np.inf,
        "perfect_balance_throughput_fraction": balanced_ms / time_ms,
        "kv_time_fraction": model.per_token_s * 1e3 * straggler_tokens.sum() / time_ms,
    }
    if max_num_seqs is not None:
        figures["slot_use"] = accounts.running.mean() / (accounts.dp_size * max_num_seqs)
    return {name: float(value) for name, value in figures.items()}


def rank_table(accounts: BarrierAccounts) -> list[dict[str, Any]]:
    """One record per rank: shares of the run's rank-time and steps, mean loads, idle by cause."""
    time_ms, steps = accounts.step_ms.sum(), len(accounts)
    return [
        {
            "rank": rank,
            "idle_fraction": float(accounts.rank_idle_ms[rank] / time_ms),
            "straggler_fraction": float(accounts.rank_straggler[rank] / steps),
            "empty_fraction": float(accounts.rank_empty[rank] / steps),
            "kv_tokens_mean": float(accounts.rank_kv_tokens[rank] / steps),
            "num_running_mean": float(accounts.rank_running[rank] / steps),
            "idle_by_cause": {
                cause: float(accounts.rank_causes_ms[rank, index] / time_ms) for index, cause in enumerate(CAUSES)
            },
        }
        for rank in range(accounts.dp_size)
    ]


def attribution(accounts: BarrierAccounts) -> Mapping[str, float]:
    """Idle by cause as shares of the run's rank-time; they add up to `barrier_idle_fraction`."""
    rank_time_ms = accounts.dp_size * accounts.step_ms.sum()
    totals = accounts.rank_causes_ms.sum(axis=0)
    return {cause: float(totals[index] / rank_time_ms) for index, cause in enumerate(CAUSES)}


def worst_steps(accounts: BarrierAccounts, count: int = 5) -> list[dict[str, Any]]:
    """The steps with the most barrier idle (in ms, over all ranks), worst first; the earlier of equals."""
    order = np.argsort(-accounts.idle_ms, kind="stable")[:count]
    fraction, mean_kv = accounts.idle_fraction, accounts.total_kv_tokens / accounts.dp_size
    return [
        {
            "step": int(accounts.step[row]),
            "step_ms": float(accounts.step_ms[row]),
            "idle_fraction": float(fraction[row]),
            "straggler": int(accounts.straggler[row]),
            "kv_tokens_straggler": float(accounts.straggler_kv_tokens[row]),
            "kv_tokens_mean": float(mean_kv[row]),
            "num_running": int(accounts.running[row]),
        }
        for row in order
    ]

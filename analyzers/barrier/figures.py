"""From accounts to the tables of a run: ranks, attribution and the worst steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.folded import WORST_STEPS, AccountFold


def rank_table(fold: AccountFold) -> list[dict[str, Any]]:
    """One record per rank: shares of the run's rank-time and steps, mean loads, idle by cause."""
    accounts, time_ms, steps = fold.sums, fold.totals.time_ms, len(fold)
    return [
        {
            "rank": rank,
            "idle_fraction": float(accounts.rank_idle_ms[rank] / time_ms),
            "straggler_fraction": float(accounts.rank_straggler[rank] / steps),
            "empty_fraction": float(accounts.rank_empty[rank] / steps),
            "kv_tokens_mean": float(accounts.rank_kv_tokens[rank] / steps),
            "num_running_mean": float(accounts.rank_running[rank] / steps),
            "idle_by_cause": {
                cause: float(accounts.rank_causes_ms[rank, index] / time_ms) for cause, index in accounts.causes.items()
            },
        }
        for rank in range(accounts.dp_size)
    ]


def attribution(fold: AccountFold) -> Mapping[str, float]:
    """Idle by cause as shares of the run's rank-time; they add up to `barrier_idle_fraction`."""
    rank_time_ms = fold.totals.rank_ms
    totals = fold.sums.rank_causes_ms.sum(axis=0)
    return {cause: float(totals[index] / rank_time_ms) for cause, index in fold.sums.causes.items()}


def worst_steps(accounts: BarrierAccounts, count: int = WORST_STEPS) -> list[dict[str, Any]]:
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

"""Sums over stretches of a run's steps: small enough for a result, and enough to say how sure a difference is.

A run of S steps is cut into min(S, 128) bins of consecutive steps whose numbers differ by at most one: bin i holds the
steps from floor(i*S/bins) up to floor((i+1)*S/bins). Nothing is left out, so sums over the bins are sums over the run,
and every metric that is a ratio of such sums follows from them (`Metric.ratio`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lbal.analyzers.barrier.folded import AccountFold, bin_edges
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.trace.trace import FloatArray, IntArray

DIGITS = 9
"""Significant digits of the sums: far more than a difference needs, and half of the bytes."""
COLUMNS = (
    "steps",
    "time_ms",
    "idle_ms",
    "balanced_ms",
    "tokens",
    "imbalance_tokens",
    "loaded_steps",
    "balance_ratio",
    "imbalance_ratio",
)
"""Fields of `RunTotals`."""
RULE = "sums over bins of consecutive steps; bin i of n holds the steps floor(i*S/n) to floor((i+1)*S/n) - 1 of S"


def step_series(
    fold: AccountFold, view: EnergyView | None, output_tokens: FloatArray | IntArray | None = None
) -> dict[str, Any]:
    """The binned sums of a run, for its result; columns of shape (bins,).

    `output_tokens` of its requests tell how long the load remembers: a request that is active in some step stays for
    E[o^2]/E[o] steps in all (`memory_steps`).
    """
    sums = {name: [float(getattr(part, name)) for part in fold.bins] for name in COLUMNS}
    if view is not None:
        energies = [view.power.energy(part, view.gpus_per_rank) for part in fold.bins]
        sums["energy_joules"] = [each.joules for each in energies]
        if view.power.waits_apart:
            sums["wait_joules"] = [each.wait_joules for each in energies]
    rounded = {name: [float(f"{value:.{DIGITS}g}") for value in values] for name, values in sums.items()}
    series = {"of": "steps", "rule": RULE, "dp_size": fold.totals.dp_size, "columns": rounded}
    if output_tokens is not None and output_tokens.sum() > 0:
        stays = np.asarray(output_tokens, np.float64)
        series["memory_steps"] = float(f"{(stays**2).sum() / stays.sum():.{DIGITS}g}")
    return series


def memory_steps(series: Mapping[str, Any]) -> float:
    """For how many steps the load of a run remembers, by its requests; 1 where they are not known."""
    return max(float(series.get("memory_steps", 1.0)), 1.0)


def columns_of(series: Mapping[str, Any]) -> dict[str, FloatArray]:
    """The columns of a run's series as arrays; empty where the run has none.

    Results of earlier versions do not tell steps with load apart: there all count.
    """
    columns = {name: np.asarray(values, np.float64) for name, values in series.get("columns", {}).items()}
    if "steps" in columns:
        columns.setdefault("loaded_steps", columns["steps"])
    return columns


def rebinned(columns: Mapping[str, FloatArray], bins: int) -> dict[str, FloatArray]:
    """The same sums over fewer bins, cut by the same rule."""
    if not columns or len(next(iter(columns.values()))) == bins:
        return dict(columns)
    edges = bin_edges(len(next(iter(columns.values()))), bins)
    return {name: np.add.reduceat(values, edges[:-1]) for name, values in columns.items()}

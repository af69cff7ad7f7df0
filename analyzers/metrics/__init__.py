"""The table of metrics: one record for each, with its unit, formula, basis, interval, and where reports show it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics.energy import ENERGY
from lbal.analyzers.metrics.headroom import HEADROOM
from lbal.analyzers.metrics.latency import LATENCY
from lbal.analyzers.metrics.metric import SMALLEST_SHARE, Bases, Basis, Better, Group, Measure, Metric, Place
from lbal.analyzers.metrics.prefill import PREFILL
from lbal.analyzers.metrics.spread import SHARES as SPREAD_SHARES
from lbal.analyzers.metrics.spread import SPREAD, SPREAD_ROWS
from lbal.analyzers.metrics.steps import BALANCE, USE

__all__ = [
    "METRICS",
    "SMALLEST_SHARE",
    "SPREAD_ROWS",
    "SPREAD_SHARES",
    "Bases",
    "Basis",
    "Better",
    "Group",
    "Measure",
    "Metric",
    "Place",
    "add_ranges",
    "banded_figures",
    "measure",
    "names_in",
    "step_figures",
    "undefined_figures",
]

METRICS: dict[str, Metric] = {
    metric.name: metric for group in (BALANCE, SPREAD, PREFILL, LATENCY, USE, ENERGY, HEADROOM) for metric in group
}
"""By name, in the order of tables that show all of them."""


def measure(name: str, value: float, basis: Basis, low: float | None = None, high: float | None = None) -> Measure:
    """A value of a metric of the table, with its range where that is known."""
    return Measure(float(value), METRICS[name].unit, basis, low, high)


def names_in(place: Place) -> tuple[str, ...]:
    """The metrics that a place shows, in its order."""
    chosen = [name for name, metric in METRICS.items() if place in metric.shown]
    return tuple(sorted(chosen, key=lambda name: METRICS[name].shown[place]))


def step_figures(steps: WindowSteps) -> dict[str, float]:
    """The metrics of the accounted steps of a window, by name; those of a rank's size last, if it is known.

    What these steps leave undefined (NaN) is not among them.
    """
    values = {metric.name: float(metric.of_steps(steps)) for metric in _of_steps(steps) if metric.of_steps}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def undefined_figures(steps: WindowSteps, known: Mapping[str, Any]) -> dict[str, str]:
    """Why figures of these steps are not among the `known` ones, by name, where their records say it."""
    return {
        metric.name: metric.undefined for metric in _of_steps(steps) if metric.undefined and metric.name not in known
    }


def _of_steps(steps: WindowSteps) -> Iterator[Metric]:
    known = [metric for metric in METRICS.values() if _is_known(metric, steps)]
    yield from (metric for metric in known if metric.needs_size is None)
    yield from (metric for metric in known if metric.needs_size and getattr(steps, metric.needs_size) is not None)


def _is_known(metric: Metric, steps: WindowSteps) -> bool:
    return steps.lacks not in metric.needs_loads and metric.only_without in (None, steps.lacks)


def banded_figures(totals: RunTotals, per_token_s: float) -> dict[str, float]:
    """The metrics that follow from the sums of a run under one variant of its step-time model, by name."""
    return {
        metric.name: metric.of_totals(totals, per_token_s)
        for metric in METRICS.values()
        if metric.of_totals is not None
    }


def add_ranges(metrics: Mapping[str, Measure], ranges: Mapping[str, tuple[float, float]]) -> dict[str, Measure]:
    """The measures with their ranges over the bands; none where the value was measured or no band changes it."""
    found = dict(metrics)
    for name, (low, high) in ranges.items():
        if name in found and low < high and found[name].basis == "modelled":
            value = found[name].value
            found[name] = replace(found[name], low=min(low, value), high=max(high, value))
    return found

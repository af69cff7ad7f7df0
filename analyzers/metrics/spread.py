"""The metrics of how far apart the ranks are in a step: in KV tokens, and in running requests.

These are the figures that people already know from their engine: max/mean and max/min from SGLang, max - min from
vllm-ascend's DyntraLB. Each is a percentile over the steps in which some rank holds load: the smallest value that this
share of the steps does not exceed, so that it is always the value of some step.
"""

from __future__ import annotations

import math

from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.barrier.spread import Kind
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics.metric import Metric

SHARES = (50, 90, 95)
"""Percentiles of each figure."""


def spread(steps: WindowSteps, load: Load, kind: Kind, share: int) -> float:
    """The percentile of a figure over the steps with load; NaN where it is not defined in such a step."""
    value = steps.fold.spread.percentile(load, kind, share)
    return value if math.isfinite(value) else math.nan


_LOADS: dict[Load, tuple[str, str, str, str]] = {
    "kv_tokens": ("kv_tokens", "KV tokens", "KV tokens", "L"),
    "num_running": ("running", "requests", "requests", "n"),
}
"""Of each load: how names of metrics begin, words, unit, and sign in formulas."""
_KINDS: dict[Kind, tuple[str, str]] = {
    "max_over_mean": ("max / mean", "max({0})/mean({0})"),
    "max_over_min": ("max / min", "max({0})/min({0})"),
    "max_minus_min": ("max - min", "max({0}) - min({0})"),
}
"""Of each figure: words and formula."""


def _metric(load: Load, kind: Kind, share: int) -> Metric:
    name, words, unit, sign = _LOADS[load]
    label, formula = _KINDS[kind]
    return Metric(
        f"{name}_{kind}_p{share}",
        unit if kind == "max_minus_min" else "ratio",
        "lower",
        f"{words}, {label}, p{share}",
        f"p{share} over steps with load of {formula.format(sign)}",
        needs_loads=(load,),
        rests_on=("loads",),
        of_steps=lambda steps: spread(steps, load, kind, share),
        undefined="some rank has none" if kind == "max_over_min" else "no rank holds load",
        group="spread",
    )


SPREAD = [_metric(load, kind, share) for load in _LOADS for kind in _KINDS for share in SHARES]
SPREAD_ROWS = [
    (f"{words}, {_KINDS[kind][0]}", [f"{name}_{kind}_p{share}" for share in SHARES])
    for name, words, *_rest in _LOADS.values()
    for kind in _KINDS
]
"""The rows of the table that shows them: a label, and the names of the metrics in it, one for each of `SHARES`."""

"""What a run of a trace with unknown loads, unseen ranks or samples cannot tell: left out, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lbal.analyzers.barrier.known_part import LOAD_WORDS, KnownPart, Load
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.result.result import Run
from lbal.analyzers.trace.trace import Resolution

SAMPLES = "the trace has samples, not every step"
OTHER: Mapping[Load, Load] = {"kv_tokens": "num_running", "num_running": "kv_tokens"}
CAUSES_TOLD: Mapping[Load, tuple[str, ...]] = {
    "kv_tokens": ("empty", "count", "speed", "unexplained"),
    "num_running": (),
}
"""Causes of idle that can be told without a load: without KV tokens, what the lengths cause is not known."""
COLUMNS_OF: Mapping[Load, tuple[str, ...]] = {
    "kv_tokens": ("imbalance_tokens", "balance_ratio", "imbalance_ratio"),
    "num_running": ("tokens", "energy_joules", "wait_joules"),
}


def unavailable_metrics(lacks: Load | None, resolution: Resolution) -> dict[str, str]:
    """The metrics that a trace cannot give, and why."""
    reasons = {}
    for name, metric in METRICS.items():
        if lacks in metric.needs_loads:
            reasons[name] = f"the trace has no {LOAD_WORDS[lacks]}"
        elif resolution != "step" and metric.needs_every_step:
            reasons[name] = SAMPLES
    return reasons


def without_unknown(run: Run, known: KnownPart, resolution: Resolution) -> Run:
    """The run without what is not known, under the numbers that the trace gives its ranks.

    `unavailable` in its details maps what is left out to the reason. Charts name ranks by position and draw KV tokens,
    so there are none of a part of the ranks or without tokens. A run of a trace that knows all is unchanged.
    """
    unavailable = {
        name: reason
        for name, reason in unavailable_metrics(known.lacks, resolution).items()
        if name in run.metrics or METRICS[name].of_steps
    }
    if known.is_whole and not unavailable:
        return run
    unavailable = {**run.details.get("unavailable", {}), **unavailable}
    details: dict[str, Any] = {**run.details, "unavailable": unavailable}
    idle_is = []
    if known.lacks is not None:
        idle_is.append(f"of {LOAD_WORDS[OTHER[known.lacks]]} only")
    if resolution != "step":
        idle_is.append("from samples")
    if len(known.ranks) < known.dp_size:
        details["ranks_seen"] = list(known.ranks)
        idle_is.append(f"a lower bound, of {len(known.ranks)} of {known.dp_size} ranks")
    details["idle_is"] = idle_is
    run = replace(
        run,
        details=details,
        metrics={name: value for name, value in run.metrics.items() if name not in unavailable},
        ranks=known.ranks_told(run.ranks),
        worst_steps=known.steps_told(run.worst_steps) if resolution == "step" else (),
        drawn=run.drawn if known.is_whole else None,
        timeline=run.timeline if known.is_whole and resolution == "step" else None,
    )
    if resolution != "step":
        unavailable["worst_steps"] = SAMPLES
    return run if known.lacks is None else _without_load(run, known.lacks)


def _without_load(run: Run, lacks: Load) -> Run:
    reason = f"the trace has no {LOAD_WORDS[lacks]}"
    told = CAUSES_TOLD[lacks]
    left_out = [cause for cause in run.attribution if cause not in told]
    gone = {f"attribution.{cause}": reason for cause in left_out} | dict.fromkeys(run.headroom, reason)
    series = dict(run.series)
    if "columns" in series:
        columns = series["columns"].items()
        series["columns"] = {name: sums for name, sums in columns if name not in COLUMNS_OF[lacks]}
    return replace(
        run,
        details={**run.details, "unavailable": {**run.details["unavailable"], **gone}},
        attribution={cause: share for cause, share in run.attribution.items() if cause in told},
        headroom={},
        series=series,
    )

"""Findings in plain words: the headline of a result, and notes that name the switch that changes what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.metrics import METRICS
from lbal.analyzers.result import Run
from lbal.cli.numbers import count, percent
from lbal.cli.reports.table import CAUSES_IN_WORDS

EMPTY_SLOT_USE = 0.25
TARGET_SLOT_USE = 0.8
NOTABLE_STRAGGLER = 1.5
"""A rank that is the straggler this many times its equal share of steps is worth naming."""
CROWDED_WAIT_SHARE = 0.2
"""A queue that still holds requests this share of the run after the last arrival marks an overload."""


def replay_headline(runs: Sequence[Run]) -> str:
    """Who wastes least, who most, in one sentence."""
    idle = {run.label: run.metrics["barrier_idle_fraction"].value for run in runs}
    best, worst = min(idle, key=idle.__getitem__), max(idle, key=idle.__getitem__)
    if len(runs) == 1:
        return f"{best} loses {percent(idle[best])} of rank-time to barrier idle (modelled)."
    rates = {run.label: run.metrics["tokens_per_second"].value for run in runs}
    if idle[worst] == idle[best]:
        return f"All {len(runs)} policies lose {percent(idle[best])} of rank-time to barrier idle (modelled)."
    gain = rates[best] / rates[worst] - 1
    return (
        f"{best} loses least of {len(runs)} policies: "
        f"{percent(idle[best])} of rank-time is barrier idle, {worst} {percent(idle[worst])}; "
        f"throughput {gain:+.1%} against it (modelled)."
    )


def analysis_headline(run: Run) -> str:
    """How much is idle, the main cause, the main straggler, in one sentence."""
    idle = run.metrics["barrier_idle_fraction"]
    text = f"{percent(idle.value)} of rank-time is barrier idle ({idle.basis})"
    if idle.value <= 0:
        return text + "."
    cause = max(run.attribution, key=lambda name: run.attribution[name])
    share = run.attribution[cause]
    part = "most of it" if share > idle.value / 2 else "the largest part"
    return f"{text}, {part} because of {_cause_noun(cause)} ({percent(share)}); {_straggler_clause(run.ranks)}."


def _straggler_clause(ranks: Sequence[Mapping[str, Any]]) -> str:
    first = max(ranks, key=lambda rank: float(rank["straggler_fraction"]))
    share = first["straggler_fraction"]
    if share * len(ranks) < NOTABLE_STRAGGLER:
        return f"no rank stands out as the straggler (rank {first['rank']} leads with {percent(share)} of steps)"
    return f"rank {first['rank']} is the straggler in {percent(share)} of steps"


def _cause_noun(cause: str) -> str:
    return {
        "empty": "ranks without work",
        "count": "uneven numbers of requests",
        "length": "uneven lengths of requests",
        "unexplained": "something that load does not explain",
    }.get(cause, CAUSES_IN_WORDS[cause])


def demand_headline(figures: Mapping[str, Any]) -> str:
    """What the trace asks for, in one sentence."""
    tokens = (
        f"{figures['prompt_tokens_mean']:,.0f} prompt and {figures['output_tokens_mean']:,.0f} output tokens on average"
    )
    if "arrivals_per_second" not in figures:
        return f"{count(figures['requests'], 'request')} without arrival times, {tokens}; it has no steps to analyse."
    return (
        f"{count(figures['requests'], 'request')} at {figures['arrivals_per_second']:.3g} per second, {tokens}; "
        "it has no steps to analyse."
    )


def load_notes(runs: Sequence[Run], config: Mapping[str, Any], arrivals_ms: float | None) -> list[str]:
    """Whether the ranks are mostly empty or hopelessly overloaded, and the switch for it.

    `arrivals_ms` is the time from the first arrival to the last; None for a backlog.
    """
    first = runs[0]
    use = first.metrics["slot_use"].value
    if arrivals_ms is None:
        if use < EMPTY_SLOT_USE:
            return [
                f"the ranks are mostly empty: {percent(use)} of the slots are taken on average, since the backlog is "
                "soon served and the rest is drain; --window admissions leaves the drain out"
            ]
        return []
    scale = config["rate_scale"]
    if use < EMPTY_SLOT_USE:
        better = scale * TARGET_SLOT_USE / use
        return [
            f"the ranks are mostly empty: {percent(use)} of the slots are taken on average ({first.label}), so balance "
            f"hardly matters; try --rate-scale {better:.2g} for a loaded system, or --arrivals backlog"
        ]
    overrun = first.metrics["makespan_s"].value * 1e3 / arrivals_ms - 1 if arrivals_ms > 0 else float("inf")
    if overrun > CROWDED_WAIT_SHARE and use > 1 - EMPTY_SLOT_USE:
        return [
            f"the ranks are overloaded: requests queue up, and the last is served {percent(overrun)} of the trace's "
            f"duration after it ends ({first.label}), so waits measure the length of the trace; try "
            f"--rate-scale {scale / (1 + overrun):.2g}, more --dp-size or --max-num-seqs, or --arrivals backlog to "
            "study saturation"
        ]
    return []


def window_note(config: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    """Which metrics are over requests rather than steps, where the window leaves some out."""
    if config["window"] == "all":
        return []
    completed = METRICS["requests_completed"].label
    return (
        [f"window {config['window']}: latency, waits and {completed} are of the requests admitted in it"]
        if runs
        else []
    )

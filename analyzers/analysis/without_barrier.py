"""A trace of ranks that do not wait for one another: how evenly load falls on them, and nothing of idle.

Plain data parallelism runs copies of the server, and vLLM's dense models step on their own. A rank that has less to do
is then done sooner, and what it loses is no wait at a barrier: figures that rest on one are n/a.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lbal.analyzers.analysis.look import Look
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.result.result import Result, Run, input_record
from lbal.analyzers.trace.trace import Trace

REASON = "the ranks do not wait for one another"
MODELS = ("step_model", "power_model")
RANKS_TOLD = 64


def without_barrier(run: Run, look: Look, trace: Trace, config: Mapping[str, Any], leading: str | None) -> Result:
    """The result of such a trace, of the run as it would be with a barrier; `leading` is what its reader can act on."""
    kept = {name: value for name, value in run.metrics.items() if value.basis != "modelled"}
    unavailable = {**run.details.get("unavailable", {}), **{name: REASON for name in run.metrics if name not in kept}}
    run = replace(
        run,
        metrics=kept,
        details={
            **run.details,
            "unavailable": {name: why for name, why in unavailable.items() if name in METRICS},
            "idle_is": ["n/a"],
        },
        ranks=(),
        attribution={},
        worst_steps=(),
        headroom={},
        series={},
        drawn=None,
        timeline=None,
    )
    return Result(
        command="analyze",
        inputs=[input_record(trace)],
        config={name: value for name, value in config.items() if name not in MODELS},
        runs=[run],
        headline=" ".join([_headline(look, trace), *([f"{leading}."] if leading else [])]),
        notes=[*trace.meta.warnings, f"mean loads: {_loads(look)}"],
    )


def _headline(look: Look, trace: Trace) -> str:
    text = f"Barrier idle does not apply: {trace.meta.no_barrier}."
    if len(look.server.ranks) == 1:
        return f"{text} Only rank {look.server.ranks[0]} is there: nothing to compare."
    parts = []
    if look.server.lacks != "kv_tokens":
        parts.append(f"the fullest rank holds {look.kv_tokens_ratio.mean:.3f} times the mean KV tokens")
    if look.server.lacks != "num_running":
        parts.append(f"the busiest runs {look.running_ratio.mean:.3f} times the mean number of requests")
    whole, seen = trace.meta.dp_size or 0, len(look.server.ranks)
    of = f", of {seen} of {whole} ranks" if seen < whole else ""
    basis = "measured" if trace.meta.resolution == "step" else "sampled"
    told = " and ".join(parts)
    return f"{text} {told[0].upper()}{told[1:]} ({basis}{of})."


def _loads(look: Look) -> str:
    """The mean loads of each rank."""
    texts = []
    for column, rank in enumerate(look.server.ranks[:RANKS_TOLD]):
        loads = []
        if look.server.lacks != "kv_tokens":
            loads.append(f"{look.kv_tokens[column] / look.steps:,.0f} KV tokens")
        if look.server.lacks != "num_running":
            loads.append(f"{look.running[column] / look.steps:.1f} requests")
        texts.append(f"rank {rank} {' and '.join(loads)}")
    return "; ".join(texts) + ("; …" if len(look.server.ranks) > RANKS_TOLD else "")

"""From a replay to the figures of a run, over the chosen window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lbal.analyzers.barrier import BarrierAccounts, join
from lbal.analyzers.errors import UsageError
from lbal.analyzers.headroom import RequestLoads, idle_bounds, least_time_ms, recovered_fractions, single_loads
from lbal.analyzers.latency import request_metrics
from lbal.analyzers.metrics import Measure, measure
from lbal.analyzers.result import Run
from lbal.analyzers.summary import attribution, barrier_metrics, rank_table, worst_steps
from lbal.analyzers.window import Window
from lbal.replay.engine import Cluster, Conditions, Phase, Replay
from lbal.replay.workload import Workload

PHASES: dict[Window, tuple[Phase, ...]] = {
    "all": ("ramp", "full", "drain"),
    "admissions": ("ramp", "full"),
    "steady": ("full",),
}


def run_of(replayed: Replay, cluster: Cluster, window: Window) -> Run:
    """The run of a replay: every figure is over the same steps, and over the requests admitted in them.

    Raises `UsageError` for a window without steps.
    """
    accounts = _accounts(replayed, window)
    first, last = int(accounts.step[0]), int(accounts.step[-1])
    requests, waited = replayed.trace.requests, replayed.waited_steps
    assert requests is not None
    if window != "all":
        chosen = (replayed.admitted_step >= first) & (replayed.admitted_step <= last)
        requests, waited = requests.filter(chosen), waited[chosen]
    makespan_ms = float(replayed.start_ms[last] + replayed.step_ms[last] - replayed.start_ms[first])
    figures = barrier_metrics(accounts, cluster.step_model, cluster.max_num_seqs, makespan_ms)
    # Prefill is not modelled, so a time to first token would leave out most of it.
    latency = {name: value for name, value in request_metrics(requests, waited).items() if not name.startswith("ttft")}
    policy = replayed.policy
    return Run(
        label=policy.label,
        policy=policy.name,
        parameters=policy.parameters(),
        details={
            "binding": replayed.binding,
            "looks_at": policy.looks_at,
            "staleness": {"ms": policy.staleness[0], "steps": policy.staleness[1]},
            "uses_true_lengths": policy.uses_true_lengths,
        },
        metrics={name: measure(name, value, "modelled") for name, value in {**figures, **latency}.items()},
        ranks=rank_table(accounts),
        attribution=attribution(accounts),
        worst_steps=worst_steps(accounts),
        solver=replayed.statistics,
    )


def headroom_of(
    replayed: Replay, workload: Workload, cluster: Cluster, conditions: Conditions, window: Window
) -> dict[str, Measure]:
    """Bounds on what placement and policy could have changed, by metric name; see `analyzers/headroom.py`.

    Idle is over the window; the makespan and the throughput of any policy are of the whole run. The replay's
    clock starts at 0 or with the first arrival after it, so earlier arrivals count as at 0.
    """
    accounts = _accounts(replayed, window)
    model, drift = cluster.step_model, conditions.drift
    prompts, outputs = workload.prompt_tokens, workload.output_tokens
    loads = RequestLoads(outputs, drift.entering_load(prompts), drift.growing_steps(prompts, outputs), drift.per_step)
    single = single_loads(loads, replayed.admitted_step, len(replayed.start_ms))
    figures = idle_bounds(accounts, single.part(slice(int(accounts.step[0]), int(accounts.step[-1]) + 1)), model)
    least_ms = busy_ms = least_time_ms(loads, model, cluster.dp_size, cluster.max_num_seqs)
    start_ms = 0.0
    if conditions.arrivals == "trace":
        arrival_ms = np.maximum(workload.scaled_arrivals(conditions.rate_scale), 0.0)
        least_ms = least_time_ms(loads, model, cluster.dp_size, cluster.max_num_seqs, arrival_ms)
        start_ms = float(arrival_ms[0])
    makespan_ms = float(replayed.start_ms[-1] + replayed.step_ms[-1]) - start_ms
    figures |= {
        "makespan_bound_s": least_ms / 1e3,
        "makespan_bound_fraction": min(least_ms / makespan_ms, 1.0),
        "tokens_per_second_bound": float(outputs.sum()) / busy_ms * 1e3,
    }
    return {name: measure(name, value, "modelled") for name, value in figures.items()}


def reference_of(runs: Sequence[Run]) -> Run:
    """The run that others are compared with: what the trace did, where it was replayed, else the first one."""
    return next((run for run in runs if run.policy == "recorded"), runs[0])


def with_recovered(runs: Sequence[Run]) -> list[Run]:
    """The runs with the share of the reference's avoidable idle that each wins back, where any was avoidable.

    The admissions are each policy's own, so a share can exceed 1. A single run has nothing to be compared with.
    """
    if len(runs) == 1:
        return list(runs)
    reference = reference_of(runs)
    idle = {run.label: run.metrics["barrier_idle_fraction"].value for run in runs}
    unavoidable = reference.headroom["unavoidable_idle_fraction"].value
    shares = recovered_fractions(idle[reference.label], unavoidable, idle)
    name = "recovered_idle_fraction"
    return [
        run
        if (share := shares[run.label]) is None
        else replace(run, headroom={**run.headroom, name: measure(name, share, "modelled")})
        for run in runs
    ]


def _accounts(replayed: Replay, window: Window) -> BarrierAccounts:
    parts = [replayed.accounts[phase] for phase in PHASES[window] if phase in replayed.accounts]
    if not parts:
        why = "the slots are never all taken" if window == "steady" else "all requests enter at once"
        raise UsageError(f"--window {window}: {replayed.policy.label} has no such steps ({why}), expected --window all")
    accounts = join(parts)
    assert (np.diff(accounts.step) == 1).all()
    return accounts

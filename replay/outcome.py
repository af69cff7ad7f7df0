"""From a replay to the figures of a run, over the chosen window."""

from __future__ import annotations

import numpy as np

from lbal.analyzers.barrier import BarrierAccounts, join
from lbal.analyzers.errors import UsageError
from lbal.analyzers.latency import request_metrics
from lbal.analyzers.metrics import measure
from lbal.analyzers.result import Run
from lbal.analyzers.summary import attribution, barrier_metrics, rank_table, worst_steps
from lbal.analyzers.window import Window
from lbal.replay.engine import Cluster, Phase, Replay

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
    )


def _accounts(replayed: Replay, window: Window) -> BarrierAccounts:
    parts = [replayed.accounts[phase] for phase in PHASES[window] if phase in replayed.accounts]
    if not parts:
        why = "the slots are never all taken" if window == "steady" else "all requests enter at once"
        raise UsageError(f"--window {window}: {replayed.policy.label} has no such steps ({why}), expected --window all")
    accounts = join(parts)
    assert (np.diff(accounts.step) == 1).all()
    return accounts

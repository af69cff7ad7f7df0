"""From a replay to the figures of a run, over the chosen window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.accounts import BarrierAccounts, join
from lbal.analyzers.barrier.bounds import RequestLoads, idle_bounds, least_time_ms, recovered_fractions, single_loads
from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals, WindowSteps
from lbal.analyzers.barrier.window import Window
from lbal.analyzers.energy.binned_sums import step_series
from lbal.analyzers.energy.figures import energy_figures, saving_figures
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.energy.sensitivity import BandedRun, saving_range, slope_models, tpot_ms, variants
from lbal.analyzers.errors import UsageError
from lbal.analyzers.metrics import Measure, add_ranges, measure, step_figures
from lbal.analyzers.requests.latency import distribution, request_metrics
from lbal.analyzers.result.result import Run
from lbal.replay.engine.engine import Cluster, Conditions, Phase, Replay
from lbal.replay.scenario.workload import Workload

PHASES: dict[Window, tuple[Phase, ...]] = {
    "all": ("ramp", "full", "drain"),
    "admissions": ("ramp", "full"),
    "steady": ("full",),
}


def run_of(replayed: Replay, cluster: Cluster, window: Window, view: EnergyView | None = None) -> Run:
    """The run of a replay: every figure is over the same steps, and over the requests admitted in them.

    With a view of energy, whose curves the replay must have been given, there are figures of energy too.
    Raises `UsageError` for a window without steps.
    """
    accounts = _accounts(replayed, window)
    first, last = int(accounts.step[0]), int(accounts.step[-1])
    requests, waited = replayed.trace.requests, replayed.waited_steps
    assert requests is not None
    if window != "all":
        chosen = _admitted_in(replayed, accounts)
        requests, waited = requests.filter(chosen), waited[chosen]
    makespan_ms = float(replayed.start_ms[last] + replayed.step_ms[last] - replayed.start_ms[first])
    figures = step_figures(WindowSteps(accounts, cluster.step_model, cluster.max_num_seqs, makespan_ms))
    # Prefill is not modelled, so a time to first token would leave out most of it.
    latency = {name: value for name, value in request_metrics(requests, waited).items() if not name.startswith("ttft")}
    policy = replayed.policy
    metrics = {name: measure(name, value, "modelled") for name, value in {**figures, **latency}.items()}
    if view is not None:
        metrics |= energy_figures(RunTotals.of(accounts, cluster.step_model), view)
    return Run(
        label=policy.label,
        policy=policy.name,
        parameters=policy.parameters(),
        details={
            "binding": replayed.binding,
            "looks_at": policy.looks_at,
            "staleness": {"ms": policy.staleness[0], "steps": policy.staleness[1]},
            "uses_true_lengths": policy.uses_true_lengths,
            "step_ms_mean": float(accounts.step_ms.mean()),
        },
        metrics=metrics,
        ranks=rank_table(accounts),
        attribution=attribution(accounts),
        worst_steps=worst_steps(accounts),
        solver=replayed.statistics,
        series=step_series(accounts, cluster.step_model, view, requests["output_tokens"].to_numpy()),
    )


def headroom_of(
    replayed: Replay, workload: Workload, cluster: Cluster, conditions: Conditions, window: Window
) -> dict[str, Measure]:
    """Bounds on what placement and policy could have changed, by metric name; see `analyzers/barrier/bounds.py`.

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


def rows_of(replayed: Replay, window: Window) -> slice:
    """The steps of the window."""
    step = _accounts(replayed, window).step
    return slice(int(step[0]), int(step[-1]) + 1)


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


def with_savings(runs: Sequence[Run], replays: Sequence[Replay], view: EnergyView, window: Window) -> list[Run]:
    """The runs with what each saves in energy per token against the reference, which has no such figure."""
    totals = [RunTotals.of(_accounts(each, window), each.step_model) for each in replays]
    reference = next(index for index, run in enumerate(runs) if run is reference_of(runs))
    return [
        run
        if index == reference
        else replace(run, metrics={**run.metrics, **saving_figures(totals[index], totals[reference], view)})
        for index, run in enumerate(runs)
    ]


def banded(replayed: Replay, window: Window) -> BandedRun:
    """A replay under the variants of its step-time model; it must have been given `other_slopes` of it."""
    model = replayed.step_model
    slopes = slope_models(model)
    by_slopes = [replayed.accounts, *replayed.also]
    assert len(slopes) == len(by_slopes)
    totals = [
        RunTotals.of(_accounts(replayed, window, part), each) for each, part in zip(slopes, by_slopes, strict=True)
    ]
    return BandedRun.of(variants(model), totals, [_tpot_figures(replayed, window, part) for part in by_slopes])


def other_slopes(cluster: Cluster) -> list[StepTimeModel]:
    """The models that a replay must be accounted for with, beside its own, to know its bands."""
    return slope_models(cluster.step_model)[1:]


def with_ranges(runs: Sequence[Run], bands: Sequence[BandedRun], view: EnergyView) -> list[Run]:
    """The runs with the range of each headline figure over the bands."""
    reference = bands[next(index for index, run in enumerate(runs) if run is reference_of(runs))]
    found = []
    for run, each in zip(runs, bands, strict=True):
        ranges = each.ranges(view)
        if "energy_saving_fraction" in run.metrics:
            ranges["energy_saving_fraction"] = saving_range(each, reference, view)
        found.append(replace(run, metrics=add_ranges(run.metrics, ranges)))
    return found


def window_accounts(replayed: Replay, window: Window) -> BarrierAccounts:
    """The accounts of the steps that count; `UsageError` for a window without steps."""
    return _accounts(replayed, window)


def _tpot_figures(replayed: Replay, window: Window, parts: Mapping[Phase, BarrierAccounts]) -> dict[str, float]:
    step_ms = _accounts(replayed, "all", parts).step_ms
    requests = replayed.trace.requests
    assert requests is not None
    chosen = _admitted_in(replayed, _accounts(replayed, window))
    values = tpot_ms(step_ms, replayed.admitted_step[chosen], requests["output_tokens"].to_numpy()[chosen])
    return distribution("tpot_ms", values, ("mean", "p99")) if len(values) else {}


def _admitted_in(replayed: Replay, accounts: BarrierAccounts) -> NDArray[np.bool_]:
    """(N,) whether each request was admitted in these steps."""
    admitted = replayed.admitted_step
    return np.asarray((admitted >= accounts.step[0]) & (admitted <= accounts.step[-1]))


def _accounts(
    replayed: Replay, window: Window, phases: Mapping[Phase, BarrierAccounts] | None = None
) -> BarrierAccounts:
    phases = replayed.accounts if phases is None else phases
    parts = [phases[phase] for phase in PHASES[window] if phase in phases]
    if not parts:
        why = "the slots are never all taken" if window == "steady" else "all requests enter at once"
        raise UsageError(f"--window {window}: {replayed.policy.label} has no such steps ({why}), expected --window all")
    accounts = join(parts)
    assert (np.diff(accounts.step) == 1).all()
    return accounts

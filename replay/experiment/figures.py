"""From a replay in a window to the figures of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lbal.analyzers.barrier.bounds import (
    KvRoom,
    RequestLoads,
    idle_bounds,
    least_time_ms,
    recovered_fractions,
    single_loads,
)
from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.energy.binned_sums import step_series
from lbal.analyzers.energy.figures import energy_figures, saving_figures
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.energy.sensitivity import BandedRun, saving_range, slope_models, tpot_ms, variants
from lbal.analyzers.metrics import METRICS, Measure, add_ranges, measure, step_figures
from lbal.analyzers.requests.latency import distribution, request_metrics, unavailable_latencies
from lbal.analyzers.requests.slo import Slo, goodput
from lbal.analyzers.result.result import Run
from lbal.analyzers.result.runs import reference_of
from lbal.analyzers.trace.trace import FloatArray
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import Policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

BOUNDS = [name for name, metric in METRICS.items() if metric.group == "headroom"]
WITHHELD = "no bound is known with prefill"
"""Why there is no headroom: its bounds rest on requests that give a token with every step from their admission on."""


def run_of(windowed: Windowed, view: EnergyView | None = None, slo: Slo | None = None) -> Run:
    """The run of a replay: every figure is over the same steps, and over the requests admitted in them.

    With a view of energy, whose curves the replay must have been given, there are figures of energy too; with limits on
    latency the goodput under them.
    """
    replayed, fold = windowed.replayed, windowed.fold
    policy = replayed.policy
    capacity = replayed.trace.meta.config.get("kv_capacity")
    figures = step_figures(WindowSteps(fold, replayed.trace.meta.max_num_seqs, windowed.makespan_ms, capacity))
    latency = request_metrics(windowed.times, windowed.waited_steps)
    unavailable = unavailable_latencies(windowed.times)
    if replayed.prefills:
        unavailable |= dict.fromkeys(BOUNDS, WITHHELD)
    if slo is not None:
        latency |= goodput(slo, windowed.times, windowed.makespan_ms)
    metrics = {name: measure(name, value, "modelled") for name, value in {**figures, **latency}.items()}
    if view is not None:
        metrics |= energy_figures(windowed.totals, view)
    return Run(
        label=policy.label,
        policy=policy.name,
        parameters=policy.parameters(),
        details={
            "binding": replayed.binding,
            "looks_at": policy.looks_at,
            "staleness": _staleness(policy),
            "uses_true_lengths": policy.uses_true_lengths,
            "step_ms_mean": fold.totals.time_ms / len(fold),
            **windowed.of_run,
            **({} if replayed.preempted is None else {"preempted": replayed.preempted._asdict()}),
            **({"unavailable": unavailable} if unavailable else {}),
            **windowed.elsewhere,
        },
        metrics=metrics,
        ranks=rank_table(fold),
        attribution=attribution(fold),
        worst_steps=worst_steps(fold.worst),
        solver=replayed.statistics,
        series=step_series(fold, view, windowed.requests["output_tokens"].to_numpy()),
    )


def _staleness(policy: Policy) -> dict[str, float]:
    """How old the policy's signals are, and by how much they lag, if they do."""
    lag = {"lag_ms": policy.lag_ms} if policy.lag_ms > 0 else {}
    return {"ms": policy.staleness[0], "steps": policy.staleness[1], **lag}


def headroom_of(windowed: Windowed, workload: Workload, cluster: Cluster, conditions: Conditions) -> dict[str, Measure]:
    """Bounds on what placement and policy could have changed, by metric name; see `analyzers/barrier/bounds.py`.

    Idle is over the window; the makespan and the throughput of any policy are of the whole run. The replay's
    clock starts at 0 or with the first arrival after it, so earlier arrivals count as at 0.
    """
    replayed, model, drift = windowed.replayed, cluster.step_model, conditions.drift
    prompts, outputs = workload.prompt_tokens, workload.output_tokens
    loads = RequestLoads(outputs, drift.entering_load(prompts), drift.growing_steps(prompts, outputs), drift.per_step)
    single = single_loads(loads, replayed.admitted_step, len(replayed.start_ms))
    figures = idle_bounds(windowed.accounts, single.part(windowed.rows), model)
    room = None
    if cluster.kv_capacity is not None:
        room = KvRoom(drift.largest_load(prompts, outputs), cluster.kv_capacity)
    least_ms = busy_ms = least_time_ms(loads, model, cluster.dp_size, cluster.max_num_seqs, room=room)
    start_ms, arriving = 0.0, conditions.arriving
    if arriving.in_flight is not None:
        least_ms = least_time_ms(
            loads, model, cluster.dp_size, cluster.max_num_seqs, room=room, most_running=arriving.in_flight
        )
    elif arriving.kind in ("trace", "poisson", "gamma"):
        arrival_ms = np.maximum(conditions.arrival_ms(workload), 0.0)
        least_ms = least_time_ms(loads, model, cluster.dp_size, cluster.max_num_seqs, arrival_ms, room=room)
        start_ms = float(arrival_ms[0])
    makespan_ms = float(replayed.start_ms[-1] + replayed.step_ms[-1]) - start_ms
    figures |= {
        "makespan_bound_s": least_ms / 1e3,
        "makespan_bound_fraction": min(least_ms / makespan_ms, 1.0),
        "tokens_per_second_bound": float(outputs.sum()) / busy_ms * 1e3,
    }
    return {name: measure(name, value, "modelled") for name, value in figures.items()}


def runs_of(
    windowed: Sequence[Windowed],
    workload: Workload,
    cluster: Cluster,
    conditions: Conditions,
    view: EnergyView,
    slo: Slo | None = None,
) -> list[Run]:
    """The runs of replays of the same requests, with headroom, and with what each wins back and saves."""
    runs = _with_savings([run_of(each, view, slo) for each in windowed], windowed, view)
    if cluster.prefill is not None:
        return runs
    bounds = [headroom_of(each, workload, cluster, conditions) for each in windowed]
    return _with_recovered([replace(run, headroom=found) for run, found in zip(runs, bounds, strict=True)])


def _with_recovered(runs: Sequence[Run]) -> list[Run]:
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


def _with_savings(runs: Sequence[Run], windowed: Sequence[Windowed], view: EnergyView) -> list[Run]:
    """The runs with what each saves in energy per token against the reference, which has no such figure."""
    reference = place_of(reference_of(runs), runs)
    totals = windowed[reference].totals
    return [
        run
        if index == reference
        else replace(run, metrics={**run.metrics, **saving_figures(windowed[index].totals, totals, view)})
        for index, run in enumerate(runs)
    ]


def place_of(run: Run, runs: Sequence[Run]) -> int:
    """Where a run stands among runs that hold it."""
    return next(index for index, each in enumerate(runs) if each is run)


def banded(windowed: Windowed) -> BandedRun:
    """A replay under the variants of its step-time model; it must have been given `other_slopes` of it.

    With prefill a request takes more steps than it has tokens, and a longer C counts in each: its times are added up
    for every variant.
    """
    model = windowed.replayed.step_model
    totals = [
        RunTotals.of(accounts, each) for each, accounts in zip(slope_models(model), windowed.by_slopes, strict=True)
    ]
    given = windowed.tokens_of_prompts(windowed.rows)
    totals = [replace(each, tokens=each.tokens + given) for each in totals]
    chosen, step_ms = variants(model), windowed.step_ms_by_slopes
    found = BandedRun.of(chosen, totals, [_tpot_figures(windowed, each) for each in step_ms])
    if not windowed.replayed.prefills:
        return found
    return replace(found, tpot_ms=[_tpot_figures(windowed, step_ms[each.slopes] + each.extra_ms) for each in chosen])


def other_slopes(cluster: Cluster) -> list[StepTimeModel]:
    """The models that a replay must be accounted for with, beside its own, to know its bands."""
    return slope_models(cluster.step_model)[1:]


def with_ranges(runs: Sequence[Run], bands: Sequence[BandedRun], view: EnergyView) -> list[Run]:
    """The runs with the range of each headline figure over the bands."""
    reference = bands[place_of(reference_of(runs), runs)]
    found = []
    for run, each in zip(runs, bands, strict=True):
        ranges = each.ranges(view)
        if "energy_saving_fraction" in run.metrics:
            ranges["energy_saving_fraction"] = saving_range(each, reference, view)
        found.append(replace(run, metrics=add_ranges(run.metrics, ranges)))
    return found


def _tpot_figures(windowed: Windowed, step_ms: FloatArray) -> dict[str, float]:
    """Time per output token of the requests admitted in the window, had the steps taken these times."""
    replayed, chosen = windowed.replayed, windowed.admitted
    requests = replayed.trace.requests
    assert requests is not None
    moments, outputs = replayed.moments, requests["output_tokens"].to_numpy()
    values = tpot_ms(step_ms, moments.admitted_step[chosen], moments.last_step[chosen], outputs[chosen])
    return distribution("tpot_ms", values, ("mean", "p99")) if len(values) else {}

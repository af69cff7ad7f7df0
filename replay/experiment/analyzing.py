"""`analyze`: from a trace to a result, in one call.

It stands above the replay because the headroom of a recorded trace has one figure that is replayed: the idle that is
left if the solver places the same admissions anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lbal.analyzers.analysis.active import Growth
from lbal.analyzers.analysis.analysis import StepAnalysis, analyze_steps
from lbal.analyzers.analysis.look import Idle, Look, MixedSteps, Server
from lbal.analyzers.analysis.prefill_alone import has_prefill_alone, prefill_result
from lbal.analyzers.analysis.situation import situations
from lbal.analyzers.analysis.unknown import without_unknown
from lbal.analyzers.analysis.without_barrier import without_barrier
from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.window import WINDOWS, Window
from lbal.analyzers.energy.binned_sums import step_series
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.errors import one_of
from lbal.analyzers.metrics import SMALLEST_SHARE
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.requests.demand import demand
from lbal.analyzers.result.collecting import Drawing
from lbal.analyzers.result.result import Result, Run, input_record
from lbal.analyzers.trace.step_blocks import blocks_of
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.energy import analysis_counterfactual
from lbal.analyzers.wording.findings import (
    analysis_headline,
    analysis_headroom,
    demand_headline,
    window_note,
)
from lbal.replay.experiment.findings import placed_anew
from lbal.replay.experiment.next_command import after_steps, replay_command
from lbal.replay.experiment.options import DEFAULT_DP_SIZE, DEFAULT_MAX_NUM_SEQS, size_note
from lbal.replay.experiment.progress import Display, NoDisplay
from lbal.replay.experiment.rate_scale import rate_scale_for
from lbal.replay.experiment.same_admissions import idle_placed_anew
from lbal.replay.scenario.cluster import Cluster
from lbal.replay.scenario.drift import Drift, parse_drift


def analyze(
    trace: Trace,
    *,
    step_model: str | StepTimeModel | None = None,
    rank_speed: Sequence[str] = (),
    power_model: str | None = None,
    gpus_per_rank: int | None = None,
    costs: str | None = None,
    bands: bool = False,
    max_num_seqs: int | None = None,
    window: str = "all",
    display: Display | None = None,
) -> Result:
    """Say how much rank-time the barrier of a trace wastes, on which ranks, and why.

    A trace of requests alone has no barrier; then its workload is told. Of a log of prefill alone it is told how
    evenly new tokens fall on the ranks. The parameters are the options of
    `lbal analyze`; `step_model` may also be a model, and `display` shows how far a replay has come. Raises
    `UsageError`, which names the parameter, for what cannot be.
    """
    models = ModelChoice(step_model, rank_speed, power_model, gpus_per_rank, costs)
    return analysis_result(
        trace, models, bands=bands, max_num_seqs=max_num_seqs, window=window, display=display or NoDisplay()
    )


def analysis_result(
    trace: Trace,
    models: ModelChoice,
    *,
    bands: bool,
    max_num_seqs: int | None,
    window: str,
    display: Display,
    drawing: Drawing | None = None,
    read_with: Sequence[str] = (),
) -> Result:
    """The result of an analysis.

    `drawing` says what of the steps is collected for reports: without one, charts can be drawn. `read_with` are the
    words of a command line that reads the trace, for the command to try next: without them, the name of its source.
    """
    steps = one_of(window, WINDOWS, "window")
    model, notes = models.given_step_model(max_num_seqs or DEFAULT_MAX_NUM_SEQS)
    read_with = read_with or [trace.meta.source]
    if not trace.num_steps:
        return _demand_result(trace, models, model, max_num_seqs, read_with)
    following = after_steps(trace, read_with, models, max_num_seqs)
    if has_prefill_alone(trace):
        return replace(prefill_result(trace), next=following)
    drift = _drift_of(trace)
    analysis = analyze_steps(
        trace,
        model,
        models.default_step_model(max_num_seqs or DEFAULT_MAX_NUM_SEQS),
        steps,
        max_num_seqs,
        Growth(drift.per_step, drift.window),
        energy=models.energy_view,
        speeds=models.with_speeds,
        bands=bands,
    )
    slots = max_num_seqs or trace.meta.max_num_seqs
    found = _step_result(trace, analysis, drift, steps, slots, notes, drawing or Drawing(), display, bands)
    return replace(found, next=following)


def _drift_of(trace: Trace) -> Drift:
    """How loads grow in a trace: as the replay that made it says, else by a token a step."""
    return parse_drift(str(trace.meta.config.get("drift", "1")) if trace.meta.kind == "replayed" else "1")


def _step_result(
    trace: Trace,
    analysis: StepAnalysis,
    drift: Drift,
    window: Window,
    slots: int | None,
    notes: Sequence[str],
    drawing: Drawing,
    display: Display,
    bands: bool,
) -> Result:
    view = analysis.energy
    assert view is not None
    watch = drawing.watch()
    for block in analysis.steps:
        watch.see(block)
    run = watch.drawn(_run(trace, analysis, view), analysis.accounts)
    run = replace(run, apart=drawing.apart(analysis.accounts, analysis.known.lacks))
    run = without_unknown(run, analysis.known, trace.meta.resolution)
    config = {
        **trace.meta.config,
        "dp_size": trace.meta.dp_size,
        "max_num_seqs": slots,
        "window": window,
        "seed": trace.meta.seed,
        "step_model": analysis.model.as_dict(),
        "power_model": view.as_dict(),
    }
    look = _look(trace, analysis, run, window, slots)
    leading, beside = situations(look)
    if trace.meta.no_barrier is not None:
        found = without_barrier(run, look, trace, config, leading)
        return replace(found, notes=[*found.notes, *analysis.known.notes, *beside, *drawing.notes([run])])
    first, *others = analysis_headroom(run, lengths_known=analysis.lengths_known)
    run, placed = _with_placement(run, analysis, drift, slots or 0, display)
    findings = [first, analysis_counterfactual(run, view), *placed, *others]
    return Result(
        command="analyze",
        inputs=[input_record(trace)],
        config=config,
        runs=[run],
        headline=" ".join([analysis_headline(run), *([f"{leading}."] if leading else [])]),
        notes=[
            *trace.meta.warnings,
            *notes,
            *analysis.notes,
            *beside,
            *window_note(config, [run]),
            *drawing.notes([run]),
        ],
        headroom={"lengths_known": analysis.lengths_known, "findings": findings},
        bands={"variants": analysis.variants, "findings": []} if bands else {},
    )


def _look(trace: Trace, analysis: StepAnalysis, run: Run, window: Window, slots: int | None) -> Look:
    """A look at the steps of the window; at those without gaps, but for prefill, during which logs tell no load."""
    known, meta = analysis.known, trace.meta
    idle = Idle(run.metrics["barrier_idle_fraction"].value, run.attribution, analysis.slow_ranks)
    if meta.no_barrier is not None:
        return Look.at(analysis.steps, Server(known.ranks, known.lacks, slots, meta.kv_capacity, meta.resolution))
    server = Server(known.ranks, known.lacks, slots, meta.kv_capacity, meta.resolution)
    seen = analysis.steps
    if window == "all":
        ranks, seen = list(known.ranks), blocks_of(trace)
        seen = seen.changed(lambda block: block.of_ranks(ranks), len(seen), len(ranks))
    return Look.at(analysis.steps, server, idle, MixedSteps.at(seen if seen.tells("prefill_tokens") else ()))


def _run(trace: Trace, analysis: StepAnalysis, view: EnergyView) -> Run:
    accounts, factor = analysis.accounts, analysis.work_factor
    outputs = None if trace.requests is None else trace.requests["output_tokens"].to_numpy()
    ranks = rank_table(accounts)
    if factor is not None:
        ranks = [{**rank, "work_factor": float(factor[index])} for index, rank in enumerate(ranks)]
    return Run(
        label=trace.meta.engine or "recorded",
        metrics=analysis.metrics,
        ranks=ranks,
        attribution=attribution(accounts),
        worst_steps=worst_steps(accounts.worst),
        details={
            "rank_times": analysis.rank_times,
            "step_times": analysis.step_times,
            **({"unavailable": dict(analysis.undefined)} if analysis.undefined else {}),
        },
        headroom=analysis.headroom,
        series=step_series(accounts, view, outputs),
    )


def _with_placement(
    run: Run, analysis: StepAnalysis, drift: Drift, slots: int, display: Display
) -> tuple[Run, list[str]]:
    """The run with what the solver's placement of the same admissions would idle, if the trace tells them all.

    The solver places decodes: nothing is told of steps with prefill.
    """
    admissions = analysis.admissions
    if admissions is None or analysis.modelled_idle <= SMALLEST_SHARE or analysis.accounts.sums.has_prefill:
        return run, []
    cluster = Cluster(len(run.ranks), max(slots, analysis.most_running), analysis.model)
    with display.replaying("placing anew", len(admissions.first)) as on_progress:
        idle = idle_placed_anew(admissions, cluster, drift, analysis.rows, on_progress)
    placed, sentence = placed_anew(run, "recorded", analysis.modelled_idle, idle)
    return placed, [sentence]


def _demand_result(
    trace: Trace, models: ModelChoice, model: StepTimeModel | None, max_num_seqs: int | None, read_with: Sequence[str]
) -> Result:
    """What the requests of a trace ask for, and the replay that would model their idle."""
    assert trace.requests is not None
    figures = demand(trace.requests)
    ranks = trace.meta.dp_size or DEFAULT_DP_SIZE
    slots = max_num_seqs or trace.meta.max_num_seqs
    options, notes = _load_options(figures, model, models, ranks, slots or DEFAULT_MAX_NUM_SEQS)
    if "arrivals_per_second" in figures and (trace.meta.dp_size is None or not slots):
        notes.insert(0, size_note(ranks, slots or DEFAULT_MAX_NUM_SEQS))
    command = replay_command(trace, read_with, models, ranks, slots or DEFAULT_MAX_NUM_SEQS, options)
    return Result(
        command="analyze",
        inputs=[input_record(trace)],
        config={"dp_size": trace.meta.dp_size, "max_num_seqs": trace.meta.max_num_seqs},
        runs=[],
        headline=demand_headline(figures),
        notes=[*trace.meta.warnings, *notes],
        workload={**figures, "replay_command": command},
    )


def _load_options(
    figures: dict[str, Any], model: StepTimeModel | None, models: ModelChoice, ranks: int, slots: int
) -> tuple[list[str], list[str]]:
    """The options under which a replay loads the ranks well, and notes on why."""
    if "arrivals_per_second" not in figures:
        known = "duration_s" in figures
        return ["--arrivals", "backlog"], [] if known else ["without arrival times only a backlog can be replayed"]
    sizing = rate_scale_for(figures, ranks, slots, model or models.default_step_model(slots))
    if sizing is None or sizing.fits:
        return [], []
    return ["--rate-scale", f"{sizing.rate_scale:.2g}"], [
        f"at its own rate the trace asks for about {sizing.slot_use:.0%} of {ranks} x {slots} slots; "
        f"--rate-scale {sizing.rate_scale:.2g} asks for about {sizing.target:.0%}"
    ]

"""`lbal analyze`: what a trace says of the barrier, or of its workload."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lbal.cli.options.models import ModelOptions
from lbal.cli.options.options import (
    AsJson,
    Bands,
    ColumnNames,
    CostList,
    Force,
    FormatName,
    GpusPerRank,
    Inputs,
    Outputs,
    PowerModel,
    RankRegex,
    RankSpeed,
    RunIndex,
    StepModel,
    StepsShown,
    Strict,
    TimeUnitName,
    WindowName,
    chosen,
)
from lbal.cli.options.reading import Reading

if TYPE_CHECKING:
    from lbal.analyzers.analysis.analysis import StepAnalysis
    from lbal.analyzers.barrier.step_time import StepTimeModel
    from lbal.analyzers.result.result import Result, Run
    from lbal.analyzers.trace.trace import Trace
    from lbal.cli.output.collecting import Drawing
    from lbal.replay.scenario.drift import Drift

DEFAULT_DP_SIZE, DEFAULT_MAX_NUM_SEQS = 8, 64


def analyze(
    traces: Inputs,
    step_model: StepModel = None,
    rank_speed: RankSpeed = None,
    power_model: PowerModel = None,
    gpus_per_rank: GpusPerRank = None,
    bands: Bands = False,
    costs: CostList = None,
    max_num_seqs: Annotated[
        int | None,
        typer.Option("--max-num-seqs", metavar="B", min=1, max=1 << 24, help="Slots per rank, if the trace lacks it."),
    ] = None,
    kv_capacity: Annotated[
        int | None,
        typer.Option("--kv-capacity", metavar="TOKENS", min=1, help="KV tokens per rank, for logs that tell per cent."),
    ] = None,
    window: WindowName = "all",
    steps: StepsShown = None,
    output: Outputs = None,
    force: Force = False,
    as_json: AsJson = False,
    format_name: FormatName = None,
    strict: Strict = False,
    rank_regex: RankRegex = None,
    run_index: RunIndex = None,
    time_unit: TimeUnitName = None,
    columns: ColumnNames = None,
) -> None:
    """Say how much rank-time the barrier of a trace wastes, on which ranks, and why.

    A trace of requests alone has no barrier; then its workload is shown, and the replay that would model its idle.
    """
    from lbal.analyzers.barrier.window import WINDOWS
    from lbal.cli.output.collecting import Drawing
    from lbal.cli.output.console import check_reports, deliver

    outputs = output or []
    reading = Reading(
        traces, format_name, strict, rank_regex, run_index, kv_capacity, time_unit=time_unit, columns=columns
    )
    chosen(window, WINDOWS, "--window")
    models = ModelOptions(step_model, rank_speed or [], power_model, gpus_per_rank, costs)
    check_reports(outputs, force=force, reads=[*reading.files(), *models.files()])
    drawing = Drawing(outputs, steps, as_json=as_json)
    models.check()
    model, notes = models.given_step_model(max_num_seqs or DEFAULT_MAX_NUM_SEQS)
    read = reading.read_compact()
    if read.num_steps:
        result = _step_result(read, models, model, window, max_num_seqs, notes, drawing, bands=bands)
    else:
        result = _demand_result(read, reading, models, model, max_num_seqs)
    deliver(result, as_json=as_json, outputs=outputs, force=force)


def _model(spec: str, max_num_seqs: int) -> StepTimeModel:
    from lbal.analyzers.models.step_models import step_model

    return step_model(spec, max_num_seqs)


def _step_result(
    trace: Trace,
    models: ModelOptions,
    model: StepTimeModel | None,
    window: Any,
    max_num_seqs: int | None,
    notes: list[str],
    drawing: Drawing,
    *,
    bands: bool,
) -> Result:
    from lbal.analyzers.analysis.analysis import Growth, analyze_steps
    from lbal.analyzers.analysis.unknown import without_unknown
    from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
    from lbal.analyzers.energy.binned_sums import step_series
    from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL
    from lbal.analyzers.result.result import Result, Run, input_record
    from lbal.analyzers.wording.energy import analysis_counterfactual
    from lbal.analyzers.wording.findings import analysis_headline, analysis_headroom, window_note
    from lbal.replay.scenario.drift import parse_drift

    meta = trace.meta
    default = _model(DEFAULT_STEP_MODEL, max_num_seqs or DEFAULT_MAX_NUM_SEQS)
    drift = parse_drift(str(meta.config.get("drift", "1")) if meta.kind == "replayed" else "1")
    growth = Growth(drift.per_step, drift.window)
    analysis = analyze_steps(
        trace,
        model,
        default,
        window,
        max_num_seqs,
        growth,
        energy=models.energy_view,
        speeds=models.with_speeds,
        bands=bands,
    )
    assert analysis.energy is not None
    outputs = None if trace.requests is None else trace.requests["output_tokens"].to_numpy()
    ranks = rank_table(analysis.accounts)
    if analysis.work_factor is not None:
        ranks = [{**rank, "work_factor": float(analysis.work_factor[index])} for index, rank in enumerate(ranks)]
    run = Run(
        label=meta.engine or "recorded",
        metrics=analysis.metrics,
        ranks=ranks,
        attribution=attribution(analysis.accounts),
        worst_steps=worst_steps(analysis.accounts),
        details={"rank_times": analysis.rank_times, "step_times": analysis.step_times},
        headroom=analysis.headroom,
        series=step_series(analysis.accounts, analysis.model, analysis.energy, outputs),
    )
    watch = drawing.watch()
    watch.see(analysis.steps)
    run = watch.drawn(run, analysis.accounts, analysis.model)
    run = without_unknown(run, analysis.known, meta.resolution)
    config = {
        **meta.config,
        "dp_size": meta.dp_size,
        "max_num_seqs": max_num_seqs or meta.max_num_seqs,
        "window": window,
        "seed": meta.seed,
        "step_model": analysis.model.as_dict(),
        "power_model": analysis.energy.as_dict(),
    }
    findings = analysis_headroom(run, lengths_known=analysis.lengths_known)
    run, placed = _placed_anew(run, analysis, drift, max_num_seqs or meta.max_num_seqs or 0)
    findings[1:1] = placed
    return Result(
        command="analyze",
        inputs=[input_record(trace)],
        config=config,
        runs=[run],
        headline=analysis_headline(run),
        notes=[*meta.warnings, *notes, *analysis.notes, *window_note(config, [run]), *drawing.notes([run])],
        headroom={
            "lengths_known": analysis.lengths_known,
            "findings": [*findings[:1], analysis_counterfactual(run, analysis.energy), *findings[1:]],
        },
        bands={"variants": analysis.variants, "findings": []} if bands else {},
    )


def _placed_anew(run: Run, analysis: StepAnalysis, drift: Drift, max_num_seqs: int) -> tuple[Run, list[str]]:
    """The run with what the solver's placement of the same admissions would idle, if the trace tells them all."""
    from dataclasses import replace

    from lbal.analyzers.metrics import SMALLEST_SHARE, measure
    from lbal.analyzers.wording.findings import placement_sentence
    from lbal.cli.output.progress import replay_progress
    from lbal.replay.engine.engine import Cluster
    from lbal.replay.experiment.same_admissions import idle_placed_anew

    if analysis.admissions is None or analysis.modelled_idle <= SMALLEST_SHARE:
        return run, []
    cluster = Cluster(len(run.ranks), max(max_num_seqs, analysis.most_running), analysis.model)
    with replay_progress("placing anew", len(analysis.admissions.first)) as on_progress:
        idle = idle_placed_anew(analysis.admissions, cluster, drift, analysis.rows, on_progress)
    unavoidable = run.headroom["unavoidable_idle_fraction"].value
    headroom = {**run.headroom, "replaced_idle_fraction": measure("replaced_idle_fraction", idle, "modelled")}
    sentence = placement_sentence("recorded", analysis.modelled_idle, idle, unavoidable)
    return replace(run, headroom=headroom), [sentence]


def _demand_result(
    trace: Trace, reading: Reading, models: ModelOptions, model: StepTimeModel | None, max_num_seqs: int | None
) -> Result:
    from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL
    from lbal.analyzers.requests.demand import demand
    from lbal.analyzers.result.result import Result, input_record
    from lbal.analyzers.wording.findings import demand_headline
    from lbal.replay.experiment.rate_scale import rate_scale_for

    assert trace.requests is not None
    figures = demand(trace.requests)
    ranks = trace.meta.dp_size or DEFAULT_DP_SIZE
    slots = max_num_seqs or trace.meta.max_num_seqs or DEFAULT_MAX_NUM_SEQS
    words = ["lbal", "replay", *reading.arguments(), "--dp-size", str(ranks), "--max-num-seqs", str(slots)]
    policies = ["round-robin", "jsq", "jsq-kv"]
    if "rank" in trace.requests.columns:
        policies.insert(0, "recorded")
    for policy in policies:
        words += ["--policy", policy]
    words += models.arguments()
    notes = list(trace.meta.warnings)
    if "arrivals_per_second" not in figures:
        words += ["--arrivals", "backlog"]
        if "duration_s" not in figures:
            notes.append("without arrival times only a backlog can be replayed")
    else:
        sizing = rate_scale_for(figures, ranks, slots, model or _model(DEFAULT_STEP_MODEL, slots))
        if trace.meta.dp_size is None or not (max_num_seqs or trace.meta.max_num_seqs):
            notes.append(f"the trace does not tell the size of the cluster: {ranks} x {slots} slots are assumed")
        if sizing is not None and not sizing.fits:
            words += ["--rate-scale", f"{sizing.rate_scale:.2g}"]
            notes.append(
                f"at its own rate the trace asks for about {sizing.slot_use:.0%} of {ranks} x {slots} slots; "
                f"--rate-scale {sizing.rate_scale:.2g} asks for about {sizing.target:.0%}"
            )
    command = shlex.join(words)
    return Result(
        command="analyze",
        inputs=[input_record(trace)],
        config={"dp_size": trace.meta.dp_size, "max_num_seqs": trace.meta.max_num_seqs},
        runs=[],
        headline=demand_headline(figures),
        notes=notes,
        workload={**figures, "replay_command": command},
    )

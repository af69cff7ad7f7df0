"""`lbal replay`: the same requests under other routing policies."""

from __future__ import annotations

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
    from pathlib import Path

    from lbal.analyzers.energy.power import EnergyView
    from lbal.analyzers.result.result import Result
    from lbal.analyzers.trace.trace import Trace
    from lbal.cli.output.collecting import Drawing, Watch
    from lbal.replay.engine.engine import Cluster, Conditions, Replay
    from lbal.replay.policy.policy import Policy
    from lbal.replay.scenario.workload import Workload

TRACE_SUFFIXES = {
    ".jsonl": "the replayed trace",
    ".jsonl.gz": "the replayed trace, compressed",
    ".parquet": "the replayed trace as a directory",
}


def replay(
    traces: Inputs,
    dp_size: Annotated[
        int | None, typer.Option("--dp-size", metavar="G", help="DP ranks (default: as in the trace).")
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", metavar="B", help="Slots per rank (default: as in the trace).")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="[LABEL=]NAME[:KEY=VALUE,…]",
            help="Routing policy, or path/to/file.py:Class; repeat to compare. See `lbal list policies`.",
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option("--arrivals", metavar="NAME", help="trace (arrival times) or backlog (a pool that is kept full)."),
    ] = None,
    rate_scale: Annotated[
        float | None, typer.Option("--rate-scale", metavar="X", help="Multiply the arrival rate of the trace.")
    ] = None,
    pool: Annotated[
        int | None, typer.Option("--pool", metavar="N", help="Waiting requests of a backlog (default: 4*G).")
    ] = None,
    binding: Annotated[
        str | None,
        typer.Option("--binding", metavar="NAME", help="pool or immediate (default: each policy's natural one)."),
    ] = None,
    kv_capacity: Annotated[
        int | None, typer.Option("--kv-capacity", metavar="TOKENS", help="KV tokens that fit on a rank.")
    ] = None,
    drift: Annotated[
        str, typer.Option("--drift", metavar="X", help="Growth of a load per step: 1, 0, any number, or window:W.")
    ] = "1",
    slot_use: Annotated[
        float | None,
        typer.Option("--slot-use", metavar="SHARE", help="Find the rate scale that keeps this share of slots busy."),
    ] = None,
    step_model: StepModel = None,
    rank_speed: RankSpeed = None,
    power_model: PowerModel = None,
    gpus_per_rank: GpusPerRank = None,
    bands: Bands = False,
    costs: CostList = None,
    window: WindowName = "all",
    steps: StepsShown = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the policies that draw, and of the first repeat.")
    ] = 0,
    repeat: Annotated[
        int,
        typer.Option("--repeat", metavar="N", help="Repeat with N seeds: means, 95% intervals, paired differences."),
    ] = 1,
    resample: Annotated[
        str,
        typer.Option(
            "--resample",
            metavar="NAME",
            help="Requests of a repeat: blocks (drawn from the trace) or none (the trace).",
        ),
    ] = "blocks",
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", min=1, help="Processes for repeats (default: one per core).")
    ] = None,
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
    """Replay the requests of a trace under routing policies and compare what the barrier costs."""
    from lbal.analyzers.barrier.window import WINDOWS
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.output.targets import check_targets, suffix_of
    from lbal.analyzers.result.report import report_suffixes
    from lbal.cli.output.collecting import Drawing
    from lbal.cli.output.console import deliver
    from lbal.cli.results.repeating import check_repeats, repeated_result
    from lbal.replay.engine.trial import try_policies
    from lbal.replay.experiment.repeats import Experiment
    from lbal.replay.scenario.drift import parse_drift

    outputs = output or []
    reading = Reading(traces, format_name, strict, rank_regex, run_index, time_unit=time_unit, columns=columns)
    chosen(window, WINDOWS, "--window")
    if arrivals is not None:
        chosen(arrivals, ("trace", "backlog"), "--arrivals")
    if binding is not None:
        chosen(binding, ("pool", "immediate"), "--binding")
    known = {**report_suffixes(), **TRACE_SUFFIXES}
    trace_outputs = [name for name in outputs if suffix_of(name, known) in TRACE_SUFFIXES]
    models = ModelOptions(step_model, rank_speed or [], power_model, gpus_per_rank, costs)
    specs = policy or ["round-robin", "jsq", "jsq-kv"]
    policies = _policies(specs)
    trace_files = _trace_files(trace_outputs, policies)
    reports = [name for name in outputs if name not in trace_outputs]
    reads = [*reading.files(), *models.files(), *_policy_files(specs)]
    check_targets([*reports, *(file for files in trace_files for file in files)], force=force, reads=reads)
    check_repeats(repeat, resample, traces=bool(trace_outputs), bands=bands)
    drawing = Drawing(reports, steps, as_json=as_json)
    models.check()
    read = reading.read()
    workload, cluster, conditions, notes = _setting(
        read,
        dp_size=dp_size,
        max_num_seqs=max_num_seqs,
        arrivals=arrivals,
        rate_scale=rate_scale,
        pool=pool,
        binding=binding,
        kv_capacity=kv_capacity,
        models=models,
        drift=parse_drift(drift),
        seed=seed,
    )
    try_policies(policies, cluster.dp_size)
    if slot_use is not None:
        conditions, found = _with_slot_use(slot_use, rate_scale, workload, cluster, policies[0], conditions)
        notes.append(found)
    view = models.energy_view(cluster.step_model)
    sized = slot_use is not None
    if repeat > 1:
        if "timeline" in drawing.needs:
            raise UsageError("--repeat: its runs have no single steps to write, expected no .perfetto.json beside it")
        experiment = Experiment(specs, workload, cluster, conditions, window, view, resample)  # type: ignore[arg-type]
        result = repeated_result(read, experiment, repeat, jobs, notes, sized=sized)
        deliver(result, as_json=as_json, outputs=outputs, force=force)
        return
    replays, watches = [], []
    for each, files in zip(policies, trace_files, strict=True):
        watches.append(drawing.watch(len(policies)))
        replayed = _replayed(
            workload, cluster, each, conditions, view, watches[-1], keep_steps=bool(trace_outputs), bands=bands
        )
        for name in files:
            _write_trace(replayed, name, force)
        replays.append(replayed)
    result = _result(read, workload, cluster, conditions, window, replays, notes, view, bands=bands, sized=sized)
    if drawing.needs:
        result = _drawn(result, replays, window, drawing, watches)
    deliver(result, as_json=as_json, outputs=drawing.outputs, force=force)


def _drawn(result: Result, replays: list[Replay], window: Any, drawing: Drawing, watches: list[Watch]) -> Result:
    from dataclasses import replace

    from lbal.replay.experiment.figures import window_accounts

    runs = [
        watch.drawn(run, window_accounts(replayed, window), replayed.step_model)
        for run, replayed, watch in zip(result.runs, replays, watches, strict=True)
    ]
    return replace(result, runs=runs, notes=[*result.notes, *drawing.notes(runs)])


def _policies(specs: list[str]) -> list[Policy]:
    from lbal.analyzers.errors import UsageError
    from lbal.replay.policy.policy import parse_policy

    policies = [parse_policy(spec) for spec in specs]
    labels = [each.label for each in policies]
    for label in labels:
        if labels.count(label) > 1:
            raise UsageError(f"--policy {label}: stands twice, expected each policy once")
    return policies


def _policy_files(specs: list[str]) -> list[str]:
    """The Python files that policies are read from."""
    from lbal.replay.policy.policy import labelled

    heads = [labelled(spec)[1].partition(":")[0] for spec in specs]
    return [head for head in heads if head.endswith(".py")]


def _trace_files(traces: list[str], policies: list[Policy]) -> list[tuple[str, ...]]:
    """For each policy, the files that its replayed trace is written to. Raises `UsageError` where they would share."""
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.output.targets import names_per_run

    for name in traces:
        if len(policies) > 1 and "{policy}" not in name:
            raise UsageError(
                f"-o {name}: a trace holds one policy and there are {len(policies)}, "
                "expected one --policy, or {policy} in the name of the file"
            )
    runs = [(each.given_label or each.name, each.label) for each in policies]
    if not traces:
        return [()] * len(runs)
    return list(zip(*(names_per_run(name, runs) for name in traces), strict=True))


def _setting(
    trace: Trace,
    *,
    dp_size: int | None,
    max_num_seqs: int | None,
    arrivals: str | None,
    rate_scale: float | None,
    pool: int | None,
    models: ModelOptions,
    kv_capacity: int | None,
    **conditions: Any,
) -> tuple[Workload, Cluster, Conditions, list[str]]:
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL
    from lbal.analyzers.models.step_models import step_model as model_named
    from lbal.replay.engine.engine import Cluster, Conditions
    from lbal.replay.scenario.workload import Workload

    ranks, slots = dp_size if dp_size is not None else trace.meta.dp_size, max_num_seqs
    if slots is None:
        slots = trace.meta.max_num_seqs
    for flag, value in (("--dp-size", ranks), ("--max-num-seqs", slots)):
        if value is None:
            raise UsageError(f"{flag}: is missing and {trace.meta.source} does not tell it, expected a whole number")
    assert ranks is not None
    assert slots is not None
    workload = Workload.of(trace)
    if arrivals is None:
        arrivals = "trace" if workload.arrival_ms is not None else "backlog"
    if arrivals == "trace" and pool is not None:
        raise UsageError(f"--pool: {pool} has no meaning with arrival times, expected --arrivals backlog beside it")
    if arrivals == "backlog" and rate_scale is not None:
        raise UsageError(
            f"--rate-scale: {rate_scale:g} has no meaning for a backlog, expected --arrivals trace beside it"
        )
    model, notes = models.given_step_model(slots)
    cluster = Cluster(ranks, slots, model or models.with_speeds(model_named(DEFAULT_STEP_MODEL, slots)), kv_capacity)
    scale = 1.0 if rate_scale is None else rate_scale
    found = Conditions(arrivals=arrivals, pool=pool, rate_scale=scale, **conditions)  # type: ignore[arg-type]
    return workload, cluster, found, notes


def _with_slot_use(
    slot_use: float,
    rate_scale: float | None,
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    conditions: Conditions,
) -> tuple[Conditions, str]:
    from dataclasses import replace

    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.wording.numbers import percent
    from lbal.replay.experiment.rate_scale import find_rate_scale

    if conditions.arrivals == "backlog":
        raise UsageError("--slot-use: a backlog has no rate, expected --arrivals trace")
    if rate_scale is not None:
        raise UsageError("--slot-use: it finds the rate scale itself, expected no --rate-scale beside it")
    found = find_rate_scale(slot_use, workload, cluster, policy, conditions)
    text = (
        f"--rate-scale {found.rate_scale:.6g} keeps {percent(found.slot_use)} of the slots busy under {policy.label}, "
        "up to the last admission"
    )
    return replace(conditions, rate_scale=found.rate_scale), text


def _replayed(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    conditions: Conditions,
    view: EnergyView,
    watch: Watch,
    *,
    keep_steps: bool,
    bands: bool,
) -> Replay:
    from lbal.cli.output.progress import replay_progress
    from lbal.replay.engine.engine import replay as run_replay
    from lbal.replay.experiment.figures import other_slopes

    with replay_progress(policy.label, len(workload)) as on_progress:
        return run_replay(
            workload,
            cluster,
            policy,
            conditions,
            keep_steps=keep_steps,
            curves=view.power.curves,
            also=other_slopes(cluster) if bands else (),
            on_steps=watch.see,
            on_progress=on_progress,
        )


def _write_trace(replayed: Replay, name: str, force: bool) -> None:
    from lbal.analyzers.output.files import write_file
    from lbal.analyzers.trace.writing.native import write_native, write_parquet

    def write(path: Path) -> None:
        if path.suffix.lower() == ".parquet":
            write_parquet(replayed.trace, path)
        else:
            write_native(replayed.trace, path)

    write_file(name, write, force=force)


def _result(
    trace: Trace,
    workload: Workload,
    cluster: Cluster,
    conditions: Conditions,
    window: str,
    replays: list[Replay],
    notes: list[str],
    view: EnergyView,
    *,
    bands: bool,
    sized: bool,
) -> Any:
    from lbal.analyzers.result.result import Result, input_record
    from lbal.analyzers.wording.findings import replay_headline, window_note
    from lbal.cli.results.replay_findings import savings, with_bands, with_fidelity_of, with_headroom
    from lbal.cli.results.replay_setting import notes_on_load, replay_config
    from lbal.replay.experiment.figures import reference_of, run_of, with_savings

    config = replay_config(cluster, conditions, window, view)
    runs = [run_of(replayed, cluster, window, view) for replayed in replays]  # type: ignore[arg-type]
    runs = with_savings(runs, replays, view, window)  # type: ignore[arg-type]
    runs, sensitivity = with_bands(runs, replays, view, window) if bands else (runs, {})
    runs, headroom = with_headroom(runs, replays, workload, cluster, conditions, window, view)
    runs, fidelity = with_fidelity_of(trace, runs, cluster, window)
    load = notes_on_load(trace, workload, cluster, conditions, runs, config, sized=sized)
    notes = [*trace.meta.warnings, *notes, *load, *window_note(config, runs)]
    return Result(
        command="replay",
        inputs=[input_record(trace)],
        config=config,
        runs=runs,
        headline=replay_headline(runs, reference_of(runs)),
        notes=notes,
        headroom=headroom,
        energy={"findings": savings(runs, view)},
        bands=sensitivity,
        fidelity=fidelity,
    )

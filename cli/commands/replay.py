"""`lbal replay`: the same requests under other routing policies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
)
from lbal.cli.options.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lbal.replay.engine.engine import Replay
    from lbal.replay.policy.policy import Policy

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
            help="Routing policy, or path/to/file.py:Class; repeat to compare (default: recorded where the trace has "
            "ranks, round-robin, jsq, jsq-kv). See `lbal list policies`.",
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option(
            "--arrivals",
            metavar="NAME",
            help="trace (arrival times), backlog (a pool that is kept full), closed:N (N in flight), poisson:RATE or "
            "gamma:RATE,CV (drawn; requests per s).",
        ),
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
    prefill: Annotated[
        str | None,
        typer.Option(
            "--prefill",
            metavar="NAME[:KEY=VALUE,…]",
            help="How ranks compute prompts: none (they only decode), vllm, sglang, trtllm, atom, or "
            "path/to/file.py:Class. See `lbal list prefill-rules`.",
        ),
    ] = None,
    padding: Annotated[
        bool | None,
        typer.Option("--padding/--no-padding", help="Pad ranks to one another (default: as the engine of --prefill)."),
    ] = None,
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
    slo: Annotated[
        str | None,
        typer.Option("--slo", metavar="NAME=MS,…", help="Goodput: requests within limits on ttft, tpot, itl, e2e."),
    ] = None,
    window: WindowName = "all",
    steps: StepsShown = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of policies and arrivals that draw, and of the first repeat.")
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
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.models.choice import ModelChoice
    from lbal.analyzers.output.targets import check_targets, suffix_of
    from lbal.analyzers.result.report import report_suffixes
    from lbal.cli.output.collecting import drawing_for
    from lbal.cli.output.console import deliver
    from lbal.cli.output.progress import TerminalDisplay
    from lbal.replay.experiment.options import ReplayOptions
    from lbal.replay.experiment.replaying import replay_result

    outputs = output or []
    reading = Reading(traces, format_name, strict, rank_regex, run_index, time_unit=time_unit, columns=columns)
    options = ReplayOptions(
        dp_size=dp_size,
        max_num_seqs=max_num_seqs,
        policies=policy,
        arrivals=arrivals,
        rate_scale=rate_scale,
        pool=pool,
        binding=binding,
        kv_capacity=kv_capacity,
        drift=drift,
        prefill=prefill,
        padding=padding,
        slot_use=slot_use,
        models=ModelChoice(step_model, rank_speed or [], power_model, gpus_per_rank, costs),
        bands=bands,
        slo=slo,
        window=window,
        seed=seed,
        repeat=repeat,
        resample=resample,
        jobs=jobs,
    )
    known = {**report_suffixes(), **TRACE_SUFFIXES}
    trace_outputs = [name for name in outputs if suffix_of(name, known) in TRACE_SUFFIXES]
    reports = [name for name in outputs if name not in trace_outputs]
    trace_files = _trace_files(trace_outputs, options.parsed_policies)
    rules = [*(policy or ()), *([prefill] if prefill else ())]
    reads = [*reading.files(), *options.models.files(), *_python_files(rules)]
    check_targets([*reports, *(file for files in trace_files.values() for file in files)], force=force, reads=reads)
    drawing = drawing_for(reports, steps, as_json=as_json)
    if repeat > 1 and trace_outputs:
        raise UsageError("its runs have no single trace to write, expected reports as outputs", parameter="repeat")
    if repeat > 1 and "timeline" in drawing.needs:
        problem = "its runs have no single steps to write, expected no .perfetto.json beside it"
        raise UsageError(problem, parameter="repeat")

    def write(replayed: Replay) -> None:
        for name in trace_files[replayed.policy.label]:
            _write_trace(replayed, name, force)

    result = replay_result(
        reading.read(),
        options,
        drawing=drawing,
        display=TerminalDisplay(),
        keep_steps=bool(trace_outputs),
        on_replay=write,
    )
    deliver(result, as_json=as_json, outputs=reports, force=force)


def _python_files(specs: Sequence[str]) -> list[str]:
    """The Python files that policies and rules are read from."""
    from lbal.replay.policy.policy import labelled

    heads = [labelled(spec)[1].partition(":")[0] for spec in specs]
    return [head for head in heads if head.endswith(".py")]


def _trace_files(traces: list[str], policies: list[Policy]) -> dict[str, tuple[str, ...]]:
    """The files that each policy's replayed trace goes to, by its label. Raises `UsageError` where they would share."""
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
        return {each.label: () for each in policies}
    files = zip(*(names_per_run(name, runs) for name in traces), strict=True)
    return {each.label: found for each, found in zip(policies, files, strict=True)}


def _write_trace(replayed: Replay, name: str, force: bool) -> None:
    from lbal.analyzers.output.files import write_file
    from lbal.analyzers.trace.writing.native import write_native, write_parquet

    def write(path: Path) -> None:
        if path.suffix.lower() == ".parquet":
            write_parquet(replayed.trace, path)
        else:
            write_native(replayed.trace, path)

    write_file(name, write, force=force)

"""`lbal advise`: which of an engine's own settings suits the requests of a trace."""

from __future__ import annotations

from typing import Annotated

import typer

from lbal.cli.options.options import (
    AsJson,
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
    Strict,
    TimeUnitName,
    WindowName,
)
from lbal.cli.options.reading import Reading


def advise(
    traces: Inputs,
    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="Whose settings are tried: vllm, sglang or trtllm.")
    ],
    prefill: Annotated[
        str | None,
        typer.Option(
            "--prefill",
            metavar="NAME[:KEY=VALUE,…]",
            help="The rule of the engine with what it runs with now, as sglang:chunk=16384 (default: as it comes).",
        ),
    ] = None,
    dp_size: Annotated[
        int | None, typer.Option("--dp-size", metavar="G", help="DP ranks (default: as in the trace).")
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", metavar="B", help="Slots per rank (default: as in the trace).")
    ] = None,
    kv_capacity: Annotated[
        int | None,
        typer.Option(
            "--kv-capacity", metavar="TOKENS", help="KV tokens that fit on a rank: then more slots are tried."
        ),
    ] = None,
    arrivals: Annotated[
        str | None,
        typer.Option("--arrivals", metavar="NAME", help="trace, backlog, closed:N, … as `lbal replay` takes it."),
    ] = None,
    rate_scale: Annotated[
        float | None, typer.Option("--rate-scale", metavar="X", help="Multiply the arrival rate of the trace.")
    ] = None,
    pool: Annotated[
        int | None, typer.Option("--pool", metavar="N", help="Waiting requests of a backlog (default: 4*G).")
    ] = None,
    step_model: StepModel = None,
    rank_speed: RankSpeed = None,
    power_model: PowerModel = None,
    gpus_per_rank: GpusPerRank = None,
    costs: CostList = None,
    window: WindowName = "all",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of arrivals that are drawn.")] = 0,
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
    """Replay a short list of an engine's own settings on a trace, and say which is sure to help, as its flags."""
    from lbal.analyzers.models.choice import ModelChoice
    from lbal.analyzers.result.reading import refuse_result
    from lbal.cli.output.console import check_reports, deliver
    from lbal.cli.output.progress import TerminalDisplay
    from lbal.replay.advice.advising import Asked
    from lbal.replay.experiment.options import ReplayOptions

    outputs = output or []
    reading = Reading(traces, format_name, strict, rank_regex, run_index, time_unit=time_unit, columns=columns)
    options = ReplayOptions(
        dp_size=dp_size,
        max_num_seqs=max_num_seqs,
        arrivals=arrivals,
        rate_scale=rate_scale,
        pool=pool,
        kv_capacity=kv_capacity,
        models=ModelChoice(step_model, rank_speed or [], power_model, gpus_per_rank, costs),
        window=window,
        seed=seed,
    )
    asked = Asked(engine, prefill, options)
    check_reports(outputs, force=force, reads=[*reading.files(), *options.models.files()])
    for name in reading.files():
        refuse_result(name)
    result = asked.advice(reading.read(), display=TerminalDisplay())
    deliver(result, as_json=as_json, outputs=outputs, force=force)

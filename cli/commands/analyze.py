"""`lbal analyze`: what a trace says of the barrier, or of its workload."""

from __future__ import annotations

from typing import Annotated

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
    KvCapacity,
    Outputs,
    PowerModel,
    RankRegex,
    RanksOfLog,
    RankSpeed,
    RunIndex,
    StepModel,
    StepsShown,
    Strict,
    TimeUnitName,
    WindowName,
)
from lbal.cli.options.reading import Reading


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
    dp_size: RanksOfLog = None,
    kv_capacity: KvCapacity = None,
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
    from lbal.analyzers.errors import one_of
    from lbal.analyzers.models.choice import ModelChoice
    from lbal.cli.output.collecting import drawing_for
    from lbal.cli.output.console import check_reports, deliver
    from lbal.cli.output.progress import TerminalDisplay
    from lbal.replay.experiment.analyzing import analysis_result
    from lbal.replay.experiment.options import DEFAULT_MAX_NUM_SEQS

    outputs = output or []
    reading = Reading(
        traces, format_name, strict, rank_regex, run_index, kv_capacity, dp_size, time_unit=time_unit, columns=columns
    )
    one_of(window, WINDOWS, "window")
    models = ModelChoice(step_model, rank_speed or [], power_model, gpus_per_rank, costs)
    check_reports(outputs, force=force, reads=[*reading.files(), *models.files()])
    drawing = drawing_for(outputs, steps, as_json=as_json)
    models.check(max_num_seqs or DEFAULT_MAX_NUM_SEQS)
    result = analysis_result(
        reading.read(steps="blocks"),
        models,
        bands=bands,
        max_num_seqs=max_num_seqs,
        window=window,
        drawing=drawing,
        display=TerminalDisplay(),
        read_with=reading.arguments(),
    )
    deliver(result, as_json=as_json, outputs=outputs, force=force)

"""`lbal calibrate`: a step-time model from the recorded steps of a trace."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lbal.cli.options.options import (
    AsJson,
    Force,
    FormatName,
    Inputs,
    KvCapacity,
    RankRegex,
    RanksOfLog,
    RunIndex,
    Strict,
)
from lbal.cli.options.reading import Reading

TARGETS = {".json": "the model"}


def calibrate(
    traces: Inputs,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the model, which replay and analyze read."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Name of the model (default: of the trace).")
    ] = "",
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME", help="Accelerator, by its power model: energy then uses that.")
    ] = "",
    gpus_per_rank: Annotated[
        int, typer.Option("--gpus-per-rank", metavar="K", min=1, max=1024, help="Accelerators per rank.")
    ] = 1,
    force: Force = False,
    as_json: AsJson = False,
    format_name: FormatName = None,
    strict: Strict = False,
    rank_regex: RankRegex = None,
    run_index: RunIndex = None,
    dp_size: RanksOfLog = None,
    kv_capacity: KvCapacity = None,
) -> None:
    """Fit the coefficients of a step-time model to the recorded steps of a trace, and say how far to trust them."""
    from lbal.analyzers.analysis.calibrating import calibrate as calibrated
    from lbal.analyzers.models.power_models import checked_gpu
    from lbal.analyzers.output.targets import check_targets, suffix_of
    from lbal.cli.output.console import deliver

    reading = Reading(traces, format_name, strict, rank_regex, run_index, kv_capacity, dp_size)
    if output is not None:
        suffix_of(output, TARGETS)
        check_targets([output], force=force, reads=reading.files())
    checked_gpu(gpu)
    result = calibrated(reading.read(), name=name, gpu=gpu, gpus_per_rank=gpus_per_rank)
    if output is not None:
        record = {"lbal_step_model": 1, **result.config["step_model"], "calibration": dict(result.calibration)}
        _write(output, record, force)
    deliver(result, as_json=as_json, outputs=[], force=force)


def _write(name: str, record: dict[str, Any], force: bool) -> None:
    from lbal.analyzers.output.files import write_text
    from lbal.analyzers.result.json_text import json_text

    write_text(name, json_text(record), force=force)

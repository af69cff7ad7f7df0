"""`lbal convert`: any trace to the native form or to a Parquet directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lbal.cli.options.options import (
    ColumnNames,
    Force,
    FormatName,
    Inputs,
    KvCapacity,
    RankRegex,
    RanksOfLog,
    RunIndex,
    Strict,
    TimeUnitName,
)
from lbal.cli.options.reading import Reading

TARGETS = {
    ".jsonl": "native JSON Lines",
    ".jsonl.gz": "native JSON Lines, compressed",
    ".parquet": "a directory of Parquet files",
}


def convert(
    traces: Inputs,
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help="name.jsonl, name.jsonl.gz, name.parquet (a directory), or - for stdout."),
    ],
    force: Force = False,
    format_name: FormatName = None,
    strict: Strict = False,
    rank_regex: RankRegex = None,
    run_index: RunIndex = None,
    dp_size: RanksOfLog = None,
    kv_capacity: KvCapacity = None,
    time_unit: TimeUnitName = None,
    columns: ColumnNames = None,
) -> None:
    """Write a trace in the native form: JSON Lines, or a Parquet directory for big ones."""
    from lbal.analyzers.output.files import write_file
    from lbal.analyzers.output.targets import check_targets, suffix_of
    from lbal.analyzers.trace.writing.native import write_native, write_parquet
    from lbal.cli.output.console import binary_stdout, say

    reading = Reading(
        traces, format_name, strict, rank_regex, run_index, kv_capacity, dp_size, time_unit=time_unit, columns=columns
    )
    suffix = None if target == "-" else suffix_of(target, TARGETS, flag="")
    if suffix is not None:
        check_targets([target], force=force, reads=reading.files())
    read = reading.read(steps="blocks")
    for warning in read.meta.warnings:
        say(f"note: {warning}")
    if suffix is None:
        with binary_stdout() as stream:
            write_native(read, stream)
        return

    def write(path: Path) -> None:
        if suffix == ".parquet":
            write_parquet(read, path)
        else:
            write_native(read, path)

    write_file(target, write, force=force)
    say(f"wrote {target}: {read.num_requests:,} requests, {read.num_steps:,} steps")

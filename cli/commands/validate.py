"""`lbal validate`: whether files are valid traces."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lbal.cli.options.options import AsJson, ColumnNames, FormatName, RanksOfLog, Strict, TimeUnitName
from lbal.cli.options.reading import Reading


def validate(
    traces: Annotated[list[str], typer.Argument(metavar="TRACE…", help="Traces to check; `-` for standard input.")],
    as_json: AsJson = False,
    format_name: FormatName = None,
    strict: Strict = False,
    dp_size: RanksOfLog = None,
    time_unit: TimeUnitName = None,
    columns: ColumnNames = None,
) -> None:
    """Check that traces can be read whole; says what is in them, or where the first is wrong (exit code 2)."""
    from lbal.analyzers.plain import plain
    from lbal.analyzers.result.result import Result, input_record
    from lbal.analyzers.wording.numbers import count, listed
    from lbal.cli.output.console import emit, say
    from lbal.cli.reports.json import JsonReport

    records: list[dict[str, Any]] = []
    notes: list[str] = []
    lines: list[str] = []
    for name in traces:
        reading = Reading([name], format_name, strict, dp_size=dp_size, time_unit=time_unit, columns=columns)
        trace = reading.read(steps="counted")
        records.append(input_record(trace))
        notes += [f"note: {trace.meta.source}: {warning}" for warning in trace.meta.warnings]
        parts = []
        if trace.num_requests:
            parts.append(count(trace.num_requests, "request"))
        if trace.num_steps:
            parts.append(f"{count(trace.num_steps, 'step')} of {count(trace.meta.dp_size or 0, 'rank')}")
        lines.append(f"{plain(trace.meta.source)}: valid {trace.meta.format} trace with {listed(parts)}\n")
    for note in notes:
        say(note)
    if not as_json:
        emit("".join(lines))
    else:
        result = Result("validate", records, {"strict": strict}, [], headline=f"{count(len(records), 'valid trace')}.")
        emit(JsonReport().render(result))

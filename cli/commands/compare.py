"""`lbal compare`: what differs between results, and how sure that is."""

from __future__ import annotations

from typing import Annotated

import typer

from lbal.cli.options.options import AllowMismatch, AsJson, BaseRun, Force, HeadRun, Outputs


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Result to compare with (JSON, from -o name.json).")],
    heads: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HEAD…]", help="Results to compare; without one, the runs of BASE with each other."),
    ] = None,
    run: HeadRun = None,
    base_run: BaseRun = None,
    allow_mismatch: AllowMismatch = None,
    output: Outputs = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare results: differences, which direction is better, what differs in configuration, and how sure it is.

    Runs of the same label are compared. A difference without an interval is not judged.
    """
    from lbal.analyzers.analysis.comparing import allowed_mismatches
    from lbal.analyzers.analysis.comparing import compare as compared
    from lbal.analyzers.result.reading import read_result
    from lbal.cli.output.console import check_reports, deliver

    outputs = output or []
    allowed = allowed_mismatches(allow_mismatch or [])
    names = [base, *(heads or [])]
    check_reports(outputs, force=force, reads=names)
    stored = [read_result(name, any_schema="schema" in allowed) for name in names]
    result = compared(*stored, run=run, base_run=base_run, allow_mismatch=allowed)
    deliver(result, as_json=as_json, outputs=outputs, force=force)

"""`lbal render`: the reports of a stored result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from lbal.cli.options.options import AsJson, Force, Outputs

if TYPE_CHECKING:
    from lbal.analyzers.result.result import Result


def render(
    result: Annotated[
        str, typer.Argument(metavar="RESULT", help="Result to show (JSON, from -o name.json or --json); - is stdin.")
    ],
    output: Outputs = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Show a stored result as its command did, and write reports of it, charts included, without computing anew."""
    from lbal.analyzers.result.reading import read_result
    from lbal.analyzers.result.showing import check_showable
    from lbal.cli.output.console import check_reports, deliver

    outputs = output or []
    check_reports(outputs, force=force, reads=[result])
    stored = read_result(result)
    check_showable(stored.result, stored.name)
    _refuse_single_steps(stored.name, outputs, stored.result)
    deliver(stored.result, as_json=as_json, outputs=outputs, force=force)


def _refuse_single_steps(name: str, outputs: Sequence[str], result: Result) -> None:
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.output.targets import suffix_of
    from lbal.analyzers.result.report import report_of, report_suffixes

    for each in outputs:
        if "timeline" in report_of(suffix_of(each, report_suffixes())).needs:
            command = f"lbal {result.command} … -o {each}" if result.command in ("analyze", "replay") else "a replay"
            raise UsageError(f"-o {each}: {name} holds no single steps, expected {command}, which has them")

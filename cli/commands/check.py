"""`lbal check`: gates on a result, for CI."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lbal.cli.options.options import AllowMismatch, AsJson, BaseRun, Force, HeadRun, Outputs

if TYPE_CHECKING:
    from lbal.cli.options.gate_config import CheckSettings

GATE_FAILED = 1


def check(
    head: Annotated[str, typer.Argument(metavar="HEAD", help="Result to check (JSON, from -o name.json).")],
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="FILE", help="Result that changes are measured against.")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option("--fail-on", metavar="GATE", help="METRIC:+5%, METRIC:+3%,+0.5, METRIC:±0%, METRIC<=60; repeat."),
    ] = None,
    warn_on: Annotated[
        list[str] | None, typer.Option("--warn-on", metavar="GATE", help="The same, but it only warns; repeat.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Inconclusive gates fail.")] = False,
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit code 0 even where a gate failed.")] = False,
    record_baseline: Annotated[
        bool, typer.Option("--record-baseline", help="Make HEAD the baseline instead of checking it.")
    ] = False,
    report: Annotated[
        list[str] | None,
        typer.Option("--report", metavar="NAME[=FILE]", help="github, or a report such as junit=FILE; repeat."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE", help="Settings (default: lbal.toml, or [tool.lbal] of pyproject.toml)."
        ),
    ] = None,
    run: HeadRun = None,
    base_run: BaseRun = None,
    allow_mismatch: AllowMismatch = None,
    output: Outputs = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Check a result against limits and a baseline: exit code 1 if a gate failed, and only then.

    Gates of the command line are added to those of the settings file.
    """
    from lbal.analyzers.analysis.checking import check as checked
    from lbal.analyzers.analysis.checking import gates_of
    from lbal.analyzers.analysis.comparing import allowed_mismatches
    from lbal.analyzers.result.reading import read_result
    from lbal.cli.options.gate_config import check_settings
    from lbal.cli.output.gate_reports import GateReports

    settings = _merged(
        check_settings(config), baseline, fail_on or [], warn_on or [], allow_mismatch or [], strict=strict
    )
    if record_baseline:
        _record(head, settings)
        return
    reports = GateReports.of(report or [], output or [], force=force, reads=[head, settings.baseline, settings.file])
    gates_of(settings.fail_on, settings.warn_on, has_baseline=settings.baseline is not None)
    any_schema = "schema" in allowed_mismatches(settings.allow_mismatch)
    result = checked(
        read_result(head, any_schema=any_schema),
        None if settings.baseline is None else read_result(settings.baseline, any_schema=any_schema),
        fail_on=settings.fail_on,
        warn_on=settings.warn_on,
        strict=settings.strict,
        run=run,
        base_run=base_run,
        allow_mismatch=settings.allow_mismatch,
        settings=settings.file,
    )
    reports.deliver(result, as_json=as_json)
    if any(gate["fails"] for gate in result.check["gates"]) and not exit_zero:
        raise typer.Exit(GATE_FAILED)


def _merged(
    settings: CheckSettings,
    baseline: str | None,
    fail_on: list[str],
    warn_on: list[str],
    allow_mismatch: list[str],
    *,
    strict: bool,
) -> CheckSettings:
    return replace(
        settings,
        baseline=baseline if baseline is not None else settings.baseline,
        fail_on=[*settings.fail_on, *fail_on],
        warn_on=[*settings.warn_on, *warn_on],
        allow_mismatch=[*settings.allow_mismatch, *allow_mismatch],
        strict=settings.strict or strict,
    )


def _record(head: str, settings: CheckSettings) -> None:
    """Put the bytes of the head, which must be a result with runs, in place of the baseline."""
    from pathlib import Path

    from lbal.analyzers.compare.pairs import with_runs
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.output.files import write_file
    from lbal.analyzers.output.targets import check_targets
    from lbal.analyzers.result.reading import read_result
    from lbal.cli.output.console import say

    baseline = settings.baseline
    if baseline is None:
        raise UsageError("--record-baseline: there is no baseline to record, expected --baseline FILE")
    check_targets([baseline], force=True, reads=[head, settings.file])
    with_runs(read_result(head))
    content = Path(head).read_bytes()
    write_file(baseline, lambda path: _write(path, content), force=True)
    say(f"recorded {head} as the baseline {baseline}")


def _write(path: Any, content: bytes) -> None:
    path.write_bytes(content)

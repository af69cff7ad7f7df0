"""`lbal check`: gates on a result, for CI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lbal.cli.options.options import AllowMismatch, AsJson, BaseRun, BootstrapSeed, Force, HeadRun, Outputs

if TYPE_CHECKING:
    from lbal.analyzers.compare.gate import Gate
    from lbal.analyzers.compare.pairs import Pair
    from lbal.analyzers.result.reading import Stored
    from lbal.analyzers.result.result import Result
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
    seed: BootstrapSeed = 0,
    output: Outputs = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Check a result against limits and a baseline: exit code 1 if a gate failed, and only then.

    Gates of the command line are added to those of the settings file.
    """
    from lbal.cli.options.gate_config import check_settings
    from lbal.cli.output.gate_reports import GateReports
    from lbal.cli.results.comparing import allowed_mismatches

    settings = _merged(
        check_settings(config), baseline, fail_on or [], warn_on or [], allow_mismatch or [], strict=strict
    )
    if record_baseline:
        _record(head, settings)
        return
    reports = GateReports.of(report or [], output or [], force=force, reads=[head, settings.baseline, settings.file])
    gates = _gates(settings)
    allowed = allowed_mismatches(settings.allow_mismatch)
    result = _result(head, settings, gates, allowed, run, base_run, seed)
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


def _gates(settings: CheckSettings) -> list[Gate]:
    from lbal.analyzers.compare.gate import parse_gate
    from lbal.analyzers.errors import UsageError

    gates = [parse_gate(text, "fail") for text in settings.fail_on]
    gates += [parse_gate(text, "warn") for text in settings.warn_on]
    if not gates:
        raise UsageError("there is nothing to check, expected --fail-on METRIC:+5% or gates in lbal.toml")
    needing = next((gate for gate in gates if gate.needs_baseline), None)
    if needing is not None and settings.baseline is None:
        raise UsageError(f"'{needing.text}' limits a change, expected --baseline FILE (or a threshold, METRIC<=60)")
    return gates


def _pairs(
    stored: Stored, settings: CheckSettings, allowed: Sequence[str], run: str | None, base_run: str | None
) -> tuple[list[Pair], Stored | None, dict[str, Any]]:
    from lbal.analyzers.compare.pairs import run_pairs, with_runs
    from lbal.analyzers.errors import UsageError, unknown_name
    from lbal.analyzers.result.reading import read_result
    from lbal.cli.results.comparing import refuse_mismatch

    if settings.baseline is not None:
        base = with_runs(read_result(settings.baseline, any_schema="schema" in allowed))
        agreed = refuse_mismatch(base, stored, allowed)
        return run_pairs(base, stored, run, base_run), base, agreed
    if base_run is not None:
        raise UsageError(f"--base-run: {base_run} has no meaning without a baseline, expected --baseline FILE")
    runs = [each for each in stored.result.runs if run in (None, each.label)]
    if not runs:
        raise unknown_name("run", str(run), [each.label for each in stored.result.runs])
    return [(None, each) for each in runs], None, {}


def _result(
    head: str,
    settings: CheckSettings,
    gates: list[Gate],
    allowed: Sequence[str],
    run: str | None,
    base_run: str | None,
    seed: int,
) -> Result:
    from lbal.analyzers.compare.gate import judge
    from lbal.analyzers.compare.pairs import with_runs
    from lbal.analyzers.result.reading import read_result
    from lbal.analyzers.result.result import Result
    from lbal.analyzers.wording.differences import check_headline
    from lbal.cli.results.comparing import config_changes_of, inputs_of

    stored = with_runs(read_result(head, any_schema="schema" in allowed))
    pairs, base, agreed = _pairs(stored, settings, allowed, run, base_run)
    outcomes = judge(gates, pairs)
    record = {
        "head": head,
        "baseline": settings.baseline,
        "strict": settings.strict,
        "allowed_mismatches": agreed,
        "config_changes": {} if base is None else config_changes_of(base, stored),
        "gates": [{**each.as_dict(), "fails": each.fails(strict=settings.strict)} for each in outcomes],
    }
    return Result(
        command="check",
        inputs=inputs_of([stored, *([] if base is None else [base])]),
        config={"seed": seed, "confidence": 0.95, "settings": settings.file},
        runs=[],
        headline=check_headline(record),
        check=record,
    )

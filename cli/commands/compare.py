"""`lbal compare`: what differs between results, and how sure that is."""

from __future__ import annotations

from typing import Annotated

import typer

from lbal.cli.options.options import AllowMismatch, AsJson, BaseRun, BootstrapSeed, Force, HeadRun, Outputs


def compare(
    base: Annotated[str, typer.Argument(metavar="BASE", help="Result to compare with (JSON, from -o name.json).")],
    heads: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HEAD…]", help="Results to compare; without one, the runs of BASE with each other."),
    ] = None,
    run: HeadRun = None,
    base_run: BaseRun = None,
    allow_mismatch: AllowMismatch = None,
    seed: BootstrapSeed = 0,
    output: Outputs = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Compare results: differences, which direction is better, what differs in configuration, and how sure it is.

    Runs of the same label are compared. Every difference is better, worse, equal or inconclusive.
    """
    from lbal.analyzers.compare.pairs import run_pairs, with_runs, within
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.result.reading import read_result
    from lbal.analyzers.result.result import Result
    from lbal.analyzers.wording.differences import compare_headline, missing_notes
    from lbal.cli.output.console import check_reports, deliver
    from lbal.cli.results.comparing import allowed_mismatches, inputs_of, pair_record, refuse_mismatch

    outputs = output or []
    allowed = allowed_mismatches(allow_mismatch or [])
    check_reports(outputs, force=force, reads=[base, *(heads or [])])
    first, *others = (with_runs(read_result(name, any_schema="schema" in allowed)) for name in (base, *(heads or [])))
    records = []
    for head in others:
        agreed = refuse_mismatch(first, head, allowed)
        records += [pair_record(first, head, pair, agreed) for pair in run_pairs(first, head, run, base_run)]
    if others and not any(record["differences"] for record in records):
        raise UsageError(f"{base}: no run has the label of one it is compared with, expected --run and --base-run")
    if not others:
        records = [pair_record(first, first, pair, {}) for pair in within(first, run, base_run)]
    result = Result(
        command="compare",
        inputs=inputs_of([first, *others]),
        config={"seed": seed, "confidence": 0.95},
        runs=[],
        headline=compare_headline(records),
        notes=missing_notes(records),
        comparison={"pairs": records},
    )
    deliver(result, as_json=as_json, outputs=outputs, force=force)

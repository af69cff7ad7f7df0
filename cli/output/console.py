"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lbal.analyzers.errors import OutputError, UsageError
from lbal.analyzers.result.result import Result
from lbal.cli.output.files import check_target, suffix_of, write_file
from lbal.cli.reports import REPORTS, Report


def say(message: str) -> None:
    """A note for the person, on stderr."""
    print(f"lbal: {message}", file=sys.stderr)


def report_suffixes() -> dict[str, str]:
    """Suffixes of the reports, and what each one is."""
    return {suffix: report.content for report in REPORTS.classes() for suffix in report.suffixes}


def report_of(suffix: str) -> type[Report]:
    """The report that files of that suffix ask for."""
    return next(cls for cls in REPORTS.classes() if suffix in cls.suffixes)


def check_reports(outputs: Sequence[str], *, force: bool, input_name: str, also: dict[str, str] | None = None) -> None:
    """Refuse outputs that no report can write or that cannot be written, before any work is done."""
    known = {**report_suffixes(), **(also or {})}
    paths = []
    for name in outputs:
        suffix_of(name, known)
        paths.append(check_target(name, force=force, input_name=input_name))
        if paths.count(paths[-1]) > 1:
            raise UsageError(f"-o {name}: stands twice, expected different files")


def deliver(result: Result, *, as_json: bool, outputs: Sequence[str], force: bool) -> None:
    """Notes to stderr, reports to files, and the result to stdout."""
    for name in outputs:
        suffix = suffix_of(name, report_suffixes())
        write_report(report_of(suffix), result, name, force=force)
    for note in result.notes:
        say(f"note: {note}")
    if as_json:
        from lbal.cli.reports.json import JsonReport

        emit(JsonReport().render(result))
    else:
        from lbal.cli.reports.table import TableReport

        emit(TableReport().render_for_stdout(result))


def write_report(report: type[Report], result: Result, name: str, *, force: bool) -> None:
    """One report of the result to a file, whole or not at all."""
    text = report().render(result)
    write_file(check_target(name, force=force), lambda path: _write_text(path, text))


def emit(text: str) -> None:
    """Text to stdout; characters that its encoding lacks are replaced rather than fatal.

    Raises `OutputError` where stdout is closed or full; `BrokenPipeError` where its reader has gone.
    """
    if sys.stdout is None:
        raise OutputError("standard output: is closed, expected one that can be written")
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, errors="replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written: {error.strerror or error}") from error


def _write_text(path: object, text: str) -> None:
    with open(str(path), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)

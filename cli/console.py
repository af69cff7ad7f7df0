"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lbal.analyzers.result import Result
from lbal.cli.files import check_target, suffix_of, write_file
from lbal.cli.reports import REPORTS


def say(message: str) -> None:
    """A note for the person, on stderr."""
    print(f"lbal: {message}", file=sys.stderr)


def report_suffixes() -> dict[str, str]:
    """Suffixes of the reports, and what each one is."""
    return {suffix: report.content for report in REPORTS.classes() for suffix in report.suffixes}


def check_reports(outputs: Sequence[str], *, force: bool, also: dict[str, str] | None = None) -> None:
    """Refuse outputs that no report can write or that cannot be written, before any work is done."""
    known = {**report_suffixes(), **(also or {})}
    for name in outputs:
        suffix_of(name, known)
        check_target(name, force=force)


def deliver(result: Result, *, as_json: bool, outputs: Sequence[str], force: bool) -> None:
    """Notes to stderr, reports to files, and the result to stdout."""
    for note in result.notes:
        say(f"note: {note}")
    for name in outputs:
        suffix = suffix_of(name, report_suffixes())
        report = next(cls for cls in REPORTS.classes() if suffix in cls.suffixes)
        text = report().render(result)
        write_file(check_target(name, force=force), lambda path, text=text: _write_text(path, text))  # type: ignore[misc]
    if as_json:
        from lbal.cli.reports.json import JsonReport

        emit(JsonReport().render(result))
    else:
        from lbal.cli.reports.table import TableReport

        emit(TableReport().render_for_stdout(result))


def emit(text: str) -> None:
    """Text to stdout; characters that its encoding lacks are replaced rather than fatal."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, errors="replace").decode(encoding))


def _write_text(path: object, text: str) -> None:
    with open(str(path), "w", encoding="utf-8", newline="\n") as file:
        file.write(text)

"""Where output goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import BinaryIO, TextIO

from lbal.analyzers.errors import OutputError
from lbal.analyzers.output.files import write_text
from lbal.analyzers.output.targets import check_targets, suffix_of
from lbal.analyzers.plain import message as as_message
from lbal.analyzers.registry import guarded
from lbal.analyzers.result.report import Report, report_of, report_suffixes
from lbal.analyzers.result.result import Result


def say(message: str) -> None:
    """A note for the person, on stderr."""
    with suppress(OSError):
        if sys.stderr is not None:
            print(as_message(f"lbal: {message}"), file=sys.stderr)


def check_reports(outputs: Sequence[str], *, force: bool, reads: Sequence[str | None]) -> None:
    """Refuse outputs that no report can write, or that cannot be written, before any work is done.

    `reads` names all that the command reads, its main input first.
    """
    for name in outputs:
        suffix_of(name, report_suffixes())
    check_targets(outputs, force=force, reads=reads)


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
    with guarded("report", report):
        text = report().render(result)
    write_text(name, text, force=force)


def emit(text: str) -> None:
    """Text to stdout; characters that its encoding lacks are replaced rather than fatal.

    Raises `OutputError` where stdout is closed or full; `BrokenPipeError` where its reader has gone.
    """
    with _stdout() as stream:
        encoding = stream.encoding or "utf-8"
        whole = text.encode("utf-8", errors="backslashreplace").decode()  # halves of surrogate pairs
        stream.write(whole.encode(encoding, errors="replace").decode(encoding))
        stream.flush()


@contextmanager
def binary_stdout() -> Iterator[BinaryIO]:
    """Stdout for bytes; raises as `emit` does."""
    with _stdout() as stream:
        yield stream.buffer
        stream.flush()


@contextmanager
def _stdout() -> Iterator[TextIO]:
    if sys.stdout is None:
        raise OutputError("standard output: is closed, expected one that can be written")
    try:
        yield sys.stdout
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written: {error.strerror or error}") from error

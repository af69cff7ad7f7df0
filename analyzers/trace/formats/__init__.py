"""Reading traces: one file per format, found by the registry, told apart by content."""

from __future__ import annotations

from typing import BinaryIO

from lbal.analyzers.errors import InputError
from lbal.analyzers.registry import Registry
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import Trace

FORMATS: Registry[TraceFormat] = Registry(
    "format",
    "lbal.analyzers.trace.formats",
    TraceFormat,  # type: ignore[type-abstract]
    group="lbal.analyzers.formats",
)

__all__ = ["FORMATS", "ReadOptions", "TraceFormat", "detect_format", "read_trace"]


def read_trace(
    name: str, *, format_name: str | None = None, options: ReadOptions | None = None, stdin: BinaryIO | None = None
) -> Trace:
    """Read the trace at a path (`-` for standard input), as `format_name` or as what its content says.

    Raises `InputError` with place, value and expectation where it cannot be read whole, and
    `UsageError` for a format that is not known.
    """
    reader = None if format_name is None else FORMATS.get(format_name)
    with Source(name, stdin) as source:
        if reader is None:
            reader = detect_format(source)
        return reader().read(source, options or ReadOptions())


def detect_format(source: Source) -> type[TraceFormat]:
    """The one format whose `matches` says yes to the content; `InputError` where none or several do."""
    found = [cls for cls in FORMATS.classes() if cls.matches(source)]
    if len(found) == 1:
        return found[0]
    if not found:
        if source.is_directory:
            raise InputError(source.name, "the directory is no Parquet trace", expected="a meta.json in it")
        known = ", ".join(FORMATS.names())
        raise InputError(source.name, "its content is no known trace format", expected=f"one of {known}")
    names = ", ".join(cls.name for cls in found)
    raise InputError(source.name, f"its content fits several formats: {names}", expected="--format with one of them")

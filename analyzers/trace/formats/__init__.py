"""Reading traces: one file per format, found by the registry, told apart by content; several files as one trace."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar

from lbal.analyzers.errors import InputError, Parameter, PluginError, UsageError
from lbal.analyzers.registry import PluginWarning, Registry, guarded
from lbal.analyzers.trace.reading.base import Format, LogReader, ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.join import join_logs
from lbal.analyzers.trace.reading.named_columns import NamedColumnsFormat
from lbal.analyzers.trace.reading.not_traces import refuse_what_is_no_trace
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.rotation import LogPart
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.source_chain import SourceChain
from lbal.analyzers.trace.sources import Names, SourceName, source_names
from lbal.analyzers.trace.trace import Trace

FORMATS: Registry[Format] = Registry(
    "format",
    "lbal.analyzers.trace.formats",
    Format,  # type: ignore[type-abstract]
    group="lbal.analyzers.formats",
)
F = TypeVar("F", bound=Format)
NO_TRACE = "files that are no trace"
NAMES_SHOWN = 4

__all__ = ["FORMATS", "Format", "LogReader", "ReadOptions", "TraceFormat", "detect_format", "read_trace"]


def read_trace(
    names: Names,
    *,
    format_name: str | None = None,
    options: ReadOptions | None = None,
    stdin: BinaryIO | None = None,
) -> Trace:
    """Read a trace from a file, several files, directories or globs; `-` is standard input.

    Each file is read as `format_name`, or as what its content says. The logs of engines are joined into one trace;
    of other formats there must be one file. Files of a directory that are no trace are counted in the warnings.

    Raises `InputError` with place, value and expectation where it cannot be read whole, and
    `UsageError` for a format that is not known.
    """
    options = options or ReadOptions()
    wanted = None if format_name is None else FORMATS.get(format_name)
    if options.columns:
        if wanted is not None:
            raise UsageError(f"is of no use with the format {wanted.name}, expected one of them", parameter="columns")
        wanted = NamedColumnsFormat
    sources = source_names(names, options.rank_regex)
    if len(sources) == 1:
        with Source(sources[0].name, stdin) as source:
            found = wanted or detect_format(source)
            if issubclass(found, TraceFormat):
                return _sized(_noted(_read(found, source, options), source), options)
            return _joined(found, [_part(found, sources[0], source, options)], source.name, options)
    return _read_several(sources, _label(names, sources), wanted, options, stdin)


def _sized(trace: Trace, options: ReadOptions) -> Trace:
    """The trace with the number of ranks of the options; `UsageError` where they contradict it or its ranks."""
    size, told = options.dp_size, trace.meta.dp_size
    if size is None or size == told:
        return trace
    if told is not None:
        raise UsageError(f"{size} does not fit, expected {told}, as {trace.meta.source} tells", parameter="dp_size")
    ranks = [] if trace.requests is None or "rank" not in trace.requests.columns else [trace.requests["rank"].max()]
    largest: Any = next((rank for rank in ranks if rank is not None), -1)
    if size <= largest:
        expected = f"expected at least {largest + 1}: rank {largest} is there"
        raise UsageError(f"{size} does not fit, {expected}", parameter="dp_size")
    return trace.with_meta(dp_size=size)


def _noted(trace: Trace, source: Source) -> Trace:
    return replace(trace, meta=trace.meta.warned(*source.notes)) if source.notes else trace


def detect_format(source: Source) -> type[Format]:
    """The format of the content: of formats of whole files the one that fits, else the log reader of most precedence.

    Raises `InputError` where none or several fit.
    """
    found = _fitting(source)
    if len(found) == 1:
        return found[0]
    if not found:
        if source.is_directory:
            raise InputError(source.name, "the directory is no Parquet trace", expected="a meta.json in it")
        if reason := _why_empty(source):
            raise InputError(source.name, reason)
        refuse_what_is_no_trace(source)
        known = ", ".join(FORMATS.names())
        raise InputError(source.name, "its content is no known trace format", expected=f"one of {known}")
    names = ", ".join(cls.name for cls in found)
    raise InputError(
        source.name,
        f"its content fits several formats: {names}",
        expected=[Parameter("format_name"), " with one of them"],
    )


def _fitting(source: Source) -> list[type[Format]]:
    whole = [cls for cls in _classes(TraceFormat) if _matches(cls, source)]  # type: ignore[type-abstract]
    if whole:
        return [*whole]
    logs = [cls for cls in _classes(LogReader) if _matches(cls, source)]  # type: ignore[type-abstract]
    most = max((cls.precedence for cls in logs), default=0)
    return [cls for cls in logs if cls.precedence == most]


def _matches(cls: type[Format], source: Source) -> bool:
    """Whether a format knows the content; no for one of another distribution that fails on it, which is told."""
    try:
        with guarded("format", cls):
            return cls.matches(source)
    except PluginError as error:
        warnings.warn(str(error), PluginWarning, stacklevel=2)
        return False


def _read(found: type[TraceFormat], source: Source, options: ReadOptions) -> Trace:
    with guarded("format", found):
        return found().read(source, options)


def _classes(kind: type[F]) -> list[type[F]]:
    return [cls for cls in FORMATS.classes() if issubclass(cls, kind)]


def _why_empty(source: Source) -> str | None:
    reasons = (cls.why_empty(source) for cls in _classes(LogReader))  # type: ignore[type-abstract]
    return next((reason for reason in reasons if reason), None)


def _read_several(
    sources: Sequence[SourceName],
    label: str,
    wanted: type[Format] | None,
    options: ReadOptions,
    stdin: BinaryIO | None,
) -> Trace:
    parts: dict[type[Format], list[LogPart | SourceName]] = {}
    refused: list[InputError] = []
    for name in sources:
        with Source(name.name, stdin) as source:
            try:
                found = wanted if wanted is not None and not name.is_found else detect_format(source)
            except InputError as error:
                if not name.is_found:
                    raise
                refused.append(error)
                continue
            if wanted not in (None, found):
                refused.append(InputError(name.name, f"is a {found.name} trace"))
                continue
            part = name if issubclass(found, TraceFormat) else _part(found, name, source, options)
            parts.setdefault(found, []).append(part)
    if not parts:
        raise InputError(
            label, f"none of {len(sources)} files is a trace ({_reasons(refused)})", expected="logs or a trace"
        )
    if len(parts) > 1:
        kinds = "; ".join(f"{cls.name}: {_named([_name_of(part) for part in found])}" for cls, found in parts.items())
        raise InputError(
            label,
            f"the files are of several formats ({kinds})",
            expected=["one, or ", Parameter("format_name"), " with one"],
        )
    found, files = next(iter(parts.items()))
    trace = _sized(_of_one_format(found, files, label, options, stdin), options)
    if not refused:
        return trace
    warning = f"{len(refused)} of {len(sources)} files are left out ({_reasons(refused)})"
    excluded = {**trace.meta.excluded, NO_TRACE: len(refused)}
    return trace.with_meta(excluded=excluded, warnings=(*trace.meta.warnings, warning))


def _of_one_format(
    found: type[Format],
    files: list[LogPart | SourceName],
    label: str,
    options: ReadOptions,
    stdin: BinaryIO | None,
) -> Trace:
    logs = [file for file in files if isinstance(file, LogPart)]
    if logs:
        assert issubclass(found, LogReader)
        files.clear()
        return _joined(found, logs, label, options)
    assert issubclass(found, TraceFormat)
    names = [_name_of(file) for file in files]
    if len(files) > 1 and found.has_pieces:
        with SourceChain(names, label) as chain:
            try:
                trace = _noted(_read(found, chain, options), chain)
            except InputError as error:
                raise chain.located(error) from error
        note = f"{len(names)} files are read as one request log, one after the other: {_named(names)}"
        return replace(trace, meta=trace.meta.warned(note))
    if len(files) > 1:
        problem = f"{found.name} traces cannot be joined: {_named(names)}"
        raise InputError(label, problem, expected="one file, or logs of an engine")
    with Source(names[0], stdin) as source:
        return _read(found, source, options)


def _part(found: type[Format], name: SourceName, source: Source, options: ReadOptions) -> LogPart:
    assert issubclass(found, LogReader)
    records = RankStepsBuilder(found.alignment, found.resolution)
    with guarded("format", found):
        found().collect(source, records, options)
    for note in source.notes:
        records.note(note)
    return LogPart(replace(name, name=source.name), source.sha256, records.build())


def _joined(found: type[Format], parts: list[LogPart], label: str, options: ReadOptions) -> Trace:
    assert issubclass(found, LogReader)
    return join_logs(found, parts, label, options)


def _label(names: Names, sources: Sequence[SourceName]) -> str:
    """What messages and reports call several files."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        return str(names)
    given = [str(name) for name in names]
    return given[0] if len(given) == 1 else f"{given[0]} and {len(sources) - 1} more"


def _name_of(part: LogPart | SourceName) -> str:
    return part.source.name if isinstance(part, LogPart) else part.name


def _named(names: Sequence[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _reasons(refused: Sequence[InputError]) -> str:
    return _named([f"{error.file}: {error.problem}" for error in refused])

"""The native format for big traces: a directory of Parquet tables."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from lbal.analyzers.documents import read_document
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.fields import nearest, shown_name
from lbal.analyzers.trace.reading.header import meta_of
from lbal.analyzers.trace.reading.jsonlines import json_object
from lbal.analyzers.trace.reading.parquet_table import read_table, regular_size
from lbal.analyzers.trace.reading.request_table import RequestTable
from lbal.analyzers.trace.source import BLOCK_BYTES, Source
from lbal.analyzers.trace.sources import TRACE_DIRECTORY_FILES, is_trace_directory
from lbal.analyzers.trace.trace import REQUEST_COLUMNS, STEP_COLUMNS, Trace, cast_columns

META, REQUESTS, STEPS = FILES = TRACE_DIRECTORY_FILES
MOST_HEADER_BYTES = 1 << 26


class ParquetFormat(TraceFormat):
    """A directory with `meta.json` (the native header) and `requests.parquet`, `steps.parquet` or both."""

    name = "parquet"
    content = "requests and steps"
    time_unit = "ms"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether it is a directory that has one of the files."""
        return source.path is not None and is_trace_directory(source.path)

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The whole trace. `sha256` is of the names and bytes of its files, in the order of their names."""
        if source.path is None or not source.is_directory:
            raise InputError(source.name, "is not a directory", expected="a directory with a meta.json")
        files = {name: source.path / name for name in FILES if (source.path / name).exists()}
        if META not in files:
            raise InputError(source.name, "has no meta.json", expected=", ".join(FILES))
        for path in files.values():
            regular_size(path)
        data = read_document(str(files[META]), "a trace header", MOST_HEADER_BYTES)
        header = json_object(data, str(files[META]), None)
        sha256, found = _hashes(files)
        meta = meta_of(header, str(files[META]), source.name, None, format=self.name, sha256=sha256)
        stored = header.get("digests", {})
        intact = _intact(files, found, stored)
        for name in sorted(stored.keys() - files.keys()):
            meta = meta.warned(f"{shown_name(name)}, of which meta.json has a digest, is not there")
        table = RequestTable(source.name, must_have_ids=True)
        if REQUESTS in files:
            requests = _table(files[REQUESTS], ["request_id", *REQUEST_COLUMNS], is_intact=REQUESTS in intact)
            table.add(cast_columns(requests, REQUEST_COLUMNS, str(files[REQUESTS])))
        steps = _table(files[STEPS], STEP_COLUMNS, is_intact=STEPS in intact) if STEPS in files else None
        return table.trace(meta, options, steps=steps)


def _table(path: Path, known: Collection[str], *, is_intact: bool) -> pl.DataFrame:
    frame = read_table(path, is_intact=is_intact)
    for name in frame.columns:
        if name not in known:
            raise InputError(
                str(path), "is no column of this table", field=shown_name(name), expected=nearest(name, known)
            )
    return frame.rechunk()  # one piece per column, so that its array is no copy


def _hashes(files: Mapping[str, Path]) -> tuple[str, dict[str, str]]:
    """The sha256 of all names and bytes, in the order of the names, and that of each file."""
    whole, each = hashlib.sha256(), {}
    for name, path in sorted(files.items()):
        whole.update(name.encode() + b"\0")
        own = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while data := file.read(BLOCK_BYTES):
                    whole.update(data)
                    own.update(data)
        except OSError as error:
            raise InputError(str(path), f"cannot be read: {error.strerror}", expected="a readable file") from error
        each[name] = own.hexdigest()
    return whole.hexdigest(), each


def _intact(files: Mapping[str, Path], found: Mapping[str, str], stored: Mapping[str, str]) -> set[str]:
    """The tables whose bytes are those that meta.json has digests of; `InputError` for other bytes."""
    for table, digest in stored.items():
        if found.get(table, digest) != digest:
            problem = f"is damaged or was changed: its sha256 is {found[table][:12]}…"
            raise InputError(str(files[table]), problem, expected=f"{digest[:12]}…, as meta.json says")
    return set(stored)

"""The native format for big traces: a directory of Parquet tables."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path

import polars as pl

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.fields import nearest, shown_name
from lbal.analyzers.trace.reading.header import meta_of
from lbal.analyzers.trace.reading.jsonlines import json_object
from lbal.analyzers.trace.reading.request_table import RequestTable
from lbal.analyzers.trace.source import BLOCK_BYTES, Source
from lbal.analyzers.trace.sources import TRACE_DIRECTORY_FILES, is_trace_directory
from lbal.analyzers.trace.trace import REQUEST_COLUMNS, STEP_COLUMNS, Trace, cast_columns

META, REQUESTS, STEPS = FILES = TRACE_DIRECTORY_FILES


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
        try:
            sha256 = _sha256(files)
            header = json_object(files[META].read_bytes(), str(files[META]), None)
        except OSError as error:
            raise InputError(source.name, f"cannot be read: {error.strerror}", expected="readable files") from error
        meta = meta_of(header, str(files[META]), source.name, None, format=self.name, sha256=sha256)
        table = RequestTable(source.name, must_have_ids=True)
        if REQUESTS in files:
            requests = _table(files[REQUESTS], ["request_id", *REQUEST_COLUMNS])
            table.add(cast_columns(requests, REQUEST_COLUMNS, str(files[REQUESTS])))
        steps = _table(files[STEPS], STEP_COLUMNS) if STEPS in files else None
        return table.trace(meta, options, steps=steps)


def _table(path: Path, known: Collection[str]) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        problem = f"is not a Parquet table: {(str(error).splitlines() or ['damaged'])[0]}"
        raise InputError(str(path), problem, expected="an intact Parquet file") from error
    for name in frame.columns:
        if name not in known:
            raise InputError(
                str(path), "is no column of this table", field=shown_name(name), expected=nearest(name, known)
            )
    return frame.rechunk()  # one piece per column, so that its array is no copy


def _sha256(files: dict[str, Path]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode() + b"\0")
        with path.open("rb") as file:
            while data := file.read(BLOCK_BYTES):
                digest.update(data)
    return digest.hexdigest()

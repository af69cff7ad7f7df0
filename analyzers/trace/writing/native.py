"""Writing traces in the native format, as JSON Lines or as a Parquet directory.

What is written is what `lbal.analyzers.trace.formats` reads back, bit for bit; where and whether to write
(overwriting, half-written files) is up to the caller. `OSError` passes through.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from lbal.analyzers.trace.reading.header import header_json
from lbal.analyzers.trace.step_blocks import tables_of
from lbal.analyzers.trace.trace import PER_STEP_COLUMNS, STEP_COLUMNS, Trace

SLICE_ROWS = 1 << 18
GROUP_ROWS = 1 << 20
EXACT_BELOW = float(1 << 53)
"""Floats that are whole and smaller than this are written as whole numbers."""


def write_native(trace: Trace, target: str | Path | BinaryIO) -> None:
    """Write a trace as JSON Lines to a path (compressed where its name ends in `.gz`) or a binary stream.

    The same trace gives the same bytes: the archive carries no time and no name.
    """
    with ExitStack() as stack:
        out: Any = target
        if isinstance(target, str | Path):
            out = stack.enter_context(open(target, "wb"))
            if str(target).lower().endswith(".gz"):
                out = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=6, fileobj=out, mtime=0))
        out.write(header_json(trace.meta) + b"\n")
        encoder = msgspec.json.Encoder()
        for records in _records(trace):
            out.write(encoder.encode_lines(records))


def write_parquet(trace: Trace, directory: str | Path) -> None:
    """Write a trace as `meta.json`, `requests.parquet` and `steps.parquet` into a directory, made where absent.

    `meta.json` has the sha256 of each table. A table that the trace does not have is not written. What else is in
    the directory stays.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    if trace.requests is not None:
        trace.requests.write_parquet(folder / "requests.parquet", row_group_size=max(trace.requests.height, 1))
    if trace.num_steps:
        _write_steps(trace, folder / "steps.parquet")
    for name in ("requests.parquet", "steps.parquet"):
        if (folder / name).exists():
            with (folder / name).open("rb") as file:
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    (folder / "meta.json").write_bytes(msgspec.json.format(header_json(trace.meta, digests), indent=2) + b"\n")


def _write_steps(trace: Trace, path: Path) -> None:
    """In groups of rows, one at a time. What has few rows is one group: read back in one piece, without a copy."""
    schema = next(tables_of(trace, 1)).schema

    def tables(*_asked: object) -> Iterator[pl.DataFrame]:
        return tables_of(trace, SLICE_ROWS)

    register_io_source(tables, schema=schema).sink_parquet(path, row_group_size=GROUP_ROWS)


def _records(trace: Trace) -> Iterator[list[dict[str, Any]]]:
    """The lines after the header, in slices."""
    if trace.requests is not None:
        for part in trace.requests.iter_slices(SLICE_ROWS):
            yield part.to_dicts()
    for table in tables_of(trace, SLICE_ROWS):
        yield _step_lines(table, trace.meta.dp_size or 1)


def _step_lines(part: pl.DataFrame, dp_size: int) -> list[dict[str, Any]]:
    """One record per step of some whole steps: a value per step, or an array over ranks."""
    names = [name for name in ("step", *PER_STEP_COLUMNS, *STEP_COLUMNS) if name in part.columns and name != "rank"]
    columns = {}
    for name in dict.fromkeys(names):
        values = _whole(part[name]) if name == "kv_tokens" else part[name].to_list()
        per_step = name == "step" or name in PER_STEP_COLUMNS
        columns[name] = (
            values[::dp_size] if per_step else [values[i : i + dp_size] for i in range(0, len(values), dp_size)]
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _whole(loads: pl.Series) -> list[float | int | None]:
    """The values, as ints where they are whole."""
    known = loads.drop_nulls().to_numpy()
    if ((known == np.floor(known)) & (known < EXACT_BELOW)).all():
        return loads.cast(pl.Int64).to_list()
    return [int(v) if v is not None and v < EXACT_BELOW and v.is_integer() else v for v in loads.to_list()]

"""The metadata of a native trace as JSON: the header line of `.jsonl`, the `meta.json` of a Parquet directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lbal.analyzers.documents import checked
from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.trace.reading.fields import (
    COUNT,
    INTEGER,
    OBJECT,
    SIZE,
    TEXT,
    Rules,
    choice,
    list_of,
    map_of,
    nullable,
)
from lbal.analyzers.trace.trace import MAX_RANKS, TraceMeta

VERSION = 1
NOT_OF_META = ("lbal_trace", "format", "digests")
"""Of the file, not of the trace in it; `digests` is the sha256 of each table of a Parquet directory."""
OWN_FORMATS = ("native", "parquet", "replay")
"""Formats that keep all metadata: a trace from another one remembers where it was converted from."""

WHERE_KNOWN = ("resolution", "alignment", "engine_version", "kv_capacity", "ranks_seen", "sources")
"""Fields that are written only where they say something."""

HEADER = Rules(
    "a trace header",
    {
        "lbal_trace": INTEGER,
        "format": nullable(TEXT),
        "kind": choice("recorded", "replayed"),
        "engine": nullable(TEXT),
        "dp_size": nullable(SIZE),
        "max_num_seqs": nullable(SIZE),
        "time_unit": nullable(TEXT),
        "time_origin": nullable(TEXT),
        "seed": nullable(INTEGER),
        "step_model": nullable(OBJECT),
        "config": OBJECT,
        "excluded": map_of(COUNT),
        "warnings": list_of(TEXT),
        "resolution": choice("step", "sampled", "interval"),
        "alignment": nullable(choice("step", "time")),
        "engine_version": nullable(TEXT),
        "kv_capacity": nullable(SIZE),
        "ranks_seen": nullable(list_of(COUNT)),
        "sources": list_of(OBJECT),
        "digests": map_of(TEXT),
    },
    required=("lbal_trace",),
)


def header_of(meta: TraceMeta) -> dict[str, Any]:
    """The header for a trace: all its metadata but the name, format and sha256 of the file that it was read from.

    Of a foreign format these three go to `config["converted_from"]`.
    """
    config = dict(meta.config)
    if meta.format not in OWN_FORMATS and "converted_from" not in config:
        name = meta.source if meta.source.startswith("<") else Path(meta.source).name
        config["converted_from"] = {"format": meta.format, "name": name, "sha256": meta.sha256}
    unsaid = {name for name in WHERE_KNOWN if getattr(meta, name) == getattr(TraceMeta, name)}
    stored = (name for name in HEADER.kinds if name not in {*NOT_OF_META, *unsaid})
    return {"lbal_trace": VERSION} | {name: getattr(meta, name) for name in stored} | {"config": config}


def header_json(meta: TraceMeta, digests: Mapping[str, str] | None = None) -> bytes:
    """The header as one line of JSON, without a line end; with the sha256 of the tables where they are files."""
    header = header_of(meta) | ({} if digests is None else {"digests": digests})
    return msgspec.json.encode(header, enc_hook=_plain)


def meta_of(record: Mapping[str, Any], file: str, name: str, line: int | None, **known: Any) -> TraceMeta:
    """The metadata in a header found at `file:line`, for the trace called `name`; `known` is added.

    A `format` in the header is not used: the format is what the trace is read as.
    Raises `InputError` for another version, an unknown field or a value that cannot be.
    """
    version = record.get("lbal_trace", VERSION)
    if version != VERSION:
        problem = f"is version {shown(version)} of the native format"
        raise InputError(
            file, problem, line=line, field="lbal_trace", expected=f"version {VERSION}, which this lbal reads"
        )
    HEADER.refuse(record, file, line)
    checked(dict(record), file, line)
    if (record.get("dp_size") or 0) > MAX_RANKS:
        problem, expected = f"{record['dp_size']:,} is too large", f"at most {MAX_RANKS:,} ranks"
        raise InputError(file, problem, line=line, field="dp_size", expected=expected)
    fields = {key: value for key, value in record.items() if key not in NOT_OF_META}
    fields.setdefault("warnings", ())
    for several in ("warnings", "sources", "ranks_seen"):
        if fields.get(several) is not None:
            fields[several] = tuple(fields[several])
    return TraceMeta(source=name, **({"time_unit": "ms"} | fields | known))


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} in the metadata of a trace cannot be written as JSON")

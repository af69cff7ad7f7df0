"""Any delimited file with a header, whose columns the user names (`--columns`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import polars as pl

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.reading.base import ReadOptions
from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, number_column
from lbal.analyzers.trace.reading.fields import Kind
from lbal.analyzers.trace.reading.timestamps import Timestamps
from lbal.analyzers.trace.source import Source

UNITS: Mapping[str, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6, "timestamp": 1e-6}
KEYS = ("arrival", "prompt", "output", "rank", "id", "unit")


class NamedColumnsFormat(DelimitedFormat):
    """Comma, semicolon or tab separated values with the columns that `--columns` names.

    `--columns arrival=t,prompt=in,output=out,unit=ms`: `prompt` and `output` must be named; `arrival` and its `unit`
    (s, ms, us, ns or timestamp), `rank` and `id` may be.
    """

    name = "columns"
    time_unit: ClassVar[str] = "s"
    names: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self._named: Mapping[str, str] = {}
        self._unit = "s"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Never: the user must name the columns."""
        return False

    def use(self, options: ReadOptions) -> None:
        """Take the names of the columns. Raises `UsageError` for keys that are unknown, missing or stand alone."""
        named = dict(options.columns)
        for key in named:
            if key not in KEYS:
                raise UsageError(f"{key!r} is not known, expected {', '.join(KEYS)}", parameter="columns")
        for key in ("prompt", "output"):
            if key not in named:
                raise UsageError(f"{key} is missing, expected the name of its column", parameter="columns")
        if "arrival" in named and "unit" not in named and options.time_unit is None:
            raise UsageError(f"unit is missing beside arrival, expected one of {', '.join(UNITS)}", parameter="columns")
        unit = options.time_unit or named.pop("unit", "s")
        if unit not in UNITS:
            raise UsageError(f"unit {unit!r} is not known, expected one of {', '.join(UNITS)}", parameter="columns")
        named.pop("unit", None)
        self._named = named
        self.names = tuple(named.values())  # type: ignore[misc]
        self.ms_per_unit = UNITS[unit]  # type: ignore[misc]
        self.time_unit = unit if "arrival" in named else "none"  # type: ignore[misc]

    def columns(self) -> tuple[Column, ...]:
        """The named columns."""
        named = self._named
        found = [
            count_column(named["prompt"], "prompt_tokens"),
            count_column(named["output"], "output_tokens"),
        ]
        if "arrival" in named:
            found.append(self._times(named["arrival"]))
        if "rank" in named:
            found.append(count_column(named["rank"], "rank"))
        if "id" in named:
            kind = Kind("an id", lambda value: None if value else "is empty")
            found.append(Column(named["id"], "request_id", _texts, kind))
        return tuple(found)

    def _times(self, name: str) -> Column:
        if self.time_unit != "timestamp":
            return number_column(name, "time")
        times = Timestamps()
        return Column(name, "time", times.values, Kind("a timestamp such as 2023-11-16T18:15:46.68", times.fault))


def _texts(texts: pl.Series) -> pl.Series:
    return texts.set(texts == "", None)

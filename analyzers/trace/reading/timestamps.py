"""Timestamps as texts, read as nanoseconds."""

from __future__ import annotations

import re

import polars as pl

from lbal.analyzers.errors import shown

_ZONE = r"(?:Z|[+-][0-9]{2}:?[0-9]{2})$"
_YEARS = (1970, 2200)


class Timestamps:
    """Reads ISO 8601 timestamps as ns since 1970, all with a time zone or all without, as the first one has it."""

    def __init__(self) -> None:
        self.zoned: bool | None = None

    def values(self, texts: pl.Series) -> pl.Series:
        """Nanoseconds; null for what is no timestamp, or has a time zone where the first has none."""
        if self.zoned is None:
            self.zoned = bool(re.search(_ZONE, texts[0] or ""))
        texts = texts.str.replace("^([0-9-]{8,10})[Tt]", "$1 ")
        form = "%Y-%m-%d %H:%M:%S%.f" + ("%#z" if self.zoned else "")
        times = texts.str.to_datetime(form, strict=False, time_unit="ns", time_zone="UTC" if self.zoned else None)
        fits = texts.str.slice(0, 4).cast(pl.Int64, strict=False).is_between(*_YEARS)
        return times.cast(pl.Int64).set(~fits.fill_null(False), None)

    def fault(self, value: object) -> str:
        """What is wrong with a text that has no value."""
        if value == "":
            return "is empty"
        if isinstance(value, str) and bool(re.search(_ZONE, value)) is not self.zoned and value[:4].isdigit():
            return f"{shown(value)} has {'no' if self.zoned else 'a'} time zone, unlike the first row"
        return f"{shown(value)} is not a timestamp"

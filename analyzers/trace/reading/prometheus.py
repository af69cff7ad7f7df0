"""Scrapes of a server's metrics in Prometheus' text format: one or many in a file, plain or as texts in JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from lbal.analyzers.trace.source import Source

_SERIES = re.compile(r"^\s*([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+(-?\d{1,16}))?\s*$")
_LABEL = re.compile(r'([A-Za-z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ISO = re.compile(r"^[\W_]*(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)")
_EPOCH = re.compile(r"^[\W_]*(1\d{9}(?:\.\d{1,9})?|1\d{12})[\W_]*$")
_DATE = re.compile(r"^[\W_]*\w{3} (\w{3}) +(\d{1,2}) (\d\d:\d\d:\d\d) (?:\w{2,5} )?(\d{4})")
_TIME_KEYS = ("ts", "time", "timestamp", "@timestamp", "scraped_at", "date")
_MS_FROM = 1e11
"""A number of the present is beyond this in milliseconds, and below it in seconds."""


class Sample(NamedTuple):
    """One series of a scrape."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass
class Scrape:
    """The wanted series of one moment. `time_ms` since 1970 is None where nothing tells it."""

    line: int
    time_ms: float | None = None
    samples: list[Sample] = field(default_factory=list)


def scrapes(source: Source, wanted: re.Pattern[str], mangled: list[int]) -> Iterator[Scrape]:
    """The scrapes of a file, with the series whose whole name fits `wanted`.

    A scrape begins at a line with a time, at a JSON line with a text of metrics, and where a series comes again.
    The numbers of lines that name a wanted series and cannot be read go to `mangled`.
    """
    scrape, seen = Scrape(1), set[tuple[str, str]]()
    for number, text in _lines(source):
        if isinstance(text, float):
            if scrape.samples:
                yield scrape
            scrape, seen = Scrape(number, text), set()
            continue
        found = _SERIES.match(text)
        name = found[1] if found else text.lstrip().split("{", 1)[0].split(" ", 1)[0]
        if not wanted.fullmatch(name):
            continue
        sample = _sample(found)
        if sample is None or found is None:
            mangled.append(number)
            continue
        series = (name, found[2] or "")
        if series in seen:
            yield scrape
            scrape, seen = Scrape(number), set()
        seen.add(series)
        if scrape.time_ms is None and found[4]:
            scrape.time_ms = float(found[4])
        scrape.samples.append(sample)
    if scrape.samples:
        yield scrape


def _lines(source: Source) -> Iterator[tuple[int, str | float]]:
    """Lines of metrics, of plain text and of texts in JSON; a number is a time in ms at which a scrape begins."""
    for block in source.blocks(text=False):
        for number, data in block.lines():
            text = data.decode("utf-8", errors="replace")
            moment = moment_ms(text)
            if moment is not None:
                yield number, moment
            elif text.lstrip().startswith("{") and (wrapped := _unwrapped(data)):
                if wrapped[0] is not None:
                    yield number, wrapped[0]
                for line in wrapped[1].split("\n"):
                    yield number, line
            else:
                yield number, text


def _unwrapped(data: bytes) -> tuple[float | None, str] | None:
    """Time and metrics of a JSON line that holds a scrape as a text."""
    try:
        record: Any = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    texts = [value for value in record.values() if isinstance(value, str) and "{" in value]
    if not texts:
        return None
    moment = next((record[key] for key in _TIME_KEYS if key in record), None)
    if isinstance(moment, str):
        return moment_ms(moment), texts[0]
    if isinstance(moment, int | float) and not isinstance(moment, bool):
        return _epoch_ms(float(moment)), texts[0]
    return None, texts[0]


def _sample(found: re.Match[str] | None) -> Sample | None:
    if found is None:
        return None
    labels = dict(_LABEL.findall(found[2] or ""))
    if _LABEL.sub("", found[2] or "").strip():
        return None
    try:
        return Sample(found[1], labels, float(found[3]))
    except ValueError:
        return None


def moment_ms(text: str) -> float | None:
    """The time in ms since 1970 with which a line begins; UTC where it has no time zone."""
    try:
        if found := _ISO.match(text):
            moment = datetime.fromisoformat(found[1].replace(",", "."))
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e3
        if found := _EPOCH.match(text):
            return _epoch_ms(float(found[1]))
        if found := _DATE.match(text):
            moment = datetime.strptime(" ".join(found.groups()), "%b %d %H:%M:%S %Y")
            return moment.replace(tzinfo=UTC).timestamp() * 1e3
    except (ValueError, OverflowError):
        pass
    return None


def _epoch_ms(number: float) -> float:
    return number if number > _MS_FROM else number * 1e3

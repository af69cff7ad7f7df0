"""Scrapes of a server's metrics in Prometheus' text format: one or many in a file, plain or as texts in JSON lines."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.reading.log_lines import plain
from lbal.analyzers.trace.source import Source

_SERIES = re.compile(
    r"^([^#{]*?)(?<![^\s>|\]])([A-Za-z_:][\w:]*)(?:\{(.*)\})?\s+([-+]?(?:\d[\w.+-]*|Inf|NaN))(?:\s+(-?\d{1,16}))?\s*$"
)
"""What a collector wrote before the line, name, labels, value, time in ms."""
_WORDS = re.compile(r"[\s{]")
_LABEL = re.compile(r'([A-Za-z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ISO = re.compile(r"^[\W_]*(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?)")
_EPOCH = re.compile(r"^[\W_]*(1\d{9}(?:\.\d{1,9})?|1\d{12})[\W_]*$")
_DATE = re.compile(r"^[\W_]*\w{3} (\w{3}) +(\d{1,2}) (\d\d:\d\d:\d\d) (?:\w{2,5} )?(\d{4})")
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
    scrape, seen, clock = Scrape(1), set[tuple[str, str]](), LineClock()
    for number, text in _lines(source):
        found = _SERIES.match(text)
        if found is None or not wanted.fullmatch(found[2]):
            if found is None and "#" not in text and any(map(wanted.fullmatch, _WORDS.split(text))):
                mangled.append(number)
            elif (found is None or found[2].isalpha()) and (moment := moment_ms(text)) is not None:
                if scrape.samples:
                    yield scrape
                scrape, seen = Scrape(number, moment), set()
            continue
        sample = _sample(found)
        if sample is None:
            mangled.append(number)
            continue
        series = (found[2], found[3] or "")
        if series in seen:
            yield scrape
            scrape, seen = Scrape(number), set()
        seen.add(series)
        if scrape.time_ms is None:
            scrape.time_ms = _time_ms(found, clock)
        scrape.samples.append(sample)
    if scrape.samples:
        yield scrape


def _lines(source: Source) -> Iterator[tuple[int, str]]:
    """Lines of metrics, of plain text and of texts in JSON, whose time is a line before them."""
    for block in source.blocks(text=False):
        for number, data in block.lines():
            for line in plain(data, any_text=True).split(b"\n"):
                yield number, line.decode("utf-8", errors="replace")


def _time_ms(found: re.Match[str], clock: LineClock) -> float | None:
    """The time of a sample: that at its end, else that which a collector wrote before it."""
    if found[5]:
        return float(found[5])
    before = clock.time_ms(found[1].encode()) if found[1] else math.nan
    return before if math.isfinite(before) else None


def _sample(found: re.Match[str]) -> Sample | None:
    labels = dict(_LABEL.findall(found[3] or ""))
    if _LABEL.sub("", found[3] or "").strip():
        return None
    try:
        return Sample(found[2], labels, float(found[4]))
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

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
_WORDS = re.compile(r"[\s{\"]|\\n")
_COMMENT = re.compile(r"(?:^|\s)#")
_OF_HISTOGRAM = re.compile(r"_(?:bucket|sum|count)$")
_WHOLE = re.compile(r"[0-9]{1,7}")
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

    def number(self, label: str) -> int | None:
        """The whole number of a label; None where it is not there, or is none."""
        text = self.labels.get(label, "")
        return int(text) if _WHOLE.fullmatch(text) else None

    def is_broken(self, label: str) -> bool:
        """Whether a label that tells a number tells none."""
        return label in self.labels and self.number(label) is None


@dataclass
class Scrape:
    """The wanted series of one moment. `time_ms` since 1970 is None where nothing tells it."""

    line: int
    time_ms: float | None = None
    samples: list[Sample] = field(default_factory=list)


def scrapes(source: Source, wanted: re.Pattern[str], mangled: list[int]) -> Iterator[Scrape]:
    """The scrapes of a file, with the series whose whole name fits `wanted`.

    A scrape begins at a line with a time, at a JSON line with a text of metrics, and where the series begin anew.
    The numbers of lines that name a wanted series and cannot be read go to `mangled`.
    """
    scrape, order, clock = Scrape(1), _Order(), LineClock()
    for number, text in _lines(source):
        found = _SERIES.match(text)
        if found is None or not wanted.fullmatch(found[2]):
            if found is None and not _COMMENT.search(text) and any(map(wanted.fullmatch, _WORDS.split(text))):
                mangled.append(number)
            elif (found is None or found[2].isalpha()) and (moment := moment_ms(text)) is not None:
                if scrape.samples:
                    yield scrape
                scrape = Scrape(number, moment)
                order.begin(is_timed=True)
            continue
        sample = _sample(found)
        if sample is None:
            mangled.append(number)
            continue
        if order.begins_anew((found[2], found[3] or "")):
            yield scrape
            scrape = Scrape(number)
        if scrape.time_ms is None:
            scrape.time_ms = _time_ms(found, clock)
        scrape.samples.append(sample)
    if scrape.samples:
        yield scrape


class _Order:
    """Where a scrape without a time ends: series come in the same order each time, mostly those of a name together.

    So a lost line does not join two scrapes. One that a time begins goes on until a series comes again.
    """

    def __init__(self) -> None:
        self._place: dict[tuple[str, str], float] = {}
        self._by_name = False
        self.begin(is_timed=False)

    def begin(self, *, is_timed: bool) -> None:
        """A scrape begins with the next series."""
        self._is_timed = is_timed
        self._last, self._name = 0.0, ""
        self._names, self._seen = set[str](), set[tuple[str, str]]()

    def begins_anew(self, series: tuple[str, str]) -> bool:
        """Whether a scrape begins with the series, which stands before the one that was asked for last."""
        name = _OF_HISTOGRAM.sub("", series[0])
        self._by_name |= name == self._name
        anew = series in self._seen
        if not self._is_timed:
            name_again = self._by_name and name != self._name and name in self._names
            anew |= self._place[series] <= self._last if series in self._place else name_again
        if anew:
            self.begin(is_timed=False)
        if series not in self._place:
            behind = min((place for place in self._place.values() if place > self._last), default=self._last + 2)
            self._place[series] = (self._last + behind) / 2
        self._last, self._name = self._place[series], name
        self._names.add(name)
        self._seen.add(series)
        return anew


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

"""The time of a line: read from what stands before its message, and made one clock that goes on.

Clocks of logs lack a time zone, a year or even a day. A year, a day or the end of daylight-saving time that passes
while the log is written is told from the order of the lines.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from lbal.analyzers.trace.trace import FloatArray

BoolArray = npt.NDArray[np.bool_]

ZONED, LOCAL, NO_YEAR, NO_DAY = 0.0, 1.0, 2.0, 3.0
"""Kinds of clocks: with a time zone, without one, without a year, without a day."""
LEAP_YEAR = 1972
"""Stands for a year that is not told; it has every day."""
DAY_MS, HOUR_MS = 86_400_000.0, 3_600_000.0
LEAP_YEAR_MS = 366 * DAY_MS
LEAP_DAY_MS = datetime(LEAP_YEAR, 2, 29, tzinfo=UTC).timestamp() * 1e3
NEAR_MS = 300_000.0
"""By how much a jump back may differ from an hour where daylight-saving time ends: lines are not evenly spaced."""
LATE_MS = 120_000.0
"""So long after that jump a process may still write lines of before."""
OTHER_CLOCK = "times of another clock than that of most lines"
_MONTHS = {name: index for index, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_FULL = re.compile(rb"(20\d\d-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](?P<fraction>\d{1,9}))?(Z|UTC| ?[+-]\d\d:?\d\d\b)?")
_SLASHES = re.compile(rb"\b(\d\d)[/-](\d\d)[/-](20\d\d)[ T-](\d\d):(\d\d):(\d\d)(?:\.(?P<fraction>\d{1,9}))?")
_EPOCH = re.compile(rb"^[^\w\n]{0,3}(1\d{9}\.\d{1,9})\b")
_MONTH_DAY = re.compile(rb"\b(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:[.,](?P<fraction>\d{1,9}))?")
_SYSLOG = re.compile(
    rb"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}) (\d\d):(\d\d):(\d\d)"
    rb"(?:[.,](?P<fraction>\d{1,9}))?"
)
_NO_DAY = re.compile(rb"(?<![\d:])(\d\d):(\d\d):(\d\d)(?:[.,](?P<fraction>\d{1,9}))?(?![\d:])")
_CACHED = 1 << 14
Moment = tuple[float, float]
"""Milliseconds, and the kind of the clock: since 1970, or since the begin of a year or a day that is not told."""
UNTOLD: Moment = (float("nan"), float("nan"))


class LineClock:
    """Reads the time of lines. Lines of one second are read once."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[bytes, ...], float] = {}
        self._known: dict[bytes, Moment] = {}

    def time_ms(self, head: bytes) -> float:
        """Milliseconds of the moment of a line; NaN without one."""
        return self.moment(head)[0]

    def moment(self, head: bytes) -> Moment:
        """The first full time in what stands before a message, else the first one without a year, or a day.

        The first one is the clock of what wraps the line, such as a container's runtime: it has fractions of a second.
        """
        known = self._known.get(head)
        if known is not None:
            return known
        if b"20" in head and (found := _FULL.search(head)):
            return self._full(*found.groups())
        if len(self._known) >= _CACHED:
            self._known.clear()
        known = self._known[head] = _other_moment(head)
        return known

    def _full(self, day: bytes, clock: bytes, fraction: bytes | None, zone: bytes | None) -> Moment:
        key = (day, clock, zone or b"")
        whole = self._seconds.get(key)
        if whole is None:
            if len(self._seconds) >= _CACHED:
                self._seconds.clear()
            whole = self._seconds[key] = _whole_ms(*key)
        return whole + (float(b"." + fraction) * 1e3 if fraction else 0.0), ZONED if zone else LOCAL


def fraction_of_second(head: bytes) -> tuple[int, int] | None:
    """Where in a head the digits stand that `moment` adds to the second as its fraction; None where it adds none."""
    for pattern in (_FULL, _SYSLOG, _MONTH_DAY, _SLASHES, _EPOCH, _NO_DAY):
        if found := pattern.search(head):
            return found.span("fraction") if found.groupdict().get("fraction") else None
    return None


def _whole_ms(day: bytes, clock: bytes, zone: bytes) -> float:
    text = zone.decode().strip().replace("Z", "+00:00").replace("UTC", "+00:00")
    try:
        return datetime.fromisoformat(f"{day.decode()}T{clock.decode()}{text or '+00:00'}").timestamp() * 1e3
    except (ValueError, OverflowError):
        return float("nan")


def _other_moment(head: bytes) -> Moment:
    try:
        if found := _SYSLOG.search(head) or _MONTH_DAY.search(head):
            month, day, *clock, fraction = found.groups()
            year, number = LEAP_YEAR, _MONTHS.get(month) or int(month)
            return _ms(year, number, int(day), clock, fraction), NO_YEAR
        if found := _SLASHES.search(head):
            month, day, year_text, *clock, fraction = found.groups()
            return _ms(int(year_text), int(month), int(day), clock, fraction), LOCAL
        if found := _EPOCH.search(head):
            return float(found[1]) * 1e3, ZONED
        if found := _NO_DAY.search(head):
            *clock, fraction = found.groups()
            return _ms(1970, 1, 1, clock, fraction), NO_DAY
    except ValueError:
        pass
    return UNTOLD


def _ms(year: int, month: int, day: int, clock: Sequence[bytes], fraction: bytes | None) -> float:
    """Milliseconds since 1970. Raises `ValueError` for what is no moment."""
    hour, minute, second = map(int, clock)
    whole = datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    return whole * 1e3 + float(b"." + (fraction or b"0")) * 1e3


def moments(clock: LineClock, heads: Sequence[bytes]) -> tuple[FloatArray, FloatArray]:
    """Times and kinds of clocks of lines by what stands before their messages."""
    table = np.array([clock.moment(head) for head in heads], dtype=np.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def one_clock(records: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int], list[str]]:
    """Records in the order of their log with one clock that goes on, what was left out, and what to say of it.

    Times of another kind of clock than most records have are dropped. A year or a day that is not told goes on where
    the clock begins anew; where a local clock falls back by an hour, daylight-saving time has ended.
    """
    if "clock" not in records.columns or "time_ms" not in records.columns:
        return records, {}, []
    kinds = records["clock"].to_numpy()
    times: FloatArray = records["time_ms"].cast(pl.Float64).to_numpy().copy()
    told = ~np.isnan(times) & ~np.isnan(kinds)
    if not told.any():
        return records.drop("clock"), {}, []
    kind = max((ZONED, LOCAL, NO_YEAR, NO_DAY), key=lambda one: np.count_nonzero(told & (kinds == one)))
    others = told & (kinds != kind)
    times[others] = np.nan
    usual = told & ~others
    rows = slice(None) if usual.all() else np.flatnonzero(usual)
    values = times[rows]
    if kind == NO_YEAR:
        values = _years_on(values)
    if kind == NO_DAY:
        values = np.unwrap(values, period=DAY_MS)
    notes = []
    if kind != ZONED:
        ranks = records["rank"].to_numpy()[rows] if "rank" in records.columns else np.zeros(len(values))
        offset = _hours_back(values, ranks)
        if offset.any():
            values = values + offset
            notes.append(
                "the clock of the log goes back by an hour, as where daylight-saving time ends: it is counted on"
            )
    times[rows] = values
    records = records.drop("clock").with_columns(pl.Series("time_ms", times, nan_to_null=True))
    return records, {OTHER_CLOCK: int(others.sum())}, notes


def _years_on(times: FloatArray) -> FloatArray:
    """Times of a clock without a year; February 29 is a day only where a line is of it."""
    leap = ((times >= LEAP_DAY_MS) & (times < LEAP_DAY_MS + DAY_MS)).any()
    if not leap:
        times = np.where(times >= LEAP_DAY_MS + DAY_MS, times - DAY_MS, times)
    return np.asarray(np.unwrap(times, period=(366 if leap else 365) * DAY_MS))


def _hours_back(times: FloatArray, ranks: FloatArray) -> FloatArray:
    """Milliseconds to add to each time: an hour from where a rank's own clock falls back by one.

    For a moment after that, lines of other processes may still come from before it.
    """
    offset = np.zeros(len(times))
    known = 0
    jumps = np.diff(times)
    jumps += HOUR_MS
    for at in (np.flatnonzero((jumps <= NEAR_MS) & (jumps >= -NEAR_MS)) + 1).tolist():
        if at < known or not _own_jump(times, ranks, at):
            continue
        new = times[at:] < times[at] + HOUR_MS / 2
        later = np.flatnonzero(new & (times[at:] > times[at] + LATE_MS))
        moment = int(later[0]) if later.size else len(new)
        for rank in np.unique(ranks[at:]):
            own = _is(ranks[at:], rank)
            new |= own & np.maximum.accumulate(new & own)  # what a rank writes after its own jump is of after it
        new[moment:] = True
        offset[at:] += new * HOUR_MS
        known = at + moment
    return offset


def _own_jump(times: FloatArray, ranks: FloatArray, at: int) -> bool:
    """Whether the rank of the record itself fell back by an hour: its lines may follow those of another rank."""
    before = np.flatnonzero(_is(ranks[:at], ranks[at]))
    return bool(before.size) and bool(abs(times[before[-1]] - times[at] - HOUR_MS) <= NEAR_MS)


def _is(ranks: FloatArray, rank: float) -> BoolArray:
    return np.isnan(ranks) if np.isnan(rank) else ranks == rank

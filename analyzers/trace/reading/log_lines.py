"""What wraps the lines of a server's log: colours, progress bars, JSON of log collectors, prefixes with a clock."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

COLOURS = re.compile(rb"\x1b\[[0-9;?]{0,20}[A-Za-z]")
TEXT_KEYS = ("log", "message", "msg", "textPayload", "MESSAGE", "line")
TIME_KEYS = ("time", "@timestamp", "timestamp", "ts")
JOURNAL_US = "__REALTIME_TIMESTAMP"
_JSON_LINE = re.compile(rb"^[ \t]*\{[^\n]*\}[ \t\r]*$", re.MULTILINE)
_TIME = re.compile(rb"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(Z|[+-]\d\d:?\d\d)?")
_CACHED = 1 << 12


def plain(data: bytes) -> bytes:
    """Whole lines as the server wrote them; a JSON line becomes its text behind the collector's time.

    A carriage return ends a line too, as progress bars end theirs with nothing else.
    """
    if b"\x1b" in data:
        data = COLOURS.sub(b"", data)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return _JSON_LINE.sub(_unwrapped, data) if b"{" in data else data


class LineClock:
    """Reads the time of a line from what stands before its message. Many lines of one second are read once."""

    def __init__(self) -> None:
        self._known: dict[bytes, float] = {}

    def time_ms(self, head: bytes) -> float:
        """Milliseconds since 1970 of the first full date and time; NaN without one; UTC without a time zone.

        The first one is the clock of a container's runtime where it stands there: it has fractions of a second.
        """
        known = self._known.get(head)
        if known is None:
            if len(self._known) >= _CACHED:
                self._known.clear()
            known = self._known[head] = _time_ms(head)
        return known


def _time_ms(head: bytes) -> float:
    found = _TIME.search(head)
    if found is None:
        return float(np.nan)
    zone = (found[4] or b"Z").decode().replace("Z", "+00:00")
    try:
        whole = datetime.fromisoformat(f"{found[1].decode()}T{found[2].decode()}{zone}")
        return whole.timestamp() * 1e3 + float(b"0." + (found[3] or b"0")) * 1e3
    except (ValueError, OverflowError):
        return float(np.nan)


def _unwrapped(found: re.Match[bytes]) -> bytes:
    try:
        record: Any = msgspec.json.decode(found[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return found[0]
    if not isinstance(record, dict):
        return found[0]
    text: str | None = next((record[key] for key in TEXT_KEYS if isinstance(record.get(key), str)), None)
    if text is None:
        return found[0]
    lines = text.rstrip("\r\n").replace("\r", "\n").encode(errors="replace")
    moment = _collected_at(record)
    return (moment + b" " + lines) if moment else lines


def _collected_at(record: dict[str, Any]) -> bytes:
    moment = next((record[key] for key in TIME_KEYS if isinstance(record.get(key), str)), None)
    if moment is not None:
        return str(moment).encode(errors="replace") if _TIME.match(str(moment).encode(errors="replace")) else b""
    micros = str(record.get(JOURNAL_US, ""))
    if not (micros.isdecimal() and micros.isascii() and 15 <= len(micros) <= 16):
        return b""
    return str(np.datetime64(int(micros), "us")).encode() + b"Z"

"""What wraps the lines of a server's log: colours, progress bars, JSON of log collectors. It is taken off here only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import msgspec
import numpy as np

from lbal.analyzers.trace.source import Source

PIECE_BYTES = 1 << 19
"""Of text at a time: what is found in it takes some ten times as much memory, and stays in the processor's caches."""
MANGLED = "lines that are cut or mangled"
COLOURS = re.compile(rb"(?:\x1b|#033)(?:\[[0-9;?]{0,20}[A-Za-z]|\][^\x07\n]{0,200}\x07)")
"""Escape sequences of terminals, also as rsyslog writes the escape (`#033`)."""
TEXT_KEYS = ("log", "message", "msg", "textPayload", "MESSAGE", "line", "@message", "_raw", "body", "stringValue")
TIME_KEYS = ("time", "@timestamp", "timestamp", "ts", "date", "asctime", "scraped_at")
JOURNAL_US = "__REALTIME_TIMESTAMP"
PROCESS_KEYS = ("processName", "process")
"""Where vLLM's JSON logging keeps what stands as `(EngineCore_DP3 pid=7)` before a plain line."""
_JSON_LINE = re.compile(rb"^([^\n{]{0,400})(\{[ \t]*\"[^\n]*\})[ \t\r,]*$", re.MULTILINE)
_JSON_BEGIN = re.compile(rb"(?:\[\s*)?\{\s*\"")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_DEPTH = 3
"""A collector may wrap what another one has wrapped."""
_SECONDS_FROM, _SECONDS_TO = 1e9, 1e11
"""Numbers of seconds since 1970 lie between; those of ms, us and ns are a thousand times as large each."""
_NS_TO = _SECONDS_TO * 1e9
_heads: WeakKeyDictionary[Source, bytes] = WeakKeyDictionary()


def plain(data: bytes, *, any_text: bool = False) -> bytes:
    """Whole lines as the server wrote them; a JSON line becomes its text behind the collector's time.

    A carriage return ends a line too, as progress bars end theirs with nothing else. With `any_text` the text may
    stand under any name, and the time before several lines (a scrape) has a line of its own.
    """
    if b"{" in data and (b'{"' in data or b'{ "' in data):
        data = _JSON_LINE.sub(partial(_unwrapped, any_text=any_text), data)
    if b"\x1b" in data or (b"#" in data and b"#033" in data):
        data = COLOURS.sub(b"", data)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def plain_blocks(source: Source) -> Iterator[bytes]:
    """All of a log in blocks of whole lines, without what wraps them."""
    for block in source.blocks(PIECE_BYTES, text=False):
        yield plain(block.data)


def plain_head(source: Source) -> bytes:
    """The first megabytes of a log without what wraps its lines. Must not be called after the first block."""
    head = _heads.get(source)
    if head is None:
        head = _heads[source] = plain(source.wide_head)
    return head


def json_of(line: bytes) -> bytes:
    """The object or list of objects with which a line ends, without what a collector wrote before it; else nothing."""
    found = _JSON_BEGIN.search(line)
    return line[found.start() :].strip().rstrip(b",") if found else b""


def mangled(data: bytes, marks: tuple[bytes, ...], found: int) -> int:
    """How many lines were begun and not found whole: each whole line has each of the marks once."""
    return max(max(data.count(mark) for mark in marks) - found, 0)


def _unwrapped(found: re.Match[bytes], *, any_text: bool) -> bytes:
    head, text = found[1], found[2]
    for _ in range(_DEPTH):
        inner = _text_of(text, any_text=any_text)
        if inner is None:
            break
        before, text = inner
        head += before
        if not text.startswith(b"{"):
            break
    if text is found[2]:
        return found[0]
    if any_text and b"\n" in text:
        return (head.rstrip() + b"\n" if head.strip() else b"") + text
    return head + text.replace(b"\n", b"\n" + head) if head else text


def _text_of(line: bytes, *, any_text: bool) -> tuple[bytes, bytes] | None:
    """What stands before the text (time, process) and the text; None where the line has no text of a server."""
    try:
        record: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    text = _first_text(record)
    if text is None:
        inner = next((value for value in record.values() if isinstance(value, dict) and _first_text(value)), {})
        text = _first_text(inner)
    if text is None and any_text:
        text = next((value.encode() for value in record.values() if isinstance(value, str) and "{" in value), None)
    if text is None:
        return None
    moment = _collected_at(record)
    name, number = (record.get(key) for key in PROCESS_KEYS)
    process = f"({name} pid={number}) " if isinstance(name, str) and isinstance(number, int) else ""
    before = f"{moment} {process}" if moment else process
    return before.encode(errors="replace"), text.rstrip(b"\r\n").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _first_text(record: dict[str, Any]) -> bytes | None:
    """The text of the server; journald writes one with colours as a list of bytes."""
    for key in TEXT_KEYS:
        value = record.get(key)
        if isinstance(value, str):
            return value.encode(errors="replace")
        if isinstance(value, list) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
            return bytes(value)
    return None


def _collected_at(record: dict[str, Any]) -> str:
    for key in (*TIME_KEYS, JOURNAL_US):
        value = record.get(key)
        if isinstance(value, str) and _TIME.match(value):
            return value.replace(",", ".")
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
            value = int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and _SECONDS_FROM <= value < _NS_TO:
            micros = value * 1e6
            while micros >= _SECONDS_TO * 1e6:
                micros /= 1e3
            return str(np.datetime64(round(micros), "us")) + "Z"
    return ""

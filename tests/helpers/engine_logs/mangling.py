"""Lines as damage leaves them: what terminals, pipes, disks, collectors and other processes do to a line of a log.

`MANGLERS` do anything that can happen. `TELLING` are those of which a reader can know that the line is not whole: they
change no digit into another and leave no number that is a part of one, but for the last one of a line that ends there.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable

import numpy as np

Mangler = Callable[[bytes, np.random.Generator], bytes]
NUMBER = re.compile(rb"\d+(?:\.\d+)?")
NO_NUMBERS = (b"nan", b"NaN", b"inf", b"-inf", b"Infinity", b"null", b"None", b"N/A", b"-7", b"-0.5", b"", b"\xd9\xa3", b"0x1f", b"1e999", b'"3"', b"[]", b"{}", b"true")  # fmt: skip
HUGE = (
    b"9" * 15,
    b"9" * 18,
    b"9" * 40,
    b"9" * 400,
    b"9" * 5000,
    b"1e308",
    b"9007199254740993",
    b"1.7976931348623157e308",
)
TEXTS = ("ünïcödé ✓ 日本語 \u202e", "\ud7ff\ue000\U0010ffff", "\x00\x01\x02", "\ufeff", "\u2028", "\x85\x0b\x0c")
COLOURS = (b"\x1b[31m", b"\x1b[0m", b"\x1b[1;32m", b"\x1b[K")
OTHER_LINES = (b"INFO: 10.0.0.1:51514 - POST /v1/completions HTTP/1.1", b"Traceback (most recent call last):", b"| 45%|####  |")  # fmt: skip


def _inserted(line: bytes, at: int, text: bytes) -> bytes:
    return line[:at] + text + line[at:]


def _place(line: bytes, generator: np.random.Generator) -> int:
    return int(generator.integers(0, len(line) + 1))


def _chosen(choices: tuple[bytes, ...], generator: np.random.Generator) -> bytes:
    return choices[int(generator.integers(0, len(choices)))]


def cut(line: bytes, generator: np.random.Generator) -> bytes:
    """The beginning of the line, not up to within its last number, which nothing would tell from a whole one."""
    at = _place(line, generator)
    numbers = list(NUMBER.finditer(line))
    last = numbers[-1] if numbers else None
    return line[: last.start()] if last and last.start() < at <= last.end() and at < len(line) else line[:at]


def cut_anywhere(line: bytes, generator: np.random.Generator) -> bytes:
    return line[: _place(line, generator)]


def beheaded(line: bytes, generator: np.random.Generator) -> bytes:
    return line[_place(line, generator) :]


def wrapped(line: bytes, generator: np.random.Generator) -> bytes:
    """As a terminal wraps it."""
    return _inserted(line, _place(line, generator), _chosen((b"\n", b"\r\n", b"\n    "), generator))


def interrupted(line: bytes, generator: np.random.Generator) -> bytes:
    """By the line of another process."""
    return _inserted(line, _place(line, generator), _chosen(OTHER_LINES, generator) + _chosen((b"\n", b""), generator))


def coloured(line: bytes, generator: np.random.Generator) -> bytes:
    return _inserted(line, _place(line, generator), _chosen(COLOURS, generator))


def no_number(line: bytes, generator: np.random.Generator) -> bytes:
    """Something that is no number in place of one."""
    return _replaced(line, generator, NO_NUMBERS)


def huge_number(line: bytes, generator: np.random.Generator) -> bytes:
    return _replaced(line, generator, HUGE)


def _replaced(line: bytes, generator: np.random.Generator, texts: tuple[bytes, ...]) -> bytes:
    numbers = list(NUMBER.finditer(line))
    if not numbers:
        return line
    number = numbers[int(generator.integers(0, len(numbers)))]
    return line[: number.start()] + _chosen(texts, generator) + line[number.end() :]


def junk(line: bytes, generator: np.random.Generator) -> bytes:
    """Bytes that are no text in place of one to four."""
    data = bytearray(line)
    for _ in range(int(generator.integers(1, 5))):
        if data:
            data[int(generator.integers(0, len(data)))] = int(generator.integers(128, 256))
    return bytes(data)


def flipped(line: bytes, generator: np.random.Generator) -> bytes:
    """One to eight bits."""
    data = bytearray(line)
    for _ in range(int(generator.integers(1, 9))):
        if data:
            data[int(generator.integers(0, len(data)))] ^= 1 << int(generator.integers(0, 8))
    return bytes(data)


def swapped(line: bytes, generator: np.random.Generator) -> bytes:
    """Two fields in each other's place."""
    fields = re.split(rb"(, ?)", line)
    one, other = generator.integers(0, len(fields), 2)
    fields[one], fields[other] = fields[other], fields[one]
    return b"".join(fields)


def lacking(line: bytes, generator: np.random.Generator) -> bytes:
    """A piece of the line is not there."""
    at = _place(line, generator)
    return line[:at] + line[at + int(generator.integers(1, 60)) :]


def repeated(line: bytes, generator: np.random.Generator) -> bytes:
    """A piece of the line is there twice."""
    at = _place(line, generator)
    return line[:at] + line[max(at - int(generator.integers(1, 60)), 0) :]


def twice(line: bytes, generator: np.random.Generator) -> bytes:
    return line + b"\n" + line


def run_together(line: bytes, generator: np.random.Generator) -> bytes:
    """With the line that follows, of which there is some part."""
    return line + line[: _place(line, generator)]


def with_text(line: bytes, generator: np.random.Generator) -> bytes:
    text = TEXTS[int(generator.integers(0, len(TEXTS)))]
    return _inserted(line, _place(line, generator), text.encode("utf-8", "surrogatepass"))


def long(line: bytes, generator: np.random.Generator) -> bytes:
    return _inserted(line, _place(line, generator), _chosen((b"x", b"9", b" ", b"[", b'{"a":'), generator) * 5000)


def in_json(line: bytes, generator: np.random.Generator) -> bytes:
    """As the text of a collector's record, which is damaged itself at times."""
    text = line.decode("utf-8", "replace")
    key = ("log", "message", "MESSAGE", "textPayload")[int(generator.integers(0, 4))]
    times = (
        "2026-08-22T10:00:00Z",
        17,
        None,
        [],
        "9999-99-99T99:99:99Z",
        "2026-02-30 10:00:00",
        1e300,
        math.inf,
        10**400,
    )
    record = {key: text, "time": times[int(generator.integers(0, len(times)))], "__REALTIME_TIMESTAMP": "9" * 16}
    data = json.dumps(record).encode()
    return data if generator.integers(0, 2) else data[: _place(data, generator)]


TELLING: dict[str, Mangler] = {
    each.__name__: each for each in (cut, beheaded, wrapped, interrupted, coloured, no_number, junk)
}
MANGLERS: dict[str, Mangler] = {
    **TELLING,
    **{
        each.__name__: each
        for each in (
            cut_anywhere,
            huge_number,
            flipped,
            swapped,
            lacking,
            repeated,
            twice,
            run_together,
            with_text,
            long,
            in_json,
        )
    },
}


def mangled(line: bytes, generator: np.random.Generator) -> bytes:
    """The line after one to three damages of any kind."""
    kinds = list(MANGLERS.values())
    for _ in range(int(generator.integers(1, 4))):
        line = kinds[int(generator.integers(0, len(kinds)))](line, generator)
    return line

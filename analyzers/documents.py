"""Small JSON and TOML files (results, models, settings, headers): read within bounds, and free of what cannot be.

After `checked`, a value holds no number that is not finite, no whole number beyond 64 bits, no text that is not
Unicode, and no more than `MOST_LEVELS` levels: code that works on it need not look again.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from typing import Any, NoReturn

from lbal.analyzers.errors import InputError, shown

STDIN = "<stdin>"
"""The name of standard input, which commands call `-`."""
MOST_BYTES = 1 << 29
MOST_LEVELS = 64
MOST_DOTS = 1000
"""Of a key in TOML: the time to read them goes with their square."""
MOST_INTEGER = 1 << 63
INTEGER_EXPECTED = "a whole number of up to 64 bits"


def read_document(name: str, expected: str, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a file or pipe, `<stdin>` among them.

    Raises `InputError` for one that cannot be read, a device, or too many bytes.
    """
    try:
        with open(0 if name == STDIN else name, "rb", closefd=name != STDIN) as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not file.isatty()):
                raise InputError(name, "is a device", expected=expected)
            data = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(name, f"cannot be read: {reason}", expected=expected) from error
    if len(data) > most_bytes:
        raise InputError(name, f"is longer than {most_bytes:,} bytes", expected=expected)
    return data


def json_value(data: bytes, file: str, expected: str, problem: str = "is not JSON") -> Any:
    """What a JSON text holds, checked. Raises `InputError` that names line and field."""
    try:
        value = json.loads(_text(data, file, expected), parse_constant=_Constant)
    except json.JSONDecodeError as error:
        raise InputError(file, f"{problem}: {error.msg}", line=error.lineno, expected=expected) from error
    except RecursionError as error:
        raise InputError(file, "is nested too deeply", expected=expected) from error
    except ValueError as error:  # integers of thousands of digits
        raise InputError(file, "has a number of too many digits", expected=INTEGER_EXPECTED) from error
    checked(value, file)
    return value


def toml_table(data: bytes, file: str) -> dict[str, Any]:
    """What a TOML text holds, checked. Raises `InputError` that names the field."""
    text = _text(data, file, "TOML in UTF-8")
    if any(line.partition("=")[0].count(".") > MOST_DOTS for line in text.splitlines()):
        raise InputError(file, "is nested too deeply", expected="a TOML file")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(file, f"is not TOML: {error}", expected="a TOML file") from error
    except RecursionError as error:
        raise InputError(file, "is nested too deeply", expected="a TOML file") from error
    except ValueError as error:
        raise InputError(file, "has a number or a date that cannot be", expected=INTEGER_EXPECTED) from error
    checked(table, file)
    return table


def checked(value: Any, file: str, line: int | None = None) -> None:
    """Raise `InputError`, with its place, for the first part of a value that code could not work with."""
    left = [(value, "", 1)]
    while left:
        part, where, level = left.pop()
        if isinstance(part, _Constant) or (isinstance(part, float) and not math.isfinite(part)):
            _refuse(file, line, where, f"{part} is not a finite number", "a finite number or null")
        elif isinstance(part, str):
            _check_text(part, file, line, where)
        elif isinstance(part, int):
            if not -MOST_INTEGER <= part < MOST_INTEGER:
                _refuse(file, line, where, f"{_digits(part)} is too large", INTEGER_EXPECTED)
        elif isinstance(part, dict | list):
            if level > MOST_LEVELS:
                _refuse(file, line, where, "is nested too deeply", f"at most {MOST_LEVELS} levels")
            if isinstance(part, dict):
                for key in part:
                    _check_text(key, file, line, where)
                inner = [(item, f"{where}.{key}" if where else str(key)) for key, item in part.items()]
            else:
                inner = [(item, f"{where}[{index}]") for index, item in enumerate(part)]
            left += [(item, deeper, level + 1) for item, deeper in reversed(inner)]


def _check_text(text: str, file: str, line: int | None, where: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            _refuse(file, line, where, f"{shown(text)} has half of a surrogate pair", "Unicode text")


def _text(data: bytes, file: str, expected: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise InputError(file, problem, line=where, expected=expected) from error


def _refuse(file: str, line: int | None, where: str, problem: str, expected: str) -> NoReturn:
    raise InputError(file, problem, line=line, field=shown_place(where) or None, expected=expected)


def shown_place(where: str, limit: int = 120) -> str:
    """A place within a document as it may stand in a message: on one line, printable, not too long."""
    text = "".join(sign if sign.isprintable() else "?" for sign in where)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 2 :]}"


def _digits(number: int) -> str:
    """A whole number for a message: all of it, or its first digits and how many there are."""
    if number.bit_length() > 10_000:
        return "a number of thousands of digits"
    text = str(number)
    return text if len(text) <= 30 else f"{text[:12]}… ({len(text.lstrip('-'))} digits)"


class _Constant(str):
    """NaN, Infinity or -Infinity, which JSON lacks and Python reads."""

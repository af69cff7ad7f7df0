"""Text that lbal did not write, names from files above all, made harmless where it is printed.

What could steer a terminal (escape sequences and other control characters), turn the direction of writing, hide
itself, or be taken for a command of a CI system shows as what it is. Every output passes its text through one
function: this one, or one of its own that builds on it.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST_MESSAGE = 2000
_UNSEEN = ("Cc", "Cf", "Cs", "Co")
"""Unicode categories of characters that are not seen, or do something else than be seen."""
_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#(?:\[|vso\[))", re.MULTILINE)
"""What GitHub takes for a command at the start of a line, and Azure anywhere in it."""
_SPACE = re.compile("[\t\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""Tabs, and all that Python takes for the end of a line."""
_DIGITS = re.compile(r"\d{60,}")


def plain(text: str) -> str:
    """Text on one line, as it can be seen: white space as single spaces, all that is not seen as escapes."""
    return _COMMAND.sub(lambda found: f"{found[0]} ", seen(_SPACE.sub(" ", text)))


def seen(text: str) -> str:
    """Text whose lines stay lines, with an escape for each character that is not seen."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if sign == "\n" or sign.isprintable() else _escape(sign) for sign in text)


def message(text: str) -> str:
    """A message for stderr: plain, long numbers by their first digits, and not without end."""
    short = _DIGITS.sub(lambda found: f"{found[0][:12]}… ({len(found[0])} digits)", plain(text))
    half = LONGEST_MESSAGE // 2
    return short if len(short) <= LONGEST_MESSAGE else f"{short[:half]} … {short[-half:]}"


def plain_values(value: Any) -> Any:
    """A value with every text in it plain: records, lists and dataclasses are copied, all else stays."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Mapping):
        return {plain_values(key): plain_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        parts = {name: getattr(value, name) for name in fields}
        texts = {name: part for name, part in parts.items() if isinstance(part, str | Mapping | list | tuple)}
        return dataclasses.replace(value, **{name: plain_values(part) for name, part in texts.items()})
    return value


def _escape(sign: str) -> str:
    if unicodedata.category(sign) not in _UNSEEN:  # other spaces
        return sign
    return sign.encode("unicode_escape").decode("ascii")

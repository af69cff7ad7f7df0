"""Records as JSON text that people can read too."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

UNSEEN = re.compile(
    "[\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff]|#(?=#(?:\\[|vso))"
)
"""Control characters, marks of the direction of writing, what has no width, and commands of CI systems in strings."""


def plain(value: Any) -> Any:
    """A value as JSON has it: lists for tuples, null for numbers that are none."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def json_text(record: Mapping[str, Any]) -> str:
    """A record as indented JSON, lists of numbers on one line; numbers that are none as null."""
    return escaped(_text(plain(record), "")) + "\n"


def escaped(text: str) -> str:
    """The same JSON, with what would steer a terminal or a CI system escaped: it reads back as it was."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _text(value: Any, indent: str) -> str:
    """JSON of a plain value whose first line begins after that indent."""
    inner = indent + " "
    if isinstance(value, dict) and value:
        return _lines("{}", [f"{_scalar(str(key))}: {_text(item, inner)}" for key, item in value.items()], indent)
    if isinstance(value, list) and value:
        if _only_numbers(value):
            return f"[{', '.join(map(_scalar, value))}]"
        return _lines("[]", [_text(item, inner) for item in value], indent)
    return _scalar(value)


def _lines(brackets: str, items: Sequence[str], indent: str) -> str:
    separator = f",\n{indent} "
    return f"{brackets[0]}\n{indent} {separator.join(items)}\n{indent}{brackets[1]}"


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _only_numbers(values: Sequence[Any]) -> bool:
    return all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)

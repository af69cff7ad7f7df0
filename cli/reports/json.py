"""The result as JSON: the schema that every command shares."""

from __future__ import annotations

import json
import math
import re
from typing import Any, ClassVar

from lbal.analyzers.result.result import Result
from lbal.cli.reports.base import Report

UNSEEN = re.compile(
    "[\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff]|#(?=#(?:\\[|vso))"
)
"""Control characters, marks of the direction of writing, what has no width, and commands of CI systems in strings."""
NUMBERS = re.compile(r"\[\n((?:\s*(?:-?\d[\d.eE+-]*|null),?\n)+)\s*\]")


class JsonReport(Report):
    """The versioned result schema; numbers in full, unknown ones as null."""

    name: ClassVar[str] = "json"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    content: ClassVar[str] = "the result schema"

    def render(self, result: Result) -> str:
        """Indented JSON with its keys in the order of the schema."""
        return json_text(result.as_dict())


def json_text(record: dict[str, Any]) -> str:
    """A record as indented JSON, lists of numbers on one line; numbers that are none as null."""
    text = escaped(json.dumps(_plain(record), indent=1, ensure_ascii=False, allow_nan=False))
    # A line end inside a string is escaped in JSON, so nothing but lists of numbers looks like this.
    return NUMBERS.sub(lambda found: f"[{', '.join(found[1].split())}]".replace(",,", ","), text) + "\n"


def escaped(text: str) -> str:
    """The same JSON, with what would steer a terminal or a CI system escaped: it reads back as it was."""
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

"""The result as JSON: the schema that every command shares."""

from __future__ import annotations

from typing import ClassVar

from lbal.analyzers.result.json_text import json_text
from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result


class JsonReport(Report):
    """The versioned result schema; numbers in full, unknown ones as null."""

    name: ClassVar[str] = "json"
    suffixes: ClassVar[tuple[str, ...]] = (".json",)
    content: ClassVar[str] = "the result schema"
    needs: ClassVar[frozenset[str]] = frozenset({"series"})

    def render(self, result: Result) -> str:
        """Indented JSON with its keys in the order of the schema."""
        return json_text(result.as_dict())

"""Reading a model that the user wrote as a JSON object, with messages that name file and field."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from lbal.analyzers.documents import json_value, read_document
from lbal.analyzers.errors import InputError, shown

MOST_BYTES = 1 << 24
EXPECTED = "a model as JSON in UTF-8"
LEVELS = ("low", "nominal", "high")


def is_file(name: str) -> bool:
    """Whether a value names a file rather than a preset: it exists, or looks like one."""
    return os.path.exists(name) or name.lower().endswith((".json", ".jsonl", ".jsonl.gz", ".parquet"))


def is_json_file(name: str) -> bool:
    """Whether a file is one JSON object by its name; traces are JSON Lines."""
    return name.lower().endswith(".json")


@dataclass(frozen=True)
class ModelFile:
    """The object in a file; every method raises `InputError` that names the file and the field."""

    name: str
    record: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> ModelFile:
        """The object that a file holds."""
        record = json_value(read_document(name, EXPECTED, MOST_BYTES), name, EXPECTED, "is no JSON")
        if not isinstance(record, dict):
            raise InputError(name, f"holds {shown(record)}", expected="a JSON object with the fields of a model")
        return cls(name, record)

    def fail(self, field: str, problem: str, expected: str) -> InputError:
        """The error for a field."""
        return InputError(self.name, problem, field=field, expected=expected)

    def refuse_unknown(self, known: Set[str], kind: str) -> None:
        """Fields that a model does not have are typing mistakes."""
        for field in self.record:
            if field not in known:
                raise self.fail(field, f"is no field of a {kind}", ", ".join(sorted(known)))

    def text(self, field: str, default: str) -> str:
        """A string."""
        value = self.record.get(field, default)
        if not isinstance(value, str):
            raise self.fail(field, f"{shown(value)} is no text", "a string")
        return value

    def number(self, field: str, *, default: float | None = None, least: float, most: float) -> float:
        """A number within bounds; a field without a default must be there."""
        if field not in self.record and default is not None:
            return default
        return self.checked(self.record.get(field), field, least, most)

    def checked(self, value: Any, field: str, least: float, most: float) -> float:
        """The value, if it is a number within bounds."""
        expected = f"a number from {least:g} to {most:g}"
        if value is None:
            raise self.fail(field, "is missing", expected)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise self.fail(field, f"{shown(value)} is no number", expected)
        if not least <= value <= most:
            raise self.fail(field, f"{shown(value)} is out of range", expected)
        return float(value)

    def levels(self, field: str, *, above: float, most: float) -> tuple[float, float, float]:
        """Low, nominal and high value, in order: an object with the three, or one number for all."""
        value = self.record.get(field)
        if not isinstance(value, dict):
            number = self.checked(value, field, above, most)
            return number, number, number
        if set(value) != set(LEVELS):
            raise self.fail(field, f"has the fields {', '.join(map(str, value)) or 'none'}", "low, nominal and high")
        low, nominal, high = (self.checked(value[level], f"{field}.{level}", above, most) for level in LEVELS)
        if not low <= nominal <= high:
            raise self.fail(field, f"{low:g}, {nominal:g}, {high:g} are not in order", "low <= nominal <= high")
        return low, nominal, high

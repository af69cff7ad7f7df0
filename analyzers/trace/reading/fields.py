"""What the fields of an input may hold, and what is said of a value that they may not.

Readers decode fast, in bulk; these rules are the plain reading of the same contract, and they word the
message once a value has been refused.
"""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.trace.trace import MAX_TOKENS

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True)
class Kind:
    """A kind of value: what it should be, and a function that says what is wrong with a value (None: nothing)."""

    expected: str
    fault: Callable[[object], str | None]


def number_in(text: str) -> object:
    """The number that a text spells, or the text itself where it spells none."""
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _is(value: object, what: str) -> str:
    as_json = value is None or isinstance(value, bool)
    return f"{json.dumps(value) if as_json else shown(value)} is {what}"


def _count_fault(value: object) -> str | None:
    if value == "":
        return "is empty"
    if type(value) is not int:
        return _is(value, "not a whole number")
    if value < 0:
        return _is(value, "negative")
    return _is(value, "too large") if value > MAX_TOKENS else None


def _number_fault(value: object) -> str | None:
    if value == "":
        return "is empty"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _is(value, "not a number")
    return None if abs(value) <= sys.float_info.max else _is(value, "not finite")


def _integer_fault(value: object) -> str | None:
    if type(value) is not int:
        return _is(value, "not a whole number")
    return None if -(2**63) <= value < 2**63 else _is(value, "too large")


def _id_fault(value: object) -> str | None:
    return None if isinstance(value, str) or _integer_fault(value) is None else _is(value, "no id")


def _bounded(kind: Kind, expected: str, problem: str, within: Callable[[Any], bool]) -> Kind:
    def fault(value: object) -> str | None:
        return kind.fault(value) or (None if within(value) else _is(value, problem))

    return Kind(expected, fault)


COUNT = Kind("a whole number from 0 to 2**40", _count_fault)
SIZE = _bounded(COUNT, "a whole number of at least 1", "not positive", lambda value: value > 0)
INTEGER = Kind("a whole number of up to 64 bits", _integer_fault)
NUMBER = Kind("a finite number", _number_fault)
NON_NEGATIVE = _bounded(NUMBER, "a number of at least 0", "negative", lambda value: value >= 0)
POSITIVE = _bounded(NUMBER, "a number above 0", "not positive", lambda value: value > 0)
ID = Kind("a string or a whole number of up to 64 bits", _id_fault)
TEXT = Kind("a string", lambda value: None if isinstance(value, str) else _is(value, "not a string"))
OBJECT = Kind("an object", lambda value: None if isinstance(value, dict) else _is(value, "not an object"))


def choice(*values: str) -> Kind:
    """One of some strings."""
    expected = " or ".join(map(repr, values))
    return Kind(expected, lambda value: None if value in values else _is(value, f"not {expected}"))


def nullable(kind: Kind) -> Kind:
    """Values of a kind, or null."""
    return Kind(f"{kind.expected}, or null", lambda value: None if value is None else kind.fault(value))


def list_of(kind: Kind) -> Kind:
    """Arrays of values of a kind."""

    def fault(value: object) -> str | None:
        if not isinstance(value, list):
            return _is(value, "not an array")
        faults = ((index, kind.fault(element)) for index, element in enumerate(value))
        return next((f"element {index}: {problem}" for index, problem in faults if problem), None)

    return Kind(f"an array of: {kind.expected}", fault)


def map_of(kind: Kind) -> Kind:
    """Objects whose values are of a kind."""

    def fault(value: object) -> str | None:
        if not isinstance(value, dict):
            return _is(value, "not an object")
        faults = ((key, kind.fault(element)) for key, element in value.items())
        return next((f"{key}: {problem}" for key, problem in faults if problem), None)

    return Kind(f"an object of: {kind.expected}", fault)


@dataclass(frozen=True)
class Rules:
    """The fields of one sort of record: their kinds, which must be there, whether there may be others."""

    what: str
    """What the record is called in messages."""
    kinds: Mapping[str, Kind]
    required: tuple[str, ...]
    closed: bool = True

    def refuse(self, record: Mapping[str, object], file: str, line: int | None) -> None:
        """Raise `InputError` for the first field that breaks a rule; return where none does."""
        for name, value in record.items():
            if name in self.kinds:
                kind = self.kinds[name]
                problem = kind.fault(value)
                if problem:
                    raise InputError(file, problem, line=line, field=name, expected=kind.expected)
            elif self.closed:
                expected = nearest(name, self.kinds)
                raise InputError(
                    file, f"is no field of {self.what}", line=line, field=shown_name(name), expected=expected
                )
        for name in self.required:
            if name not in record:
                expected = self.kinds[name].expected
                raise InputError(file, f"is missing in {self.what}", line=line, field=name, expected=expected)


def nearest(name: str, known: Iterable[str]) -> str:
    """What was meant by an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    return repr(near[0]) if near else f"one of {', '.join(names)}"


def shown_name(name: str) -> str:
    """A field name as it may stand in a message: itself, quoted where it is not plain."""
    return name if re.fullmatch(r"[\w .-]{1,60}", name) else shown(name)

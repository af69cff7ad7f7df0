"""One check of JSON against its shape, with a message that names the field, what it holds and what was expected."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from lbal.analyzers.documents import shown_place
from lbal.analyzers.errors import InputError, shown

KINDS = {
    "str": "text",
    "array": "a list",
    "object": "an object",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
}
"""What msgspec calls the types of JSON, in words."""
ANY_KEY = "[...]"
"""How msgspec names the entry of an object whose keys are free."""


def fitted(value: Any, shape: Any, file: str) -> Any:
    """A value of JSON as its shape. Raises `InputError` for the first part that does not fit."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise _refusal(value, shape, file, str(error)) from error


def _refusal(value: Any, shape: Any, file: str, message: str) -> InputError:
    told, _, path = message.partition(" - at `$")
    keys = _keys(value, shape, message, path.rstrip("`"))
    part = value
    for key in keys:
        part = part[key]
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    missing = re.fullmatch(r"Object missing required field `(\w+)`", told)
    if missing is not None:
        name = missing[1]
        told = _message(_with(value, keys, {**part, name: None}), shape).partition(" - at ")[0]
        if not told:
            return _input_error(file, f"{place}.{name}", "is missing", "a value or null")
        expected = _expected(told)
        return _input_error(file, f"{place}.{name}", "None does not fit", expected)
    expected = _expected(told)
    problem = "is not a number" if "number" in expected and "whole" not in expected else "does not fit"
    return _input_error(file, place, f"{shown(part)} {problem}", expected)


def _input_error(file: str, place: str, problem: str, expected: str) -> InputError:
    return InputError(file, problem, field=shown_place(place.removeprefix(".")) or None, expected=expected)


def _expected(told: str) -> str:
    """`Expected `float | null`, got `str`` in words."""
    found = re.match(r"Expected `([^`]+)`(.*)", told)
    if found is None:
        return told[:1].lower() + told[1:]
    kinds = " or ".join(KINDS.get(kind, kind) for kind in found[1].split(" | "))
    return kinds + re.sub(r", got .*", "", found[2])


def _keys(value: Any, shape: Any, message: str, path: str) -> list[str | int]:
    """The keys that lead to the place of a message; which entry of an object is meant is found by trying each."""
    keys: list[str | int] = []
    part = value
    for step in re.findall(r"\[\.\.\.\]|\[\d+\]|\.[^.\[]+", path):
        if step == ANY_KEY and isinstance(part, dict):
            alone = ((key, _with(value, keys, {key: item})) for key, item in part.items())
            keys.append(next(key for key, tried in alone if _message(tried, shape) == message))
        else:
            keys.append(int(step[1:-1]) if step.startswith("[") else step[1:])
        part = part[keys[-1]]
    return keys


def _message(value: Any, shape: Any) -> str:
    """What msgspec says of a value; empty where it fits."""
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def _with(value: Any, keys: list[str | int], part: Any) -> Any:
    """A copy of a value with another part at a place."""
    if not keys:
        return part
    first, *others = keys
    if isinstance(value, dict):
        return {**value, first: _with(value[first], others, part)}
    assert isinstance(first, int)
    return [*value[:first], _with(value[first], others, part), *value[first + 1 :]]

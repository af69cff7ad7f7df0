"""Reading results back from JSON: what `lbal compare` and `lbal check` work on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from lbal.analyzers.documents import json_value, read_document
from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.metrics import Measure
from lbal.analyzers.result.result import SCHEMA, Result, Run

EXPECTED = "a result (-o name.json)"
RUN_FIELDS = {
    "label", "policy", "parameters", "metrics", "ranks", "attribution", "worst_steps", "headroom", "solver",
    "series", "repeats",
}  # fmt: skip
"""Keys of a run in JSON; any other is one of its details."""


@dataclass(frozen=True)
class Stored:
    """A result as it was read, with what the file says of its making."""

    name: str
    schema: str
    lbal_version: str
    result: Result


def read_result(name: str, *, any_schema: bool = False) -> Stored:
    """The result in a file. Raises `InputError` where it is none, or has another schema unless `any_schema`."""
    record = _record(name)
    schema = record.get("schema")
    if not isinstance(schema, str) or not schema.startswith("lbal.result/"):
        raise InputError(name, f"{shown(schema)} is no schema of a result", field="schema", expected=repr(SCHEMA))
    if schema != SCHEMA and not any_schema:
        raise InputError(
            name,
            f"it has schema {schema!r} and this lbal reads {SCHEMA!r}",
            field="schema",
            expected="a result written by this version (or --allow-mismatch schema)",
        )
    names = {field.name for field in fields(Result)} & record.keys() - {"runs", "items", "inputs", "notes"}
    for key in names - {"command", "headline"}:
        _expect(name, key, record[key], dict, "an object")
    runs = _expect(name, "runs", record.get("runs"), list, "a list")
    result = Result(
        inputs=_objects(name, "inputs", record.get("inputs", [])),
        notes=[str(note) for note in _expect(name, "notes", record.get("notes", []), list, "a list")],
        runs=[_run(name, f"runs[{index}]", run) for index, run in enumerate(runs)],
        **{"command": "", "config": {}, **{key: record[key] for key in names}},
    )
    _distinct(name, result)
    return Stored(name, schema, str(record.get("lbal_version")), result)


def _record(name: str) -> dict[str, Any]:
    record = json_value(read_document(name, EXPECTED), name, EXPECTED)
    if not isinstance(record, dict):
        raise InputError(name, "is no result", expected="a JSON object with a schema")
    return record


def _run(name: str, place: str, record: Any) -> Run:
    run = _expect(name, place, record, dict, "an object")
    label = _expect(name, f"{place}.label", run.get("label"), str, "a name")
    parts = {
        key: _expect(name, f"{place}.{key}", run.get(key, {}), dict, "an object")
        for key in ("parameters", "attribution", "solver", "series", "repeats")
    }
    _check_numbers(name, f"{place}.series.columns", parts["series"].get("columns", {}), same_length=True)
    _check_numbers(name, f"{place}.repeats.values", parts["repeats"].get("values", {}), same_length=True)
    return Run(
        label=label,
        policy=run.get("policy"),
        metrics=_measures(name, f"{place}.metrics", run.get("metrics", {})),
        headroom=_measures(name, f"{place}.headroom", run.get("headroom", {})),
        ranks=_objects(name, f"{place}.ranks", run.get("ranks", [])),
        worst_steps=_objects(name, f"{place}.worst_steps", run.get("worst_steps", [])),
        details={key: value for key, value in run.items() if key not in RUN_FIELDS},
        **parts,
    )


def _measures(name: str, place: str, record: Any) -> dict[str, Measure]:
    found = {}
    for metric, values in _expect(name, place, record, dict, "an object").items():
        where = f"{place}.{metric}"
        part = _expect(name, where, values, dict, "an object")
        numbers = {key: _number(name, f"{where}.{key}", part.get(key)) for key in ("value", "low", "high", "fidelity")}
        value = numbers.pop("value")
        found[metric] = Measure(
            math.nan if value is None else value, str(part.get("unit", "")), part.get("basis", "modelled"), **numbers
        )
    return found


def _check_numbers(name: str, place: str, columns: Any, *, same_length: bool) -> None:
    lengths = set()
    for key, values in _expect(name, place, columns, dict, "an object").items():
        for value in _expect(name, f"{place}.{key}", values, list, "a list"):
            _number(name, f"{place}.{key}", value)
        lengths.add(len(values))
    if same_length and len(lengths) > 1:
        raise InputError(name, "its lists differ in length", field=place, expected="lists of one length")


def _number(name: str, place: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(name, f"{shown(value)} is not a number", field=place, expected="a number or null")
    return float(value)


def _objects(name: str, place: str, values: Any) -> list[Mapping[str, Any]]:
    found = _expect(name, place, values, list, "a list")
    return [_expect(name, f"{place}[{index}]", value, dict, "an object") for index, value in enumerate(found)]


def _expect(name: str, place: str, value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind):
        raise InputError(name, f"{shown(value)} does not fit", field=place, expected=what)
    return value


def _distinct(name: str, result: Result) -> None:
    labels = [run.label for run in result.runs]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(name, f"two runs are called {label!r}", field="runs", expected="each label once")

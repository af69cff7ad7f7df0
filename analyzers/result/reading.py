"""Reading results back from JSON: what `lbal compare` and `lbal check` work on."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

from lbal.analyzers.barrier.apart import Apart
from lbal.analyzers.barrier.thinned import SERIES_COLUMNS, StepSeries
from lbal.analyzers.documents import STDIN, json_value, read_document
from lbal.analyzers.errors import InputError, Parameter, shown
from lbal.analyzers.metrics import Basis, Measure
from lbal.analyzers.result.fitting import fitted
from lbal.analyzers.result.result import SCHEMA, Result, Run
from lbal.analyzers.result.shapes import MeasureShape, ResultShape, RunShape

EXPECTED = "a result (-o name.json)"
RESULT_MARK, MARK_WITHIN_BYTES = re.compile(rb'"schema"\s*:\s*"lbal\.result/'), 4096
"""By what a result is told from a trace: it comes first in what lbal writes."""
PLAIN = {field.name for field in fields(Result)} - {"runs"}
"""Fields of a result that are as JSON has them."""
LOADS = {"kv_tokens_mean", "kv_tokens_straggler", "num_running_mean", "num_running"}
NUMBERS = {"ranks", "attribution", "worst_steps"}
SHAPED = {"metrics", "headroom", "drawn", "apart", "details", "timeline"} | NUMBERS
"""Fields of a run in which what is unknown is null in JSON and nan here, and all that are not as JSON has them."""


@dataclass(frozen=True)
class Stored:
    """A result as it was read, with what the file says of its making."""

    name: str
    schema: str
    lbal_version: str
    result: Result

    @classmethod
    def of(cls, result: Result, name: str) -> Stored:
        """A result that is not in a file, under a name."""
        return cls(name, SCHEMA, result.lbal_version, result)


def read_result(name: str, *, any_schema: bool = False) -> Stored:
    """The result in a file, or of standard input (`-`).

    Raises `InputError` where it is none, or has another schema unless `any_schema`.
    """
    name = STDIN if name == "-" else name
    record = _record(name)
    schema = record.get("schema")
    if not isinstance(schema, str) or not schema.startswith("lbal.result/"):
        raise InputError(name, f"{shown(schema)} is no schema of a result", field="schema", expected=repr(SCHEMA))
    if schema != SCHEMA and not any_schema:
        raise InputError(
            name,
            f"it has schema {schema!r} and this lbal reads {SCHEMA!r}",
            field="schema",
            expected=["a result written by this version (or ", Parameter("allow_mismatch", "schema"), ")"],
        )
    result = result_of(record, name)
    return Stored(name, schema, result.lbal_version, result)


def load_result(name: str | Path) -> Result:
    """The result in a file that `-o name.json` or `Result.write` wrote. Raises as `read_result` does."""
    return read_result(str(name)).result


def result_of(record: Mapping[str, Any], name: str) -> Result:
    """The result of a JSON object. Raises `InputError`, which calls it by `name`, where it is none."""
    shape = fitted(record, ResultShape, name)
    result = Result(
        runs=[
            _run(name, f"runs[{index}]", run, checked)
            for index, (run, checked) in enumerate(zip(record["runs"], shape.runs, strict=True))
        ],
        **{"command": "", "config": {}, "inputs": [], **{key: record[key] for key in PLAIN & record.keys()}},
    )
    _distinct(name, result)
    return replace(result, workload=_known(result.workload))


def _record(name: str) -> dict[str, Any]:
    record = json_value(read_document(name, EXPECTED), name, EXPECTED)
    if not isinstance(record, dict):
        raise InputError(name, "is no result", expected="a JSON object with a schema")
    return record


def _run(name: str, place: str, run: Mapping[str, Any], shape: RunShape) -> Run:
    _same_length(name, f"{place}.series.columns", shape.series.columns)
    _same_length(name, f"{place}.repeats.values", shape.repeats.values)
    told = {field.name for field in fields(Run)}
    return Run(
        **{key: value for key, value in run.items() if key in told - SHAPED},
        **{key: _known(run[key]) for key in NUMBERS & run.keys()},
        metrics=_measures(shape.metrics),
        headroom=_measures(shape.headroom),
        drawn=None if shape.drawn is None else _drawn(name, f"{place}.drawn", run["drawn"]),
        apart=None if shape.apart is None else _apart(name, f"{place}.apart", run["apart"]),
        details={key: value for key, value in run.items() if key not in told},
    )


def _known(value: Any, key: str = "") -> Any:
    """The same with nan for null: an unknown number; loads that a trace does not tell stay None, as in `known_part`."""
    if isinstance(value, dict):
        return {name: _known(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_known(item) for item in value]
    return math.nan if value is None and key not in LOADS else value


def _measures(shapes: Mapping[str, MeasureShape]) -> dict[str, Measure]:
    return {
        metric: Measure(
            math.nan if shape.value is None else shape.value,
            shape.unit,
            cast(Basis, shape.basis),
            shape.low,
            shape.high,
            shape.fidelity,
        )
        for metric, shape in shapes.items()
    }


def _drawn(name: str, place: str, record: Mapping[str, Any]) -> StepSeries:
    _same_length(name, place, {column: record[column] for column in SERIES_COLUMNS})
    if not any(record["idle_bins"]):
        raise InputError(name, "they hold no step", field=f"{place}.idle_bins", expected="counts of steps")
    if loads := record.get("loads"):
        place = f"{place}.loads"
        _same_length(name, place, {column: loads[column] for column in ("first_step", "last_step", "kv_tokens")})
        rows = -(-loads["dp_size"] // loads["ranks_per_row"])
        if any(len(row) != rows for row in loads["kv_tokens"]):
            raise InputError(
                name, "its lists differ from the ranks in length", field=f"{place}.kv_tokens", expected=f"{rows} values"
            )
    return StepSeries.from_dict(record)


def _apart(name: str, place: str, record: Mapping[str, Any]) -> Apart:
    apart = Apart.from_dict(record)
    steps = {column: record[column] for column in ("first_step", "last_step")}
    for load in apart.loads:
        _same_length(name, f"{place}.{load}", {**steps, **record[load]})
    return apart


def _same_length(name: str, place: str, columns: Mapping[str, Sequence[Any]]) -> None:
    if len({len(values) for values in columns.values()}) > 1:
        raise InputError(name, "its lists differ in length", field=place, expected="lists of one length")


def _distinct(name: str, result: Result) -> None:
    labels = [run.label for run in result.runs]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(name, f"two runs are called {label!r}", field="runs", expected="each label once")


def refuse_result(name: str) -> None:
    """Raise `InputError` for a file that is a result of lbal, which holds no requests, and not a trace."""
    if not Path(name).is_file():
        return  # a pipe can be read once; whoever reads it as a trace says what is wrong with it
    start = b""
    with suppress(OSError), open(name, "rb") as file:
        start = file.read(MARK_WITHIN_BYTES)
    if RESULT_MARK.search(start):
        raise InputError(name, "is a result of lbal and holds no requests", expected="the trace that it was made of")

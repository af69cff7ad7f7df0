"""The figures of a result as polars tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from lbal.analyzers.barrier.thinned import SERIES_COLUMNS
from lbal.analyzers.errors import UsageError
from lbal.analyzers.result.result import Result

Row = dict[str, Any]

METRIC_COLUMNS: dict[str, Any] = {
    "run": pl.String,
    "policy": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
    "unit": pl.String,
    "basis": pl.String,
    "low": pl.Float64,
    "high": pl.Float64,
    "fidelity": pl.Float64,
}
RANK_COLUMNS: dict[str, Any] = {
    "run": pl.String,
    "rank": pl.Int64,
    "idle_fraction": pl.Float64,
    "straggler_fraction": pl.Float64,
    "empty_fraction": pl.Float64,
    "kv_tokens_mean": pl.Float64,
    "num_running_mean": pl.Float64,
}
STEP_COLUMNS: dict[str, Any] = {
    "run": pl.String,
    "first_step": pl.Int64,
    "last_step": pl.Int64,
    "idle_fraction": pl.Float64,
    "idle_fraction_max": pl.Float64,
    "imbalance_ratio": pl.Float64,
}


def frame(result: Result, table: str) -> pl.DataFrame:
    """The table of that name. Raises `UsageError` for another name, and for steps where none are stored.

    - `metrics`: a row for each run and metric, headroom included, with its range where that is known.
    - `ranks`: a row for each run and rank; with measured times also `work_factor` and `idle_<cause>`.
    - `steps`: a row for each run and bucket of neighbouring steps, as charts draw them.

    What is not known is null.
    """
    if table not in TABLES:
        raise UsageError(f"table {table!r}: is none of a result, expected {' or '.join(map(repr, TABLES))}")
    rows, columns = TABLES[table]
    found = pl.DataFrame(list(rows(result)), schema_overrides=columns, infer_schema_length=None)
    if found.is_empty():
        found = pl.DataFrame(schema=columns)
    return found.with_columns(pl.col(pl.Float64).fill_nan(None))


def _metrics(result: Result) -> Iterator[Row]:
    for run in result.runs:
        for name, value in (*run.metrics.items(), *run.headroom.items()):
            ends = {key: getattr(value, key) for key in ("value", "low", "high", "fidelity")}
            about = {"policy": run.policy, "metric": name, "unit": value.unit, "basis": value.basis}
            row = {"run": run.label, **about, **ends}
            yield {column: row[column] for column in METRIC_COLUMNS}


def _ranks(result: Result) -> Iterator[Row]:
    for run in result.runs:
        for rank in run.ranks:
            causes = {f"idle_{cause}": share for cause, share in rank.get("idle_by_cause", {}).items()}
            yield {"run": run.label, **{name: rank[name] for name in rank if name != "idle_by_cause"}, **causes}


def _steps(result: Result) -> Iterator[Row]:
    if all(run.drawn is None for run in result.runs):
        raise UsageError(
            "the result holds no steps, expected one that `analyze` or `replay` made of steps without repeats"
        )
    for run in result.runs:
        if run.drawn is None:
            continue
        for row in zip(*(getattr(run.drawn, name).tolist() for name in SERIES_COLUMNS), strict=True):
            yield {"run": run.label, **dict(zip(SERIES_COLUMNS, row, strict=True))}


TABLES: dict[str, tuple[Callable[[Result], Iterator[Row]], dict[str, Any]]] = {
    "metrics": (_metrics, METRIC_COLUMNS),
    "ranks": (_ranks, RANK_COLUMNS),
    "steps": (_steps, STEP_COLUMNS),
}

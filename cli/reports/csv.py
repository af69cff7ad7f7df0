"""Every number of a result as one tidy table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lbal.analyzers.metrics import METRICS, Measure
from lbal.analyzers.plain import plain
from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result, Run

COLUMNS = (
    "table", "run", "against", "rank", "name", "unit", "value", "low", "high", "basis", "fidelity", "base",
    "relative", "mark",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@")
RANK_UNITS = {"kv_tokens_mean": "KV tokens", "num_running_mean": "requests", "work_factor": "ratio"}
Row = dict[str, Any]


class CsvReport(Report):
    """One row for each number; `table` says of what: metric, headroom, rank, attribution, workload, compare, check."""

    name: ClassVar[str] = "csv"
    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    content: ClassVar[str] = "every number, one a row"

    def render(self, result: Result) -> str:
        """CSV as in RFC 4180, with plain line ends; numbers have all their digits, and unknown ones are empty cells."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in _rows(result))
        return buffer.getvalue()


def _cell(value: Any) -> Any:
    """A number as it is; a text plain, and never what a spreadsheet takes for a formula."""
    if isinstance(value, str):
        text = plain(value)
        return f"'{text}" if text.lstrip().startswith(FORMULA) else text
    return "" if value is None or (isinstance(value, float) and not math.isfinite(value)) else value


def _rows(result: Result) -> Iterator[Row]:
    for run in result.runs:
        yield from _run_rows(run)
    for name, value in result.workload.items():
        if isinstance(value, int | float):
            yield {"table": "workload", "name": name, "value": value}
    for name, interval in result.calibration.get("coefficients", {}).items():
        yield {"table": "calibration", "name": name, "unit": "s", **interval}
    for pair in result.comparison.get("pairs", ()):
        yield from (
            {
                "table": "compare",
                "run": f"{pair['head']}: {pair['head_run']}",
                "against": f"{pair['base']}: {pair['base_run']}",
                "name": each["metric"],
                "unit": each["unit"],
                "value": each["absolute"],
                "low": each.get("low"),
                "high": each.get("high"),
                "base": each["base"],
                "relative": each["relative"],
                "mark": each["mark"],
            }
            for each in pair["differences"]
        )
    for gate in result.check.get("gates", ()):
        yield {
            "table": "check",
            "run": gate["run"],
            "against": gate["gate"],
            "name": gate["metric"],
            "unit": gate["unit"],
            "value": gate["head"],
            "base": gate["base"],
            "mark": gate["verdict"],
        }


def _run_rows(run: Run) -> Iterator[Row]:
    for table, measures in (("metric", run.metrics), ("headroom", run.headroom)):
        for name, value in measures.items():
            yield {"table": table, "run": run.label, "name": name, **_measure(name, value)}
    for name, interval in run.repeats.get("intervals", {}).items():
        unit = METRICS[name].unit
        yield {"table": "repeats", "run": run.label, "name": name, "unit": unit, **interval}
    for cause, share in run.attribution.items():
        yield {
            "table": "attribution",
            "run": run.label,
            "name": f"{cause}_idle_fraction",
            "unit": "fraction",
            "value": share,
        }
    for rank in run.ranks:
        yield from _rank_rows(run.label, rank)


def _measure(name: str, value: Measure) -> Row:
    return {
        "unit": METRICS[name].unit,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "basis": value.basis,
        "fidelity": value.fidelity,
    }


def _rank_rows(label: str, rank: Mapping[str, Any]) -> Iterator[Row]:
    causes = {f"{cause}_idle_fraction": share for cause, share in rank.get("idle_by_cause", {}).items()}
    for name, value in {**rank, **causes}.items():
        if name != "rank" and isinstance(value, int | float):
            unit = RANK_UNITS.get(name, "fraction")
            yield {"table": "rank", "run": label, "rank": rank["rank"], "name": name, "unit": unit, "value": value}

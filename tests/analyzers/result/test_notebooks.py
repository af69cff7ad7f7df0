"""What a notebook does with a result: tables, files, and a look at it."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest

from lbal.analyzers.errors import OutputError, UsageError
from lbal.analyzers.result.report import REPORTS
from lbal.analyzers.result.result import Result
from lbal.analyzers.result.tables import METRIC_COLUMNS, RANK_COLUMNS, STEP_COLUMNS
from tests.helpers.result_examples import result_of, run_of

RESULT = replace(
    result_of([run_of("a", 700, 3), run_of("b", 5, 3, seed=1)]), command="analyze", config={}, bands={}, fidelity={}
)


def test_metrics_have_a_row_for_each_run_and_metric():
    found = RESULT.frame("metrics")
    assert dict(found.schema) == METRIC_COLUMNS
    assert found.height == sum(len(run.metrics) + len(run.headroom) for run in RESULT.runs)
    row = found.row(by_predicate=(pl.col("run") == "b") & (pl.col("metric") == "steps"), named=True)
    assert (row["value"], row["unit"], row["basis"], row["low"]) == (5.0, "steps", "modelled", None)


def test_ranks_and_steps_have_the_documented_columns_and_the_values_of_the_result():
    ranks = RESULT.frame("ranks")
    assert dict(ranks.schema).items() >= RANK_COLUMNS.items()
    assert ranks["kv_tokens_mean"].to_list() == [rank["kv_tokens_mean"] for run in RESULT.runs for rank in run.ranks]
    steps = RESULT.frame("steps")
    assert dict(steps.schema) == STEP_COLUMNS
    assert steps.filter(run="a")["idle_fraction"].to_list() == RESULT.runs[0].drawn.idle_fraction.tolist()
    assert steps.filter(run="b")["first_step"].to_list() == [0, 1, 2, 3, 4]


def test_a_result_without_runs_has_empty_tables_and_one_without_steps_says_so():
    empty = Result("compare", [], {}, [])
    assert (empty.frame("metrics").height, empty.frame("ranks").height) == (0, 0)
    with pytest.raises(UsageError, match="holds no steps, expected one that"):
        empty.frame("steps")
    with pytest.raises(UsageError, match="'rank': is none of a result, expected 'metrics' or 'ranks' or 'steps'"):
        RESULT.frame("rank")


def test_unknown_values_are_null():
    run = RESULT.runs[0]
    metrics = {**run.metrics, "steps": replace(run.metrics["steps"], value=math.nan)}
    found = result_of([replace(run, metrics=metrics)]).frame("metrics")
    assert found.filter(metric="steps")["value"].to_list() == [None]


@pytest.mark.parametrize("report", [cls for cls in REPORTS.classes() if "timeline" not in cls.needs])
def test_every_report_is_written_by_its_suffix(report, tmp_path):
    path = tmp_path / f"x{report.suffixes[0]}"
    RESULT.write(path)
    assert path.read_bytes() == report().render(RESULT).encode()
    Result.from_dict(RESULT.as_dict()).write(str(path), force=True)
    assert path.read_bytes() == report().render(RESULT).encode()


def test_a_file_is_not_overwritten_without_force_and_a_suffix_must_say_a_report(tmp_path):
    (tmp_path / "x.md").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        RESULT.write(tmp_path / "x.md")
    assert (tmp_path / "x.md").read_text() == "mine"
    with pytest.raises(UsageError, match="its suffix says no format"):
        RESULT.write(tmp_path / "x.pdf")
    with pytest.raises(UsageError, match="shows steps, and this result has none"):
        RESULT.write(tmp_path / "x.perfetto.json")
    assert [path.name for path in tmp_path.iterdir()] == ["x.md"]


def test_a_look_at_a_result_shows_its_headline_and_a_few_figures_of_some_runs():
    shown = repr(replace(RESULT, headline="a wins"))
    idle = RESULT.runs[0].metrics["barrier_idle_fraction"].value
    assert shown.startswith("<lbal analyze: a wins\n  a, barrier_idle_fraction ")
    assert f"{idle:.4g}" in shown
    assert "180 more runs" in repr(replace(RESULT, runs=[RESULT.runs[0]] * 200))

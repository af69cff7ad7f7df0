"""What steps leave undefined is n/a with its reason: no warning of a library, no infinity, no flattering figure."""

from __future__ import annotations

import json
import math
import re
import warnings
from dataclasses import replace

import pytest

from lbal.analyzers.analysis.checking import check
from lbal.analyzers.energy.binned_sums import columns_of
from lbal.analyzers.errors import InputError, UsageError
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.trace.formats import read_trace
from lbal.cli.main import run
from lbal.replay.experiment.analyzing import analyze

WORK, REST = {"num_running": [1, 2], "kv_tokens": [100, 200]}, {"num_running": [0, 0], "kv_tokens": [0, 0]}


def analysed(path, steps, requests=(), ranks=2, **options):
    header = {"lbal_trace": 1, "dp_size": ranks, "max_num_seqs": 4}
    rows = [header, *requests, *[{"step": index, **step} for index, step in enumerate(steps)]]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return analyze(read_trace(str(path)), **options)


def values(result) -> dict[str, float]:
    return {name: measure.value for name, measure in result.runs[0].metrics.items()}


def test_a_step_that_takes_no_time_is_left_out_of_percentiles_and_told(tmp_path):
    result = analysed(tmp_path / "t.jsonl", [WORK, REST, WORK], step_model="C=0,a=1e-5")
    found = values(result)
    assert found["barrier_idle_fraction_p50"] == found["barrier_idle_fraction_p99"] == pytest.approx(0.25)
    assert found["barrier_idle_fraction"] == pytest.approx(0.25)
    assert (
        "no rank holds load in 1 of 3 steps: balance ratios and percentiles of barrier idle are over the others"
        in result.notes
    )


def test_percentiles_of_idle_are_over_the_steps_with_work_also_where_the_others_take_time(tmp_path):
    result = analysed(tmp_path / "t.jsonl", [REST, WORK, REST, REST], step_model="C=0.001,a=1e-5")
    found = values(result)
    assert [found[f"barrier_idle_fraction_p{share}"] for share in (50, 90, 99)] == pytest.approx([1 / 6] * 3)
    assert found["barrier_idle_fraction"] == pytest.approx(1 / (3 + 3) / 2), "of all time, that without work too"


def test_load_that_takes_no_time_is_told_apart_from_no_load(tmp_path):
    no_time = {**WORK, "compute_ms": [0, 0], "step_ms": 3}
    some = {**WORK, "compute_ms": [1, 2], "step_ms": 3}
    notes = analysed(tmp_path / "t.jsonl", [no_time, some, {**no_time, **REST}]).notes
    assert "no rank holds load in 1 of 3 steps: balance ratios are over the others" in notes
    assert "no rank has rank time in 2 of 3 steps: percentiles of barrier idle are over the others" in notes


def test_reports_of_steps_that_take_no_time_divide_by_nothing(tmp_path):
    path = tmp_path / "t.jsonl"
    analysed(path, [WORK, REST, WORK], step_model="C=0,a=1e-5")
    targets = [tmp_path / name for name in ("a.html", "a.md", "a.csv", "a.json", "a.perfetto.json")]
    options = [word for target in targets for word in ("-o", str(target))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(["analyze", str(path), "--step-model", "C=0,a=1e-5", "--steps", "0:3", *options]) == 0
    for target in targets:
        assert not re.search(r"\b(NaN|Infinity|inf)\b", target.read_text()) or target.suffix == ".html"
    assert json.loads(targets[3].read_text())["runs"][0]["series"]["columns"]["time_ms"][1] == 0


def test_steps_without_work_are_not_perfectly_balanced(tmp_path):
    result = analysed(tmp_path / "t.jsonl", [WORK, REST, REST, REST])
    assert values(result)["balance_ratio_mean"] == pytest.approx(0.75)
    assert values(result)["imbalance_ratio_mean"] == pytest.approx(4 / 3)
    left_out = "balance ratios and percentiles of barrier idle"
    assert f"no rank holds load in 3 of 4 steps: {left_out} are over the others" in result.notes
    columns = columns_of(result.runs[0].series)
    for name in ("balance_ratio_mean", "imbalance_ratio_mean"):
        above, below = METRICS[name].ratio
        assert columns[above].sum() / columns[below].sum() == pytest.approx(values(result)[name])


def test_a_trace_without_any_work_has_no_balance(tmp_path):
    result = analysed(tmp_path / "t.jsonl", [REST, REST])
    assert not {"balance_ratio_mean", "imbalance_ratio_mean", "barrier_idle_fraction_p50"} & set(values(result))
    assert "no rank holds load in 2 of 2 steps: balance ratios and percentiles of barrier idle are n/a" in result.notes
    assert result.runs[0].details["unavailable"]["balance_ratio_mean"] == "no rank holds load in any step"
    assert result.headline == "No rank has work in any of the 2 steps: there is nothing to balance."


def test_a_model_that_gives_no_step_any_time_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"gives no step of .* any time, expected C above 0"):
        analysed(tmp_path / "t.jsonl", [REST, REST], step_model="C=0,a=1e-5")


BACKWARDS = [{**WORK, "start_ms": start, "step_ms": 20} for start in (100, 120, 50, 70)]
REQUESTS = [
    {
        "request_id": at,
        "arrival_ms": at,
        "admitted_ms": at,
        "finish_ms": at + 40,
        "prompt_tokens": 9,
        "output_tokens": 2,
    }
    for at in (100, 121)
]


def test_a_clock_that_runs_backwards_gives_no_makespan_and_no_waits_in_steps(tmp_path):
    result = analysed(tmp_path / "t.jsonl", BACKWARDS, requests=REQUESTS)
    assert not {"makespan_s", "queue_wait_steps_max"} & set(values(result))
    assert result.runs[0].details["unavailable"]["makespan_s"] == "the clock of the steps does not tell it"
    assert values(result)["queue_wait_ms_max"] == 0
    assert "the makespan and waits in steps are n/a, as the clock of the steps runs backwards" in result.notes


@pytest.mark.parametrize("window", ["admissions", "steady"])
def test_a_clock_that_runs_backwards_gives_no_window(tmp_path, window):
    with pytest.raises(UsageError, match=r"the clock of .* runs backwards, .* expected window=all"):
        analysed(tmp_path / "t.jsonl", BACKWARDS, requests=REQUESTS, window=window)


def test_a_jump_of_the_clock_is_told(tmp_path):
    steps = [{**WORK, "step_ms": 20, "start_ms": start} for start in (0, 20, 1e9, 1e9 + 20)]
    result = analysed(tmp_path / "t.jsonl", steps)
    assert any(note.startswith("no step runs for 1,000,000 s of a makespan") for note in result.notes)
    assert "before step 2" in " ".join(result.notes)


@pytest.mark.parametrize("spare", [{}, {"compute_ms": [5, 10]}])
def test_time_in_which_steps_overlap_counts_once(tmp_path, spare):
    steps = [{**WORK, **spare, "start_ms": 10 * index, "step_ms": 20} for index in range(30)]
    found = values(analysed(tmp_path / "t.jsonl", steps, step_model="C=0,a=1e-5"))
    assert found["makespan_s"] == pytest.approx(0.31)
    assert found["tokens_per_second"] == pytest.approx(30 * 3 / 0.31)
    if spare:
        assert found["barrier_idle_fraction"] == pytest.approx(5 / 40), "the share of each step is what it was"


@pytest.mark.parametrize(("gap", "told"), [(10, True), (20, False), (30, False), (0, False)])
def test_steps_that_overlap_are_told(tmp_path, gap, told):
    steps = [{**WORK, "start_ms": gap * index, "step_ms": 20} for index in range(3)]
    result = analysed(tmp_path / "t.jsonl", steps)
    assert (
        any(note.startswith("steps overlap: the times of 3 of 3 add up to 1.5 times") for note in result.notes) == told
    )


@pytest.mark.parametrize("field", ["step_ms", "start_ms", "compute_ms"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_times_that_are_no_times_are_refused(tmp_path, field, value):
    time = [value, value] if field == "compute_ms" else value
    with pytest.raises(InputError, match=field):
        analysed(tmp_path / "t.jsonl", [{**WORK, "step_ms": 20, "start_ms": 0, field: time}])


@pytest.mark.parametrize("step_ms", [0, -5])
def test_a_recorded_step_without_duration_is_refused(tmp_path, step_ms):
    with pytest.raises(InputError, match=rf"t.jsonl:2: step_ms: {step_ms} is not positive"):
        analysed(tmp_path / "t.jsonl", [{**WORK, "step_ms": step_ms}])


TIMED = {"step_ms": 5.0, "start_ms": 0.0}


@pytest.mark.parametrize("model", [{}, {"step_model": "C=0,a=1e-5"}])
@pytest.mark.parametrize(
    "loads", [WORK, REST, {"num_running": [3], "kv_tokens": [70]}, {"num_running": [0], "kv_tokens": [0]}]
)
@pytest.mark.parametrize("times", [{}, TIMED, {**TIMED, "compute_ms": 0.0}, {**TIMED, "compute_ms": 5.0}])
def test_a_single_step_of_any_kind_has_finite_figures_or_a_reason(tmp_path, model, loads, times):
    ranks = len(loads["num_running"])
    times = {key: [value] * ranks if key == "compute_ms" else value for key, value in times.items()}
    if model and not times and not any(loads["num_running"]):
        with pytest.raises(UsageError, match="gives no step of"):
            analysed(tmp_path / "t.jsonl", [loads], ranks=ranks, **model)
        return
    result = analysed(tmp_path / "t.jsonl", [{**loads, **times}], ranks=ranks, **model)
    assert all(math.isfinite(value) for value in values(result).values())
    result.write(tmp_path / "result.json")
    assert "NaN" not in (tmp_path / "result.json").read_text()


@pytest.mark.parametrize(
    ("gate", "told"),
    [
        ("tokens_per_second<=6", True),
        ("barrier_idle_fraction>0.1", True),
        ("tokens_per_second>=6", False),
        ("barrier_idle_fraction<=60%", False),
        ("steps<=1000", False),
    ],
)
def test_a_threshold_that_a_better_value_breaks_is_told(tmp_path, gate, told):
    result = analysed(tmp_path / "t.jsonl", [WORK, WORK])
    checked = check(replace(result), fail_on=[gate])
    assert [note.split(" fails where ")[0] for note in checked.notes] == ([f"'{gate}'"] if told else [])

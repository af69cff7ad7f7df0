"""Comparisons: differences by hand, marks, intervals, and what is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.analysis.checking import check
from lbal.analyzers.compare.differences import Difference, corrected, differences
from lbal.analyzers.compare.intervals import Intervals
from lbal.analyzers.metrics import METRICS, Measure
from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.statistics.student import Interval
from lbal.analyzers.wording.differences import compare_headline, difference_record
from lbal.cli.main import run as lbal

STEPS = '{"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 4}\n' + "".join(
    f'{{"step": {i}, "step_ms": 20, "start_ms": {20 * i}, "kv_tokens": [{100 + i % 7}, {300 - i % 5}], '
    f'"num_running": [1, 2], "compute_ms": [{2 + i % 3}, 5]}}\n'
    for i in range(60)
)


def run_of(label="jsq", series=None, repeats=None, **values):
    metrics = {name: Measure(value, METRICS[name].unit, "modelled") for name, value in values.items()}
    return Run(label, metrics, series=series or {}, repeats=repeats or {})


def series_of(idle, time=None):
    idle = np.asarray(idle, float)
    time = np.full(len(idle), 100.0) if time is None else np.asarray(time, float)
    columns = {"steps": np.ones(len(idle)), "idle_ms": idle, "time_ms": time, "tokens": time}
    return {"of": "steps", "dp_size": 1, "columns": {name: list(values) for name, values in columns.items()}}


def only(rows, name):
    return next(row for row in rows if row.metric == name)


def test_differences_by_hand():
    base = run_of(barrier_idle_fraction=0.10, tokens_per_second=100.0, steps=10.0)
    head = run_of(barrier_idle_fraction=0.12, tokens_per_second=90.0, steps=12.0, tpot_ms_p99=3.0)
    rows = differences(base, head)
    idle = only(rows, "barrier_idle_fraction")
    assert (idle.absolute, idle.relative) == (pytest.approx(0.02), pytest.approx(0.2))
    marks = {row.metric: row.mark for row in rows}
    assert marks == {
        "barrier_idle_fraction": "not judged",
        "tokens_per_second": "not judged",
        "tpot_ms_p99": "inconclusive",
        "steps": "not judged",
    }
    assert math.isnan(only(rows, "tpot_ms_p99").base)


@pytest.mark.parametrize(
    ("metric", "base", "head", "interval", "mark"),
    [
        ("barrier_idle_fraction", 0.1, 0.2, None, "not judged"),
        ("barrier_idle_fraction", 0.2, 0.1, None, "not judged"),
        ("tokens_per_second", 1.0, 2.0, None, "not judged"),
        ("tokens_per_second", 2.0, 1.0, None, "not judged"),
        ("steps", 2.0, 1.0, None, "not judged"),
        ("steps", 2.0, 2.0, None, "equal"),
        ("barrier_idle_fraction", 0.1, 0.1 * (1 + 1e-12), None, "equal"),
        ("barrier_idle_fraction", 0.1, 0.12, (-0.01, 0.05), "inconclusive"),
        ("barrier_idle_fraction", 0.1, 0.12, (0.01, 0.03), "worse"),
        ("barrier_idle_fraction", 0.1, 0.08, (-0.03, -0.01), "better"),
        ("barrier_idle_fraction", 0.1, 0.10001, (-0.00005, 0.00009), "equal"),
        ("barrier_idle_fraction", 0.1, 0.10001, (-0.00005, 0.00011), "inconclusive"),
        ("barrier_idle_fraction", 0.0, 0.1, None, "not judged"),
        ("barrier_idle_fraction", math.nan, 0.1, None, "inconclusive"),
    ],
)
def test_the_mark_of_a_difference(metric, base, head, interval, mark):
    kind = METRICS[metric]
    interval = None if interval is None else Interval(*interval)
    assert Difference(metric, kind.unit, kind.better, base, head, interval).mark == mark


def test_a_share_of_nothing_is_not_known():
    assert Difference("steps", "steps", "neither", 0.0, 3.0).relative is None


def test_over_steps_a_clear_difference_is_sure_and_noise_is_not():
    rng = np.random.default_rng(0)
    noise = rng.normal(10, 3, 128)
    base = run_of(barrier_idle_fraction=noise.sum() / 12800, series=series_of(noise))
    for level, mark in ((3.0, "worse"), (-3.0, "better")):
        idle = noise + level
        head = run_of(barrier_idle_fraction=idle.sum() / 12800, series=series_of(idle))
        found = only(differences(base, head), "barrier_idle_fraction")
        assert (found.mark, found.over) == (mark, "steps")
        assert found.interval.low <= found.absolute <= found.interval.high
    other = rng.normal(10, 3, 128)
    head = run_of(barrier_idle_fraction=other.sum() / 12800, series=series_of(other))
    assert only(differences(base, head), "barrier_idle_fraction").mark == "inconclusive"


def test_a_run_is_equal_to_itself_and_says_so():
    values = np.arange(30.0)
    same = run_of(barrier_idle_fraction=values.sum() / 3000, series=series_of(values))
    found = only(differences(same, same), "barrier_idle_fraction")
    assert (found.interval, found.mark) == (Interval(0.0, 0.0), "equal")


def test_runs_of_different_lengths_are_paired_by_their_parts():
    base = run_of(barrier_idle_fraction=0.1, series=series_of([10.0] * 100))
    head = run_of(barrier_idle_fraction=0.2, series=series_of([20.0] * 128))
    found = only(differences(base, head), "barrier_idle_fraction")
    assert found.interval.low == pytest.approx(0.1)
    assert found.interval.high == pytest.approx(0.1)


def test_too_few_steps_give_no_interval():
    base, head = (run_of(barrier_idle_fraction=v, series=series_of([v * 100] * 99)) for v in (0.1, 0.2))
    assert only(differences(base, head), "barrier_idle_fraction").interval is None


def test_metrics_that_are_no_ratio_of_sums_have_no_interval_over_steps():
    base = run_of(barrier_idle_fraction=0.1, tpot_ms_p99=3.0, series=series_of([10.0] * 40))
    found = only(differences(base, base), "tpot_ms_p99")
    assert (found.interval, found.over) == (None, None)


def repeats(values, seeds=(0, 1, 2), resample="blocks"):
    return {"seeds": list(seeds), "resample": resample, "values": {"tpot_ms_p99": list(values)}}


def test_over_seeds_differences_are_paired():
    # The seeds differ a lot, the differences are 1, 2 and 3: mean 2, standard deviation 1.
    base = run_of(tpot_ms_p99=20.0, repeats=repeats([10.0, 20.0, 30.0]))
    head = run_of(tpot_ms_p99=22.0, repeats=repeats([11.0, 22.0, 33.0]))
    found = only(differences(base, head), "tpot_ms_p99")
    assert found.over == "seeds"
    assert found.interval.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert found.interval.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(METRICS)), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1),
    st.sampled_from(["nothing", "short", "alike", "other seeds"]),
)
@settings(deadline=None)
def test_values_alone_make_nothing_better_or_worse_and_are_not_counted_so(values, kind):
    parts: dict[str, Any] = {
        "nothing": [{}, {}],
        "short": [{"series": series_of([each] * 40)} for each in (1.0, 2.0)],
        "alike": [{"repeats": {"seeds": [0, 1], "resample": "none", "values": {}}} for _ in range(2)],
        "other seeds": [{"repeats": {"seeds": [n, n + 1], "resample": "none", "values": {}}} for n in (0, 2)],
    }[kind]
    sides = [dict.fromkeys(METRICS, 0.0) | {each[0]: each[side] for each in values} for side in (1, 2)]
    if kind == "alike":
        for side, part in zip(sides, parts, strict=True):
            part |= {"repeats": part["repeats"] | {"values": {name: [value] * 2 for name, value in side.items()}}}
    base, head = (run_of(**part, **side) for part, side in zip(parts, sides, strict=True))
    record = difference_record("one.json", base, head)
    assert {each["mark"] for each in record["differences"]} <= {"equal", "not judged"}
    assert not re.search("better|worse|changed", compare_headline([record]))


def test_seeds_are_matched_by_number_not_by_place():
    base = run_of(tpot_ms_p99=1.0, repeats=repeats([10.0, 20.0, 30.0], seeds=(0, 1, 2)))
    head = run_of(tpot_ms_p99=1.0, repeats=repeats([30.0, 20.0, 99.0], seeds=(2, 1, 7)))
    assert Intervals.of(base, head).pairs["tpot_ms_p99"] == [0.0, 0.0]


@pytest.mark.parametrize("other", [{"seeds": (7, 8, 9)}, {"resample": "none"}, {"seeds": (2, 8, 9)}])
def test_seeds_that_served_other_requests_are_not_paired(other):
    base = run_of(tpot_ms_p99=1.0, repeats=repeats([10.0, 20.0, 30.0]))
    head = run_of(tpot_ms_p99=1.0, repeats=repeats([11.0, 22.0, 33.0], **other))
    assert only(differences(base, head), "tpot_ms_p99").interval is None


def test_repeats_that_draw_nothing_have_no_interval():
    base = run_of(tpot_ms_p99=10.0, repeats=repeats([10.0] * 3, resample="none"))
    head = run_of(tpot_ms_p99=11.0, repeats=repeats([11.0] * 3, resample="none"))
    found = only(differences(base, head), "tpot_ms_p99")
    assert (found.interval, found.mark) == (None, "not judged")
    assert "nothing was drawn" in found.reason


def test_of_many_metrics_a_small_p_value_is_not_enough():
    one = Difference("tpot_ms_p99", "ms", "lower", 1.0, 2.0, Interval(0.1, 1.9), "seeds", 0.03)
    assert corrected([one])[0].mark == "worse"
    assert {each.mark for each in corrected([one] * 3)} == {"inconclusive"}
    sure = Difference("tpot_ms_p99", "ms", "lower", 1.0, 2.0, Interval(0.5, 1.5), "seeds", 0.001)
    assert [each.mark for each in corrected([one, sure, one])] == ["inconclusive", "worse", "inconclusive"]


def test_a_run_shorter_than_its_requests_are_remembered_is_too_short():
    values = np.random.default_rng(0).normal(10, 3, (2, 128))
    series = [series_of(each) | {"memory_steps": 40.0} for each in values]
    base, head = (run_of(barrier_idle_fraction=0.1, series=each) for each in series)
    found = only(differences(base, head), "barrier_idle_fraction")
    assert found.interval is None
    assert found.reason.startswith(
        "too short: the run is 3.2 times as long as its load is remembered, expected at least 6"
    )


# --- the command ---


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """a: the trace; b: the same under another model; c: another trace; d: other slots."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "one.jsonl").write_text(STEPS)
    (folder / "two.jsonl").write_text(STEPS.replace('"compute_ms": [2, 5]', '"compute_ms": [1, 5]'))
    model = ["--step-model", "C=0.01,a=1e-6,b=1e-4"]
    for name, trace, extra in (
        ("a", "one", model),
        ("b", "one", ["--step-model", "C=0.01,a=2e-6,b=1e-4"]),
        ("c", "two", model),
        ("d", "one", [*model, "--max-num-seqs", "9"]),
    ):
        assert lbal(["analyze", str(folder / f"{trace}.jsonl"), *extra, "-o", str(folder / f"{name}.json")]) == 0
    return folder


def refused(capsys, *arguments):
    assert lbal([str(part) for part in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err.strip()


@pytest.mark.parametrize(("head", "name"), [("b", "model"), ("c", "trace"), ("d", "slots")])
def test_apples_and_oranges_are_refused_by_name_and_allowed_by_name(results, capsys, head, name):
    capsys.readouterr()
    line = refused(capsys, "compare", results / "a.json", results / f"{head}.json")
    assert f"{name}: " in line
    assert f"--allow-mismatch {name})" in line
    other = "dp_size" if name != "dp_size" else "slots"
    assert name in refused(capsys, "compare", results / "a.json", results / f"{head}.json", "--allow-mismatch", other)
    assert lbal(["compare", str(results / "a.json"), str(results / f"{head}.json"), "--allow-mismatch", name]) == 0
    assert "against" in capsys.readouterr().out


def test_a_name_that_is_no_mismatch_is_refused(results, capsys):
    capsys.readouterr()
    line = refused(capsys, "compare", results / "a.json", results / "b.json", "--allow-mismatch", "modle")
    assert "unknown mismatch 'modle': did you mean 'model'?" in line


def test_what_differs_in_configuration_is_shown(results, capsys):
    capsys.readouterr()
    lbal(["compare", str(results / "a.json"), str(results / "b.json"), "--allow-mismatch", "model"])
    assert "step_model.a: 1e-06 -> 2e-06" in capsys.readouterr().out
    lbal(["compare", str(results / "a.json"), str(results / "a.json")])
    assert "The configuration is the same." in capsys.readouterr().out


def test_another_schema_is_refused_with_both_versions(results, tmp_path, capsys):
    capsys.readouterr()
    path = tmp_path / "newer.json"
    record = json.loads((results / "a.json").read_text())
    path.write_text(json.dumps({**record, "schema": "lbal.result/9"}))
    line = refused(capsys, "compare", results / "a.json", path)
    assert "'lbal.result/9'" in line
    assert "'lbal.result/1'" in line
    assert line.startswith(f"lbal: {path}: schema: ")
    assert lbal(["compare", str(results / "a.json"), str(path), "--allow-mismatch", "schema"]) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", ":1: is not JSON"),
        (b"[1]", "is no result"),
        (b"\xff\xfe", ":1: byte 0xff is not UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"{}", "schema: None is no schema of a result"),
        (b'{"schema": "lbal.result/1"}', "runs: None does not fit, expected a list"),
        (b'{"schema": "lbal.result/1", "runs": [3]}', "runs[0]: 3 does not fit, expected an object"),
        (b'{"schema": "lbal.result/1", "runs": [{"label": 3}]}', "runs[0].label: 3 does not fit"),
        (b'{"schema": "lbal.result/1", "runs": [], "config": 3}', "config: 3 does not fit"),
        (b'{"schema": "lbal.result/1", "runs": [{"label": "a", "metrics": {"steps": 3}}]}', "runs[0].metrics.steps: 3"),
        (
            b'{"schema": "lbal.result/1", "runs": [{"label": "a", "metrics": {"steps": {"value": "x"}}}]}',
            "runs[0].metrics.steps.value: 'x' is not a number",
        ),
        (
            b'{"schema": "lbal.result/1", "runs": [{"label": "a", "series": {"columns": {"steps": [1], "x": []}}}]}',
            "runs[0].series.columns: its lists differ in length",
        ),
        (b'{"schema": "lbal.result/1", "runs": [{"label": "a"}, {"label": "a"}]}', "two runs are called 'a'"),
        (b'{"schema": "lbal.result/1", "runs": []}', "it has no runs"),
    ],
)
def test_a_bad_result_is_one_located_line(results, tmp_path, capsys, content, message):
    capsys.readouterr()
    path = tmp_path / "bad result ü.json"
    path.write_bytes(content)
    for command in (["compare", results / "a.json", path], ["check", path, "--fail-on", "steps<=3"]):
        line = refused(capsys, *command)
        assert message in line
        assert line.startswith(f"lbal: {path}")


def test_a_result_that_is_not_there_is_one_line(capsys):
    assert "nowhere.json: cannot be read: No such file" in refused(capsys, "compare", "nowhere.json", "x.json")


def test_runs_are_compared_by_label_or_as_named(results, tmp_path, capsys):
    record = json.loads((results / "a.json").read_text())
    first = record["runs"][0]
    record["runs"] = [{**first, "label": "x"}, {**first, "label": "y"}]
    two = tmp_path / "two.json"
    two.write_text(json.dumps(record))
    capsys.readouterr()
    assert lbal(["compare", str(two), str(two), "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["comparison"]["pairs"]
    assert [(pair["base_run"], pair["head_run"]) for pair in pairs] == [("x", "x"), ("y", "y")]
    assert lbal(["compare", str(two), "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["comparison"]["pairs"]
    assert [(pair["base_run"], pair["head_run"]) for pair in pairs] == [("x", "y")]
    assert lbal(["compare", str(two), "--run", "x", "--base-run", "y", "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["comparison"]["pairs"]
    assert [(pair["base_run"], pair["head_run"]) for pair in pairs] == [("y", "x")]
    assert "unknown run 'z'" in refused(capsys, "compare", two, "--run", "z")
    assert lbal(["compare", str(two), str(two), "--run", "y", "--base-run", "x", "--json"]) == 0
    pairs = json.loads(capsys.readouterr().out)["comparison"]["pairs"]
    assert [(pair["base_run"], pair["head_run"]) for pair in pairs] == [("x", "y")]
    assert "unknown run 'z'" in refused(capsys, "compare", two, two, "--run", "z")
    assert "no run has the label" in refused(capsys, "compare", results / "a.json", two)
    assert "expected two to compare" in refused(capsys, "compare", results / "a.json")
    assert lbal(["compare", str(results / "a.json"), str(results / "a.json"), str(results / "a.json"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["comparison"]["pairs"]) == 2


def test_the_same_results_give_the_same_bytes(tmp_path, capsys):
    from pathlib import Path

    trace = str(Path(__file__).resolve().parents[3] / "sample_traces" / "skewed_8_ranks.jsonl")
    out = str(tmp_path / "r.json")
    assert lbal(["replay", trace, "--policy", "jsq", "--policy", "jsq-kv", "-o", out]) == 0
    texts = []
    for _turn in range(2):
        capsys.readouterr()
        assert lbal(["compare", out, "--json"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


# What got worse stands beside what got better


def headlines(**changes: tuple[float, float]) -> tuple[str, str]:
    """Of `compare` and of `check` with one gate, which passes."""
    sides = [
        run_of(barrier_idle_fraction=0.2 - 0.1 * side, **{name: ends[side] for name, ends in changes.items()})
        for side in (0, 1)
    ]
    base, head = (Result("replay", [], {}, [side]) for side in sides)
    checked = check(head, base, fail_on=["barrier_idle_fraction:+5%"])
    return compare_headline([difference_record("one.json", *sides)]), checked.headline


def test_a_longest_wait_2_4_times_as_long_stands_in_the_headline_of_compare_and_check():
    compared, checked = headlines(queue_wait_ms_max=(5000.0, 12_000.0))
    assert (
        "barrier idle -50.0% (not judged), but queue wait max of 12,000 ms against 5,000.0 ms (not judged);" in compared
    )
    assert checked == (
        "No gate failed of 1. Worse by more than a tenth: queue wait max of 12,000 ms against 5,000.0 ms (not judged)."
    )


@pytest.mark.parametrize("ends", [(5000.0, 5500.0), (5000.0, 4000.0), (0.001, 0.002)])
def test_what_is_at_most_a_tenth_worse_or_prints_alike_does_not(ends):
    compared, checked = headlines(queue_wait_ms_max=ends)
    assert "but" not in compared
    assert checked == "No gate failed of 1."


def test_what_fails_a_gate_is_told_there():
    base, head = (run_of(barrier_idle_fraction=0.1, queue_wait_ms_max=wait) for wait in (5000.0, 9000.0))
    sides = [Result("replay", [], {}, [side]) for side in (head, base)]
    assert check(*sides, fail_on=["queue_wait_ms_max:+5%"]).headline == "1 of 1 gates failed."
    assert "queue wait max" in check(*sides, fail_on=["queue_wait_ms_max:+90%"]).headline


def test_a_value_that_an_interval_calls_worse_is_marked_so():
    base = run_of(tpot_ms_p99=20.0, repeats=repeats([10.0, 20.0, 30.0]))
    head = run_of(tpot_ms_p99=40.0, repeats=repeats([30.0, 40.1, 50.0]))
    record = difference_record("one.json", base, head)
    assert "but TPOT p99 of 40.00 ms against 20.00 ms (worse);" in compare_headline([record])


def test_what_is_not_sure_is_not_told_as_worse():
    base = run_of(tpot_ms_p99=20.0, repeats=repeats([10.0, 20.0, 30.0]))
    head = run_of(tpot_ms_p99=30.0, repeats=repeats([50.0, 20.0, 20.0]))
    assert "but" not in compare_headline([difference_record("one.json", base, head)])

"""How far apart the ranks are: the figures equal what a few plain lines give, and are n/a where they are not defined."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lbal
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.processed import Processed
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics import METRICS, SPREAD_ROWS, step_figures, undefined_figures
from lbal.analyzers.trace.trace import StepArrays
from lbal.cli.reports.parts.spread import spread_table
from lbal.cli.reports.table import TableReport

MODEL = StepTimeModel("test", shared_s=0.02, per_token_s=1e-7, per_request_s=1e-4)
NAMES = {"kv_tokens": "kv_tokens", "running": "num_running"}
LOADS = st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=1, max_size=30)


def window_of(tokens, running, step_ms=None):
    arrays = [np.array(loads, float) for loads in (tokens, running)]
    steps = StepArrays(np.arange(len(tokens)), *arrays, step_ms=None if step_ms is None else np.array(step_ms, float))
    accounts = account(steps, MODEL, measured=False)
    return WindowSteps(AccountFold.of(accounts, MODEL), None, float(accounts.step_ms.sum()))


def plain_figures(name, loads):
    """The figures of one load, with lists alone: the value at rank ceil(p * S) of the sorted ones."""
    steps = [step for step in loads if max(step) > 0]
    values = {
        "max_over_mean": [max(step) / (sum(step) / len(step)) for step in steps],
        "max_over_min": [max(step) / min(step) if min(step) else math.inf for step in steps],
        "max_minus_min": [max(step) - min(step) for step in steps],
    }
    found = {}
    for kind, of_steps in values.items():
        for share in (50, 90, 95):
            if of_steps and (value := sorted(of_steps)[-(-share * len(of_steps) // 100) - 1]) < math.inf:
                found[f"{name}_{kind}_p{share}"] = value
    return found


@settings(max_examples=200, deadline=None)
@given(tokens=LOADS, running=LOADS)
def test_the_spread_is_that_of_the_plain_reference(tokens, running):
    count = min(len(tokens), len(running))
    figures = step_figures(window_of(tokens[:count], running[:count]))
    expected = plain_figures("kv_tokens", tokens[:count]) | plain_figures("running", running[:count])
    found = {name: value for name, value in figures.items() if METRICS[name].group == "spread"}
    assert found == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(running=LOADS, order=st.permutations(range(3)))
def test_permuting_ranks_or_scaling_loads_changes_no_ratio(running, order):
    ones = window_of(running, running)
    others = window_of(10 * np.array(running)[:, order], 10 * np.array(running)[:, order])
    for name in [name for _label, names in SPREAD_ROWS for name in names if METRICS[name].unit == "ratio"]:
        assert step_figures(others).get(name) == pytest.approx(step_figures(ones).get(name))


def test_what_a_rank_without_load_leaves_undefined_has_its_reason():
    window = window_of([[4, 2], [4, 0]], [[4, 2], [4, 0]])
    figures = step_figures(window)
    assert figures["running_max_over_min_p50"] == 2
    missing = undefined_figures(window, figures)
    assert missing == {f"{name}_max_over_min_p{share}": "some rank has none" for name in NAMES for share in (90, 95)}


def test_speed_of_light_counts_each_step_by_the_balance_of_its_tokens():
    """Two steps of 20 and 10 ms with 4 and 2, 6 and 0 requests: balance ratios 3/4 and 1/2, 12 tokens in 15 + 5 ms."""
    figures = step_figures(window_of([[40, 20], [30, 0]], [[4, 2], [6, 0]], step_ms=[20, 10]))
    assert figures["processed_balance_ratio_mean"] == (3 / 4 + 1 / 2) / 2
    assert figures["sol_tokens_per_second"] == pytest.approx(12 / 0.020)
    even = step_figures(window_of([[30, 10]], [[4, 4]], step_ms=[20]))
    assert even["sol_tokens_per_second"] == even["tokens_per_second"]


def test_tokens_that_a_step_prefills_are_processed_too(tmp_path):
    """4 + 96 and 4 tokens in 20 ms, then 4 and 4 in 10 ms: ratios 52/100 and 1; 16 tokens in 10.4 + 10 ms."""
    loads = {"kv_tokens": [40, 40], "num_running": [4, 4]}
    steps = [{**loads, "prefill_tokens": [96, 0], "step_ms": 20}, {**loads, "prefill_tokens": [0, None], "step_ms": 10}]
    (run,) = lbal.analyze(trace_of(tmp_path, *steps), step_model="C=0.001,a=1e-7,b=1e-4,b_mean=0").runs
    assert run.metrics["processed_balance_ratio_mean"].value == pytest.approx((0.52 + 1) / 2)
    assert run.metrics["sol_tokens_per_second"].value == pytest.approx(16 / 0.0204)
    assert run.metrics["processed_balance_ratio_mean"].basis == "measured"
    assert run.metrics["sol_tokens_per_second"].basis == "modelled"


@settings(max_examples=60, deadline=None)
@given(running=LOADS, cut=st.integers(0, 30))
def test_sums_of_processed_tokens_add_up_over_parts(running, cut):
    steps = StepArrays(np.arange(len(running)), np.array(running, float), np.array(running, float))
    accounts = account(steps, MODEL, measured=False)
    cut = min(cut, len(running))
    parts = [Processed.of(steps.part(part), accounts.step_ms[part]) for part in (slice(0, cut), slice(cut, None))]
    for whole in (Processed.of(steps, accounts.step_ms), Processed.of_decode(accounts)):
        assert vars(parts[0] + parts[1]) == pytest.approx(vars(whole))


def trace_of(tmp_path, *steps, **header):
    path = tmp_path / "t.jsonl"
    lines = [{"lbal_trace": 1, **header}, *({"step": number, **step} for number, step in enumerate(steps))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lbal.read_trace(path)


def test_without_kv_tokens_their_rows_are_one_that_says_why(tmp_path):
    result = lbal.analyze(trace_of(tmp_path, {"num_running": [8, 8, 8, 8]}, {"num_running": [27, 5, 0, 0]}))
    (run,) = result.runs
    assert run.details["unavailable"]["kv_tokens_max_over_mean_p50"] == "the trace has no KV tokens"
    assert run.metrics["sol_tokens_per_second"].value > run.metrics["tokens_per_second"].value
    assert run.details["unavailable"]["running_max_over_min_p90"] == "some rank has none"
    _columns, rows, _text = spread_table(run)
    assert rows[0] == ["KV tokens", "", "the trace has no KV tokens", "n/a", "n/a", "n/a"]
    assert rows[1] == ["requests, max / mean", "ratio", "measured", "1.000", "3.375", "3.375"]
    assert rows[2] == ["requests, max / min", "ratio", "measured; n/a: some rank has none", "1.000", "n/a", "n/a"]
    assert rows[3] == ["requests, max - min", "requests", "measured", "0", "27", "27"]


def test_without_requests_their_rows_are_one_that_says_why(tmp_path):
    (run,) = lbal.analyze(trace_of(tmp_path, {"kv_tokens": [300, 100], "step_ms": 20})).runs
    _columns, rows, _text = spread_table(run)
    assert rows[-1] == ["requests", "", "the trace has no running requests", "n/a", "n/a", "n/a"]
    assert rows[0][3:] == ["1.500"] * 3


def test_one_rank_has_no_table_and_samples_are_looks(tmp_path):
    (alone,) = lbal.analyze(trace_of(tmp_path, {"kv_tokens": [300], "num_running": [3]})).runs
    assert spread_table(alone)[1] == []
    steps = [{"kv_tokens": [300, 100], "num_running": [2, 2], "start_ms": number * 1e4} for number in range(3)]
    sampled = lbal.analyze(trace_of(tmp_path, *steps, resolution="sampled"))
    text = TableReport().render(sampled)
    assert "percentiles over looks at them" in text
    assert sampled.runs[0].metrics["kv_tokens_max_over_mean_p50"].basis == "sampled"


@pytest.mark.parametrize("suffix", [".md", ".html", ".txt"])
def test_reports_show_the_small_table_and_leave_its_rows_out_of_the_large_one(tmp_path, suffix):
    result = lbal.analyze(trace_of(tmp_path, {"kv_tokens": [300, 100], "num_running": [2, 2]}))
    target = tmp_path / f"r{suffix}"
    result.write(target)
    text = target.read_text()
    assert "How far apart the ranks are" in text
    assert "max / mean, p50" not in text

"""Situations from the field give the figures that are right for each, by the names of the metrics."""

from __future__ import annotations

import json

import pytest

import lbal
from lbal.analyzers.metrics import METRICS

CASES = ("n06", "n07a", "n08")


@pytest.mark.parametrize("name", CASES)
def test_figures_of_a_situation(name, shared):
    case = json.loads((shared / "field" / "expected_situations.json").read_text())[name]
    (run,) = lbal.analyze(lbal.read_trace(shared / "field" / case["file"])).runs
    expected = {metric: value for metric, value in case["right"].items() if metric in METRICS}
    assert len(expected) >= 3
    assert {metric: run.metrics[metric].value for metric in expected} == pytest.approx(expected)


def test_the_ratios_of_requests_where_kv_tokens_are_not_known(shared):
    """One step is even, one has 3.375 times the mean on a rank, and two ranks without work."""
    case = json.loads((shared / "field" / "expected_situations.json").read_text())["n01"]
    (run,) = lbal.analyze(lbal.read_trace(shared / "field" / case["file"])).runs
    low, high = case["right"]["imbalance of requests, max/mean"]
    assert run.metrics["running_max_over_mean_p50"].value == low
    assert run.metrics["running_max_over_mean_p95"].value == high
    assert run.details["unavailable"]["kv_tokens_max_over_mean_p50"] == "the trace has no KV tokens"
    assert run.details["unavailable"]["running_max_over_min_p95"] == "some rank has none"


def test_the_speed_of_light_is_the_balance_ratio_of_each_step(shared):
    """Steps of 20 and 10 ms at balance ratios of 1/2 and 1, as their KV tokens say: 64 tokens in 20 ms."""
    trace = lbal.read_trace(shared / "field" / "n08_balance.jsonl")
    (run,) = lbal.analyze(trace).runs
    steps = trace.step_arrays()
    ratios = steps.kv_tokens.mean(axis=1) / steps.kv_tokens.max(axis=1)
    least_s = (steps.step_ms * ratios).sum() / 1e3
    assert run.metrics["sol_tokens_per_second"].value == pytest.approx(steps.num_running.sum() / least_s)

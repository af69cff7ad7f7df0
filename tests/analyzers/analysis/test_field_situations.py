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


def test_the_speed_of_light_is_that_of_requests_in_pure_decode_and_of_prefill_beside(shared):
    """8 requests on each rank in both steps, whatever their KV tokens: nothing to win."""
    (run,) = lbal.analyze(lbal.read_trace(shared / "field" / "n08_balance.jsonl")).runs
    assert run.metrics["processed_balance_ratio_mean"].value == 1
    assert run.metrics["sol_tokens_per_second"].value == run.metrics["tokens_per_second"].value
    (run,) = lbal.analyze(lbal.read_trace(shared / "field" / "n07_trt13649.jsonl")).runs
    ratio = 205 / 307  # 3 + 100 and 7 + 300 tokens
    assert run.metrics["processed_balance_ratio_mean"].value == pytest.approx(ratio)
    assert run.metrics["sol_tokens_per_second"].value == pytest.approx(10 / (12.5e-3 * ratio))

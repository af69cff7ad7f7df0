"""What a request trace asks for, worked out by hand."""

from __future__ import annotations

import polars as pl
import pytest

from lbal.analyzers.requests.demand import demand


def table(arrivals_ms, prompts=None, outputs=None):
    count = len(arrivals_ms)
    return pl.DataFrame(
        {
            "arrival_ms": [float(time) for time in arrivals_ms],
            "prompt_tokens": prompts or [10] * count,
            "output_tokens": outputs or [4] * count,
        }
    )


def test_rates_count_the_gaps_and_the_tokens_of_the_span():
    figures = demand(table([0, 1_000, 2_000, 4_000, 20_000]))
    assert figures["duration_s"] == 20.0
    assert figures["arrivals_per_second"] == pytest.approx(4 / 20)
    assert figures["output_tokens_per_second"] == pytest.approx(20 / 20)


def test_the_busiest_window_is_compared_with_the_mean_one():
    # 4 of 5 requests arrive in the first 10 s, the last in the third; 20 s are two windows of 2.5 requests.
    assert demand(table([0, 1_000, 2_000, 4_000, 20_000]))["peak_to_mean_10s"] == pytest.approx(4 / 2.5)


def test_a_trace_shorter_than_a_window_has_no_peak_above_its_mean():
    assert demand(table([0, 1_000, 2_000, 4_000]))["peak_to_mean_10s"] == pytest.approx(1.0)


def test_even_arrivals_vary_by_nothing_and_bursts_by_more_than_a_poisson_process():
    assert demand(table(range(0, 10_000, 100)))["interarrival_cv"] == pytest.approx(0.0, abs=1e-12)
    assert demand(table([0] * 50 + [1_000] * 50))["interarrival_cv"] > 1


def test_requests_that_arrive_at_once_have_no_rate():
    figures = demand(table([5, 5, 5]))
    assert figures["duration_s"] == 0.0
    assert "arrivals_per_second" not in figures


def test_lengths_are_described_and_summed_and_need_no_arrivals():
    figures = demand(table([0, 1, 2], prompts=[10, 20, 60], outputs=[1, 2, 9]).drop("arrival_ms"))
    assert figures["requests"] == 3
    assert (figures["prompt_tokens_mean"], figures["prompt_tokens_p50"], figures["prompt_tokens_max"]) == (30, 20, 60)
    assert (figures["prompt_tokens_total"], figures["output_tokens_total"]) == (90, 12)
    assert "duration_s" not in figures

"""What the policy with the least idle does worse than the reference stands in the headline beside what it does better."""

from __future__ import annotations

import pytest

from lbal.analyzers.metrics import METRICS, measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.verdict import replay_headline
from lbal.cli.reports.page.figures import _best


def run_of(label: str, idle: float, **others: float) -> Run:
    figures = {"barrier_idle_fraction": idle, "tokens_per_second": 100.0, **others}
    return Run(
        label=label, policy=label, metrics={key: measure(key, value, "modelled") for key, value in figures.items()}
    )


def test_a_longest_wait_that_is_2_4_times_as_long_is_told():
    runs = [run_of("fcfs", 0.2, queue_wait_ms_max=5000.0), run_of("new", 0.1, queue_wait_ms_max=12_000.0)]
    assert ", but queue wait max of 12,000 ms against 5,000.0 ms (modelled)" in replay_headline(runs, runs[0])


@pytest.mark.parametrize("wait", [5500.0, 5000.0, 100.0])
def test_what_is_at_most_a_tenth_worse_is_not(wait):
    runs = [run_of("fcfs", 0.2, queue_wait_ms_max=5000.0), run_of("new", 0.1, queue_wait_ms_max=wait)]
    assert "but" not in replay_headline(runs, runs[0])


def test_a_reference_that_idles_least_is_held_against_the_next():
    runs = [run_of("fcfs", 0.1, tokens_per_second=80.0), run_of("other", 0.2)]
    assert "but throughput of 80 tokens/s against 100 tokens/s" in replay_headline(runs, runs[0])


def test_a_wait_where_there_was_none_is_worse():
    runs = [run_of("fcfs", 0.2, queue_wait_ms_max=0.0), run_of("new", 0.1, queue_wait_ms_max=80.0)]
    assert "but queue wait max of 80.00 ms against 0.00 ms" in replay_headline(runs, runs[0])


def marked(name: str, *values: float | None) -> str | None:
    return _best(METRICS[name], [None if value is None else measure(name, value, "modelled") for value in values])


def test_slot_use_has_no_best_as_slow_policies_fill_more_slots():
    assert marked("slot_use", 0.4, 0.8) is None


def test_energy_saved_is_marked_only_where_something_is_saved_against_the_reference():
    assert marked("energy_saving_fraction", None, -0.03, -0.01) is None
    assert marked("energy_saving_fraction", None, 0.03, -0.01) == "3.00"
    assert marked("barrier_idle_fraction", 0.2, 0.1) == "10.0"

"""Intervals over steps hold what they promise, and runs that are too short get none: few trials of benchmarks/error_rates.py."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.error_rates import ar_coverage, calibration_coverage, null_test
from lbal.analyzers.statistics.long_run import holm, memory, sum_estimate


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_intervals_of_correlated_steps_hold_the_truth(correlation):
    found = ar_coverage(1000, correlation, 200)
    assert found.of == 200
    assert found.hits >= 0.9 * found.of


def test_a_long_memory_in_a_short_run_is_too_short():
    series = np.cumsum(np.random.default_rng(0).standard_normal(128))
    found = sum_estimate(1.0, series - series.mean())
    assert isinstance(found, str)
    assert found.startswith("too short")


@pytest.mark.parametrize(("requests", "output"), [(150, 53), (1200, 6), (600, 30), (2400, 17)])
def test_seeds_of_one_policy_hardly_ever_differ_surely(requests, output):
    """At most 8% of the pairs that get a verdict; of 60 pairs at a true 5%, 8 or more have a false one in 1 of 100 tables."""
    _steps, shares, anyone = null_test(requests, output, 60)
    assert anyone.of == 60 or requests == 150
    assert anyone.hits <= 7
    assert all(share.hits <= 8 for share in shares.values())


def test_runs_of_a_few_lifetimes_get_no_verdict():
    _steps, shares, _anyone = null_test(60, 60, 4)
    assert {share.of for share in shares.values()} == {0}


def test_the_intervals_of_a_calibration_hold_the_truth():
    for name, share in calibration_coverage(40, rank_times=True, rank_noise=0.05, steps=600).items():
        assert share.of == 40
        assert share.hits >= 35, name


@pytest.mark.parametrize(("slow", "noise"), [(1.25, 0.05), (1.5, 0.0), (1.0, 0.2)])
def test_the_intervals_of_a_calibration_to_step_times_alone_hold_the_truth(slow, noise):
    for name, share in calibration_coverage(20, rank_times=False, rank_noise=noise, slow=slow, steps=600).items():
        assert share.of >= 15, "some are refused, as one rank sets nearly all step times"
        assert share.hits >= share.of - 3, name


def test_independent_stretches_are_remembered_for_one():
    assert memory(np.random.default_rng(0).standard_normal(1000)) < 1.3
    assert memory(np.zeros(10)) == 1.0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == [True, False, False]
    assert holm([0.01, 0.02, 0.04]) == [True, True, True]
    assert holm([]) == []

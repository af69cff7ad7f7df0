"""Percentiles of numbers that come block by block are those of the whole array, to the last bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.array_file import ArrayFile
from lbal.analyzers.statistics import long_series
from lbal.analyzers.statistics.long_series import LongSeries

NUMBERS = st.one_of(
    st.floats(-1e9, 1e9), st.integers(-5, 5).map(float), st.sampled_from([0.1, 0.3, 1e300, -1e-300, math.inf])
)


def series_of(values, cuts, file=None):
    series = LongSeries(file)
    for part in np.split(np.array(values, float), sorted(cut % len(values) for cut in cuts)):
        series.add(part)
    return series


@pytest.mark.parametrize("most_sorted", [2, 1 << 21])
@settings(max_examples=150, deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=60), st.lists(st.integers(0, 60), max_size=5), st.integers(0, 100))
def test_percentiles_are_those_of_the_array(most_sorted, values, cuts, share):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_series, "MOST_SORTED", most_sorted)
        series, whole = series_of(values, cuts), np.array(values)
        assert series.share_at_most(share) == np.percentile(whole, share, method="inverted_cdf")
        if np.isfinite(whole).all() and np.abs(whole).max() < 1e100:
            assert series.median() == np.median(whole)
            assert series.percentile(share) == pytest.approx(np.percentile(whole, share), rel=1e-12, abs=1e-12)


def test_of_nothing_there_is_no_percentile():
    series = LongSeries()
    series.add(np.empty(0))
    assert np.isnan([series.percentile(50), series.median(), series.share_at_most(50)]).all()


def test_series_share_a_file(monkeypatch):
    monkeypatch.setattr(long_series, "MOST_SORTED", 10)
    file, rng = ArrayFile(1000), np.random.default_rng(0)
    values = [rng.normal(size=500), rng.integers(0, 9, 500).astype(float)]
    found = [series_of(each, [100, 333], file) for each in values]
    for series, whole in zip(found, values, strict=True):
        assert series.median() == np.median(whole)

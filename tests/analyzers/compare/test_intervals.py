"""Intervals hold what they promise: known quantiles, and coverage on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.folded import MOST_BINS, AccountFold, bin_edges
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.energy.binned_sums import columns_of, rebinned, step_series
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.statistics.student import Interval, mean_interval, t_beyond, t_quantile
from lbal.analyzers.trace.trace import StepArrays


@pytest.mark.parametrize(
    ("degrees", "value"),
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (9, 2.26216),
        (10, 2.22814),
        (30, 2.04227),
        (100, 1.98397),
    ],
)
def test_t_quantiles_are_those_of_the_tables(degrees, value):
    assert t_quantile(0.975, degrees) == pytest.approx(value, abs=2e-5)


def test_p_values_are_those_of_the_tables():
    assert t_beyond(2.26216, 9) == pytest.approx(0.05, abs=1e-5)
    assert t_beyond(-4.30265, 2) == pytest.approx(0.05, abs=1e-5)


def test_the_interval_of_a_mean_by_hand():
    # Mean 2, standard deviation 1, so 2 -+ 4.30265 / sqrt(3).
    interval = mean_interval([1, 2, 3])
    assert interval.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert interval.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [1.0, math.nan], [1.0, math.inf]])
def test_no_interval_is_told_where_there_is_none(values):
    assert mean_interval(values) is None


@given(st.integers(1, 5000))
def test_bins_cut_all_steps_into_parts_that_differ_by_at_most_one(count):
    edges = bin_edges(count, min(count, MOST_BINS))
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == count
    assert 1 <= sizes.min() <= sizes.max() <= sizes.min() + 1


def accounts_of(count, seed=0):
    rng = np.random.default_rng(seed)
    running = rng.integers(0, 9, (count, 4)).astype(float)
    running[:, 0] += 1
    steps = StepArrays(np.arange(count), running * rng.integers(50, 900, (count, 4)), running)
    model = StepTimeModel("test", 0.01, 1e-5, 1e-3, 0.0)
    return account(steps, model, measured=False), model


@pytest.mark.parametrize("count", [1, 7, 128, 129, 1000])
def test_the_sums_of_a_series_are_those_of_the_run(count):
    accounts, model = accounts_of(count)
    columns = columns_of(step_series(AccountFold.of(accounts, model), None))
    assert {len(values) for values in columns.values()} == {min(count, MOST_BINS)}
    assert columns["steps"].sum() == count
    assert columns["time_ms"].sum() == pytest.approx(accounts.step_ms.sum(), rel=1e-8)
    assert columns["idle_ms"].sum() == pytest.approx(accounts.idle_ms.sum(), rel=1e-8)
    fewer = rebinned(columns, min(count, 5))
    assert len(fewer["steps"]) == min(count, 5)
    assert fewer["idle_ms"].sum() == pytest.approx(accounts.idle_ms.sum(), rel=1e-8)


def test_every_ratio_is_proportional_to_its_metric(tmp_path):
    """Halves of a trace: the ratio of the metric is the ratio of the sums, whatever the constant between them."""
    import json
    from pathlib import Path

    from lbal.cli.main import run

    sample = Path(__file__).resolve().parents[3] / "sample_traces" / "skewed_8_ranks.jsonl"
    lines = sample.read_text().splitlines(keepends=True)
    steps = [line for line in lines if line.startswith('{"step"')]
    requests = [line for line in lines if line.startswith('{"request_id"')]
    runs = []
    for name, part in (("a", steps[:200]), ("b", steps[200:])):
        path, out = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.json"
        path.write_text("".join([lines[0], *part, *requests]))
        model = "C=0.02,a=4e-8,b=1.5e-4"
        assert run(["analyze", str(path), "--step-model", model, "--power-model", "h200", "-o", str(out)]) == 0
        runs.append(json.loads(out.read_text())["runs"][0])
    for name, (above, below) in {each.name: each.ratio for each in METRICS.values() if each.ratio}.items():
        values = [run["metrics"][name]["value"] for run in runs]
        columns = [columns_of(run["series"]) for run in runs]
        ratios = [part[above].sum() / part[below].sum() for part in columns]
        assert values[0] / values[1] == pytest.approx(ratios[0] / ratios[1], rel=1e-6), name
        assert abs(values[0] / values[1] - 1) > 1e-4, name


@pytest.mark.parametrize(("low", "high", "holds"), [(-1, 1, True), (0, 1, True), (-1, 0, True), (0.1, 1, False)])
def test_an_interval_holds_its_ends(low, high, holds):
    assert Interval(low, high).holds_zero is holds

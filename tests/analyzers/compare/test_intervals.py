"""Intervals hold what they promise: known quantiles, and coverage on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.compare.intervals import (
    Blocks,
    Interval,
    bootstrap,
    mean_interval,
    percentile_interval,
    t_quantile,
)
from lbal.analyzers.energy.binned_sums import MOST_BINS, bin_edges, columns_of, rebinned, step_series
from lbal.analyzers.metrics import METRICS
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


def test_the_interval_of_a_mean_by_hand():
    # Mean 2, standard deviation 1, so 2 -+ 4.30265 / sqrt(3).
    interval = mean_interval([1, 2, 3])
    assert interval.low == pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-4)
    assert interval.high == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
def test_no_interval_is_told_where_there_is_none(values):
    assert mean_interval(values) is None


def correlated(rng, count, memory):
    """Noise around 0 that forgets half of itself in some steps."""
    values = np.empty(count)
    last = 0.0
    for index in range(count):
        last = memory * last + rng.normal()
        values[index] = last
    return values


def holds(truth, columns, blocks):
    centre = columns["idle"].sum() / columns["time"].sum()
    interval = percentile_interval(bootstrap(columns, blocks, ("idle", "time")) * centre, centre, blocks)
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_the_bootstrap_over_steps_holds_the_truth_about_as_often_as_it_says(memory):
    rng, hits, trials = np.random.default_rng(1), 0, 200
    for trial in range(trials):
        columns = {"idle": 50 + correlated(rng, 128, memory), "time": np.full(128, 100.0)}
        hits += holds(0.5, columns, Blocks.drawn(128, trial, 400))
    assert 0.87 * trials <= hits <= 0.99 * trials


def test_independent_draws_would_be_too_sure_of_correlated_steps():
    """Why blocks: the same data, drawn one by one, promise 95% and hold far less."""
    rng, hits, trials = np.random.default_rng(1), 0, 200
    for trial in range(trials):
        columns = {"idle": 50 + correlated(rng, 128, 0.6), "time": np.full(128, 100.0)}
        starts = np.random.default_rng(trial).integers(0, 128, size=(400, 128))
        hits += holds(0.5, columns, Blocks(starts, 1))
    assert hits < 0.8 * trials


def test_what_two_runs_share_cancels_in_a_paired_difference():
    rng = np.random.default_rng(3)
    weather, ones = correlated(rng, 128, 0.8), np.ones(128)
    blocks = Blocks.drawn(128, 0)
    one, other = ({"x": level + weather + rng.normal(0, 0.1, 128), "n": ones} for level in (50, 50.5))
    changes = [bootstrap(part, blocks, ("x", "n")) * part["x"].mean() for part in (one, other)]
    means = [part["x"].mean() for part in (one, other)]
    paired = percentile_interval(changes[1] - changes[0], means[1] - means[0], blocks)
    alone = percentile_interval(changes[1], means[1], blocks)
    assert paired.high - paired.low < (alone.high - alone.low) / 3
    assert paired.low > 0


def test_the_same_seed_draws_the_same_blocks():
    assert (Blocks.drawn(128, 5).starts == Blocks.drawn(128, 5).starts).all()
    assert (Blocks.drawn(128, 5).starts != Blocks.drawn(128, 6).starts).any()


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
    columns = columns_of(step_series(accounts, model, None))
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

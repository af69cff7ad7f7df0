"""What is drawn of long runs: thinned by rules that lose no peak, whatever the pieces that the steps come in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_examples import MODEL, steps_of

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.thinned import (
    IDLE_BINS,
    MOST_BUCKETS,
    MOST_MAP_RANKS,
    MOST_MAP_STEPS,
    LoadThinner,
    SeriesFold,
)
from lbal.analyzers.trace.trace import StepArrays


def accounts_of(count, ranks=3):
    return account(steps_of(count, ranks), MODEL, measured=False)


def series_of(accounts):
    fold = SeriesFold(len(accounts))
    fold.add(accounts)
    return fold.series()


def map_of(steps, pieces):
    thinner = LoadThinner()
    for piece in pieces:
        thinner.add(steps.part(piece))
    return thinner.load_map()


def test_a_short_run_is_drawn_step_by_step():
    accounts = accounts_of(5)
    series = series_of(accounts)
    assert series.steps_per_bucket == 1
    assert series.first_step.tolist() == series.last_step.tolist() == [0, 1, 2, 3, 4]
    assert series.idle_fraction == pytest.approx(accounts.idle_fraction)
    assert (series.idle_fraction_max == accounts.idle_fraction).all()


@pytest.mark.parametrize("count", [MOST_BUCKETS, MOST_BUCKETS + 1, 3 * MOST_BUCKETS + 7])
def test_thinning_keeps_the_whole_idle_time_the_highest_peak_and_every_step(count):
    accounts = accounts_of(count)
    series = series_of(accounts)
    assert len(series.first_step) <= MOST_BUCKETS
    assert series.idle_fraction_max.max() == accounts.idle_fraction.max()
    sizes = series.last_step - series.first_step + 1
    assert sizes.sum() == count
    starts = np.cumsum(sizes) - sizes
    time_ms = np.add.reduceat(accounts.step_ms, starts) * accounts.dp_size
    assert (series.idle_fraction * time_ms).sum() == pytest.approx(accounts.idle_ms.sum())
    assert series.idle_bins.sum() == count


def test_a_step_that_idles_altogether_counts_in_the_last_bin():
    steps = StepArrays(np.arange(1), np.array([[0.0, 1e9]]), np.array([[0.0, 1.0]]), step_ms=np.array([1e5]))
    series = series_of(account(steps, MODEL, measured=False))
    assert series.idle_bins.sum() == 1
    assert len(series.idle_bins) == IDLE_BINS


def test_the_map_of_a_few_steps_is_their_loads():
    steps = steps_of(7, 3)
    found = map_of(steps, [slice(0, 4), slice(4, 7)])
    assert (found.kv_tokens == steps.kv_tokens).all()
    assert found.first_step.tolist() == found.last_step.tolist() == list(range(7))


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 2_000), max_size=8), count=st.integers(1, 2_000), gap=st.integers(1, 5))
def test_the_map_is_the_means_of_equally_many_steps_whatever_the_pieces(cuts, count, gap):
    steps = steps_of(count, 2)
    steps = StepArrays(steps.step * gap, steps.kv_tokens, steps.num_running)
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < count}), count]
    found = map_of(steps, [slice(*pair) for pair in pairwise(edges)])
    width = found.steps_per_bucket
    assert len(found.first_step) <= MOST_MAP_STEPS
    assert width == 1 or len(found.first_step) > MOST_MAP_STEPS // 2
    starts = range(0, count, width)
    assert found.first_step.tolist() == [gap * start for start in starts]
    assert found.last_step.tolist() == [gap * (min(start + width, count) - 1) for start in starts]
    means = [steps.kv_tokens[start : start + width].mean(axis=0) for start in starts]
    assert found.kv_tokens == pytest.approx(np.array(means))


def test_many_ranks_share_rows_that_show_the_largest_of_them():
    ranks = 2 * MOST_MAP_RANKS + 1
    steps = steps_of(3, ranks)
    found = map_of(steps, [slice(0, 3)])
    assert found.ranks_per_row == 3
    assert found.kv_tokens.shape[1] <= MOST_MAP_RANKS
    assert (found.kv_tokens[:, 0] == steps.kv_tokens[:, :3].max(axis=1)).all()
    assert (found.kv_tokens[:, -1] == steps.kv_tokens[:, 3 * (found.kv_tokens.shape[1] - 1) :].max(axis=1)).all()


def test_a_map_within_a_window_keeps_the_buckets_that_reach_into_it():
    found = map_of(steps_of(10, 2), [slice(0, 10)]).within(3, 5)
    assert found.first_step.tolist() == [3, 4, 5]

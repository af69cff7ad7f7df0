"""Accounts that are added up block by block tell the same as those of all steps at once."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_examples import MODEL

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
from lbal.analyzers.barrier.folded import MOST_BINS, AccountFold, bin_edges
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics import METRICS, step_figures
from lbal.analyzers.trace.trace import StepArrays

LOADS = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 900)), min_size=3, max_size=3), min_size=1, max_size=300
)
CUTS = st.lists(st.integers(1, 299), max_size=6)
ADDED_UP = {"rel": 1e-12, "abs": 1e-12}
"""What the order in which numbers are added up may change."""


def steps_of(loads):
    running = np.array([[count for count, _length in step] for step in loads], float)
    tokens = np.array([[count * length for count, length in step] for step in loads], float)
    return StepArrays(np.arange(len(loads)), tokens, running)


def accounts_of(steps):
    return account(steps, MODEL, measured=False)


def folded(steps, cuts):
    """The accounts of each block by itself, added up."""
    fold = AccountFold(len(steps), MODEL)
    for ends in pairwise([0, *sorted({cut for cut in cuts if cut < len(steps)}), len(steps)]):
        fold.add(accounts_of(steps.part(slice(*ends))))
    return fold


@settings(max_examples=100, deadline=None)
@given(LOADS, CUTS)
def test_figures_do_not_depend_on_the_blocks(loads, cuts):
    steps = steps_of(loads)
    whole, fold = accounts_of(steps), folded(steps, cuts)
    found = step_figures(WindowSteps(fold, 16, 1.0, 10_000))
    expected = step_figures(WindowSteps(AccountFold.of(whole, MODEL), 16, 1.0, 10_000))
    assert found == pytest.approx(expected, **ADDED_UP)
    exact = [name for name in found if METRICS[name].group == "spread" or name.startswith("barrier_idle_fraction_p")]
    assert {name: found[name] for name in exact} == {name: expected[name] for name in exact}
    assert worst_steps(fold.worst) == worst_steps(whole)
    shares = whole.causes_ms.sum(axis=0) / (3 * whole.step_ms.sum())
    assert attribution(fold) == pytest.approx(
        {cause: shares[index] for cause, index in whole.causes.items()}, **ADDED_UP
    )
    assert [rank["kv_tokens_mean"] for rank in rank_table(fold)] == pytest.approx(steps.kv_tokens.mean(axis=0))


@settings(max_examples=60, deadline=None)
@given(LOADS, CUTS)
def test_figures_of_a_fold_are_those_of_plain_sums(loads, cuts):
    steps = steps_of(loads)
    whole, fold = accounts_of(steps), folded(steps, cuts)
    found = step_figures(WindowSteps(fold, 16, 1.0, 10_000))
    tokens = steps.kv_tokens
    assert found["imbalance_tokens_mean"] == pytest.approx((3 * tokens.max(axis=1) - tokens.sum(axis=1)).mean())
    assert found["slot_use"] == pytest.approx(steps.num_running.mean() / 16)
    assert found["kv_use"] == pytest.approx(tokens.mean() / 10_000)
    assert found["barrier_idle_fraction"] == pytest.approx(whole.idle_ms.sum() / whole.step_ms.sum() / 3)
    with_work = whole.idle_fraction[whole.slowest_ms > 0]
    if len(with_work):
        assert found["barrier_idle_fraction_p90"] == pytest.approx(np.percentile(with_work, 90))
    else:
        assert "barrier_idle_fraction_p90" not in found
    assert found["perfect_balance_speedup"] == pytest.approx(whole.step_ms.sum() / whole.balanced_ms.sum())
    loaded = tokens[tokens.max(axis=1) > 0]
    if len(loaded):
        assert found["balance_ratio_mean"] == pytest.approx((loaded.mean(axis=1) / loaded.max(axis=1)).mean())
        assert found["imbalance_ratio_mean"] == pytest.approx((loaded.max(axis=1) / loaded.mean(axis=1)).mean())


@settings(max_examples=60, deadline=None)
@given(LOADS, CUTS)
def test_bins_and_charts_do_not_depend_on_the_blocks(loads, cuts):
    steps = steps_of(loads)
    whole, fold = accounts_of(steps), folded(steps, cuts)
    expected = AccountFold.of(whole, MODEL)
    assert fold.series.series().as_dict() == expected.series.series().as_dict()
    np.testing.assert_equal(fold.apart.apart().as_dict(), expected.apart.apart().as_dict())  # NaN is NaN there
    edges = bin_edges(len(steps), min(len(steps), MOST_BINS))
    in_bins = [RunTotals.of(whole.part(slice(*ends)), MODEL) for ends in pairwise(edges)]
    assert len(fold.bins) == len(in_bins)
    for found, totals in zip(fold.bins, in_bins, strict=True):
        assert vars(found) == pytest.approx(vars(totals), **ADDED_UP)

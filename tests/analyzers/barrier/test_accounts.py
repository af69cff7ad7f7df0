"""Barrier accounting: small examples by hand, and what holds for any steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_accounting import plain_account

from lbal.analyzers.barrier.account_pass import CAUSES, PowerCurves
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics import step_figures
from lbal.analyzers.trace.trace import StepArrays

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=1e-5, per_request_s=1e-3)
"""10 ms, 0.01 ms per token, 1 ms per request: a rank with 100 tokens in 2 requests takes 3 ms."""


def steps_of(kv_tokens, num_running, **columns) -> StepArrays:
    tokens = np.asarray(kv_tokens, np.float64)
    extra = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    return StepArrays(np.arange(len(tokens)), tokens, np.asarray(num_running, np.float64), **extra)


TWO_RANKS = steps_of([[100, 300], [200, 200], [0, 100]], [[1, 2], [2, 2], [0, 1]])
"""Rank times 2 and 5 ms, 4 and 4 ms, 0 and 2 ms; steps of 15, 14 and 12 ms; idle 3, 0 and 2 ms, all of rank 0."""


def test_two_ranks_three_steps_by_hand():
    accounts = account(TWO_RANKS, MODEL, measured=False)
    assert accounts.step_ms.tolist() == [15, 14, 12]
    assert accounts.idle_ms.tolist() == [3, 0, 2]
    assert accounts.idle_fraction.tolist() == [3 / 30, 0, 2 / 24]
    assert accounts.imbalance_tokens.tolist() == [200, 0, 100]
    assert accounts.balance_ratio.tolist() == pytest.approx([2 / 3, 1, 1 / 2])
    assert accounts.rank_idle_ms.tolist() == [5, 0]
    assert accounts.rank_straggler.tolist() == [0.5, 2.5], "two equally slow ranks count half each"
    metrics = step_figures(WindowSteps(AccountFold.of(accounts, MODEL), max_num_seqs=2, makespan_ms=41.0))
    assert metrics["barrier_idle_fraction"] == pytest.approx(5 / (2 * 41))
    assert metrics["barrier_idle_rank_seconds"] == pytest.approx(0.005)
    assert metrics["imbalance_tokens_mean"] == pytest.approx(100)
    assert metrics["tokens_per_second"] == pytest.approx(8 / 0.041)
    assert metrics["slot_use"] == pytest.approx((3 / 4 + 1 + 1 / 4) / 3)
    assert metrics["perfect_balance_speedup"] == pytest.approx(41 / 38.5)
    assert metrics["kv_time_fraction"] == pytest.approx((3 + 2 + 1) / 41)


def test_causes_by_hand():
    # Step 0: l = 400/3, c = (4/3 + 1)*n = 7/3 and 14/3 ms: count 7/3 ms of the 3 ms. Step 2: rank 0 has no work.
    accounts = account(TWO_RANKS, MODEL, measured=False)
    empty, count, length, prefill, speed, unexplained = accounts.causes_ms.T
    assert empty.tolist() == [0, 0, 2]
    assert count == pytest.approx([7 / 3, 0, 0])
    assert length == pytest.approx([2 / 3, 0, 0])
    assert prefill.tolist() == speed.tolist() == unexplained.tolist() == [0, 0, 0]


def test_length_is_negative_where_short_requests_make_up_for_their_number():
    accounts = account(steps_of([[100, 100]], [[1, 3]]), MODEL, measured=False)
    shares = attribution(AccountFold.of(accounts, MODEL))
    assert shares["count"] > 0 > shares["length"]


def test_measured_times_leave_to_the_unexplained_what_load_does_not_explain():
    steps = steps_of([[100, 100]], [[1, 1]], compute_ms=[[2, 5]], step_ms=[16])
    accounts = account(steps, MODEL, measured=True)
    assert accounts.idle_ms.tolist() == [3]
    assert dict(zip(CAUSES, accounts.causes_ms[0], strict=True)) == {
        "empty": 0,
        "count": 0,
        "length": 0,
        "prefill": 0,
        "speed": 0,
        "unexplained": 3,
    }
    assert accounts.step_ms.tolist() == [16], "a recorded step time is kept"


def test_the_worst_step_comes_first():
    worst = worst_steps(account(TWO_RANKS, MODEL, measured=False), count=2)
    assert [step["step"] for step in worst] == [0, 2]
    assert worst[0]["straggler"] == 1
    assert worst[0]["kv_tokens_straggler"] == 300


def test_the_worst_step_has_the_most_idle_time_not_the_largest_share_of_it():
    steps = steps_of([[0, 300], [0, 200]], [[0, 0], [0, 0]], step_ms=[100.0, 4.0])
    worst = worst_steps(account(steps, MODEL, measured=False))
    assert [step["step"] for step in worst] == [0, 1]
    assert worst[0]["idle_fraction"] < worst[1]["idle_fraction"]


def test_a_rank_time_longer_than_its_step_is_counted():
    accounts = account(steps_of([[100, 300]], [[1, 2]], step_ms=[4.0]), MODEL, measured=False)
    assert accounts.over_step == 1


steps_strategy = st.tuples(st.integers(1, 6), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape, elements=st.integers(0, 5_000)), arrays(np.int64, shape, elements=st.integers(0, 40))
    )
)


@given(steps_strategy)
@settings(deadline=None)
def test_causes_add_up_to_the_idle(loads):
    accounts = account(steps_of(*loads), MODEL, measured=False)
    assert accounts.causes_ms.sum(axis=1) == pytest.approx(accounts.idle_ms, abs=1e-9)
    assert accounts.rank_causes_ms.sum(axis=1) == pytest.approx(accounts.rank_idle_ms, abs=1e-9)
    fold = AccountFold.of(accounts, MODEL)
    assert sum(attribution(fold).values()) == pytest.approx(
        step_figures(WindowSteps(fold, None, 1.0))["barrier_idle_fraction"]
    )
    assert sum(rank["straggler_fraction"] for rank in rank_table(fold)) == pytest.approx(1)
    assert (accounts.idle_fraction < 1).all()
    assert (accounts.idle_ms >= 0).all()


@given(steps_strategy, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_permuting_ranks_changes_no_total(loads, random):
    order = list(range(loads[0].shape[1]))
    random.shuffle(order)
    plain = account(steps_of(*loads), MODEL, measured=False)
    permuted = account(steps_of(*[load[:, order] for load in loads]), MODEL, measured=False)
    for name in ("step_ms", "idle_ms", "imbalance_tokens", "balance_ratio", "causes_ms"):
        assert getattr(permuted, name) == pytest.approx(getattr(plain, name), abs=1e-9), name
    assert permuted.rank_idle_ms == pytest.approx(plain.rank_idle_ms[order], abs=1e-9)


@given(st.integers(1, 6), st.integers(0, 5_000), st.integers(1, 40))
@settings(deadline=None)
def test_idle_is_zero_when_all_ranks_hold_equal_load(ranks, tokens, running):
    accounts = account(steps_of([[tokens] * ranks], [[running] * ranks]), MODEL, measured=False)
    assert accounts.idle_ms.tolist() == [0]
    assert accounts.balance_ratio.tolist() == [1]
    assert (accounts.causes_ms == 0).all()


def test_a_slow_rank_waits_less_and_what_its_speed_adds_is_told_apart():
    model = MODEL.with_speeds({1: 0.5})
    accounts = account(steps_of([[100, 100]], [[1, 1]]), model, measured=False)
    assert accounts.step_ms.tolist() == [14], "rank 1 takes 4 ms for what takes rank 0 two"
    assert accounts.rank_idle_ms.tolist() == [2, 0]
    assert dict(zip(CAUSES, accounts.causes_ms[0], strict=True)) == {
        "empty": 0,
        "count": 0,
        "length": 0,
        "prefill": 0,
        "speed": 2,
        "unexplained": 0,
    }
    metrics = step_figures(WindowSteps(AccountFold.of(accounts, model), None, 14.0))
    assert metrics["kv_time_fraction"] == pytest.approx(2 / 14)


@given(
    steps_strategy,
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, {0: 0.8}, {0: 1.25, 1: 0.5}]),
    st.sampled_from([PowerCurves(), PowerCurves(32.0), PowerCurves(0.0, 0.7)]),
)
@settings(deadline=None)
def test_compiled_accounts_equal_the_plain_ones(loads, measured, timed, speeds, curves):
    times = (loads[0] % 17 + 1) * 0.25
    extra = {"compute_ms": times} if measured else {}
    if timed:
        extra["step_ms"] = times.max(axis=1) + 3
    steps = steps_of(*loads, **extra)
    model = MODEL.with_speeds({rank: speed for rank, speed in speeds.items() if rank < steps.dp_size})
    found = account(steps, model, measured=measured, curves=curves)
    expected = plain_account(steps, model, measured, curves)
    assert vars(found).keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, atol=1e-9, err_msg=name)


@given(steps_strategy, st.integers(1, 5))
@settings(deadline=None)
def test_accounts_of_parts_add_up(loads, cut):
    steps = steps_of(*loads)
    whole = account(steps, MODEL, measured=False)
    parts = [account(steps.part(part), MODEL, measured=False) for part in (slice(0, cut), slice(cut, None))]
    for name, value in vars(parts[0] + parts[1]).items():
        np.testing.assert_allclose(value, getattr(whole, name), rtol=1e-12, atol=1e-9)

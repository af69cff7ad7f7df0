"""Accounts of steps with prefill and padding: small examples by hand, and what holds for any steps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_accounting import plain_account

from lbal.analyzers.barrier.account_pass import CAUSES, PREFILL, PowerCurves
from lbal.analyzers.barrier.accounts import BarrierAccounts, account
from lbal.analyzers.barrier.figures import attribution, rank_table
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.trace.trace import StepArrays

MODEL = StepTimeModel(
    "test",
    shared_s=0.010,
    per_token_s=1e-5,
    per_request_s=1e-3,
    per_prefill_token_s=1e-4,
    per_prefill_pair_s=1e-6,
    graph_loss_s=0.005,
)
"""10 ms, 0.01 ms a KV token, 1 ms a request, 0.1 ms a prompt token, 1 us a pair, 5 ms where any rank prefills."""


def steps_of(kv_tokens, num_running, **columns) -> StepArrays:
    extra = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    return StepArrays(
        np.arange(len(kv_tokens)), np.asarray(kv_tokens, np.float64), np.asarray(num_running, np.float64), **extra
    )


def folded(accounts: BarrierAccounts) -> AccountFold:
    return AccountFold.of(accounts, MODEL)


def by_cause(accounts: BarrierAccounts, step: int = 0) -> dict[str, float]:
    return {cause: float(share) for cause, share in zip(CAUSES, accounts.causes_ms[step], strict=True) if share}


def test_even_decodes_wait_for_the_rank_that_prefills():
    steps = steps_of([[100, 100]], [[2, 2]], prefill_tokens=[[40, 0]], prefill_pairs=[[800, 0]])
    accounts = account(steps, MODEL, measured=False)
    assert accounts.slowest_ms[0] == pytest.approx(3 + 4 + 0.8)
    assert accounts.step_ms[0] == pytest.approx(10 + 5 + 7.8)
    assert by_cause(accounts) == pytest.approx({"prefill": 4.8})
    assert accounts.prefill_tokens.tolist() == [40]
    assert accounts.rank_prefill_ms == pytest.approx([4.8, 0])


def test_prefill_on_the_rank_that_decodes_least_takes_idle_away():
    """Rank 1 would wait 3 ms for rank 0, and computes 20 prompt tokens meanwhile."""
    steps = steps_of([[400, 100]], [[1, 1]], prefill_tokens=[[0, 20]])
    accounts = account(steps, MODEL, measured=False)
    assert accounts.idle_ms[0] == pytest.approx(1)
    assert by_cause(accounts) == pytest.approx({"length": 3, "prefill": -2})


def test_a_rank_that_prefills_and_does_not_decode_has_work():
    """As where a rank's decodes stall while it prefills: it decodes less than the others, for want of no work."""
    steps = steps_of([[0, 100], [0, 100]], [[0, 2], [0, 2]], prefill_tokens=[[50, 0], [0, 0]])
    accounts = account(steps, MODEL, measured=False)
    assert by_cause(accounts, 0) == pytest.approx({"count": 3, "prefill": -1})
    assert by_cause(accounts, 1) == pytest.approx({"empty": 3})
    assert accounts.rank_empty.tolist() == [1, 0]


def test_padding_is_computed_and_not_waited():
    steps = steps_of([[100, 100, 0]], [[1, 4, 0]], padded_running=[[4, 4, 4]])
    accounts = account(steps, MODEL, measured=False)
    assert accounts.slowest_ms[0] == pytest.approx(5)
    assert accounts.idle_ms[0] == pytest.approx(1), "only the tokens that rank 2 does not hold"
    assert accounts.padding_ms.tolist() == [7], "3 ms on rank 0, 4 ms on rank 2"
    assert accounts.rank_padding_ms.tolist() == [3, 0, 4]
    assert not accounts.has_prefill
    assert accounts.has_padding


def test_prefill_is_no_cause_where_there_is_none_or_the_model_does_not_know_what_it_takes():
    plain = account(steps_of([[100, 300]], [[1, 2]]), MODEL, measured=False)
    assert "prefill" not in attribution(folded(plain))
    steps = steps_of([[100, 300]], [[1, 2]], prefill_tokens=[[5, 0]])
    unknowing = dataclasses.replace(MODEL, per_prefill_token_s=0.0, per_prefill_pair_s=0.0)
    accounts = account(steps, unknowing, measured=False)
    assert accounts.has_prefill
    assert "prefill" not in attribution(folded(accounts))
    assert "prefill" not in rank_table(folded(accounts))[0]["idle_by_cause"]
    assert "prefill" in attribution(folded(account(steps, MODEL, measured=False)))


def test_unknown_prefill_counts_as_none():
    steps = steps_of([[100, 300]], [[1, 2]], prefill_tokens=[[np.nan, np.nan]], padded_running=[[np.nan, 2]])
    bare = account(steps_of([[100, 300]], [[1, 2]]), MODEL, measured=False)
    for name, value in vars(account(steps, MODEL, measured=False)).items():
        assert np.array_equal(value, getattr(bare, name)), name


def counts(most: int):
    return lambda shape: arrays(np.float64, shape, elements=st.integers(0, most).map(float))


mixed_steps = st.tuples(st.integers(1, 6), st.integers(1, 5)).flatmap(
    lambda shape: st.builds(
        lambda tokens, running, prefill, before, padding: steps_of(
            tokens,
            running,
            prefill_tokens=prefill,
            prefill_pairs=prefill * before + prefill**2 / 2,
            padded_running=running + padding,
        ),
        counts(5_000)(shape),
        counts(40)(shape),
        arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.0, 1.0, 64.0, 500.0])),
        counts(900)(shape),
        arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.0, 3.0])),
    )
)


@given(
    mixed_steps,
    st.booleans(),
    st.booleans(),
    st.sampled_from([{}, {0: 0.8}, {0: 1.25, 1: 0.5}]),
    st.sampled_from([PowerCurves(), PowerCurves(32.0), PowerCurves(0.0, 0.7)]),
)
@settings(deadline=None)
def test_compiled_accounts_equal_the_plain_ones(steps, measured, timed, speeds, curves):
    times = (steps.kv_tokens % 17 + 1) * 0.25
    if measured:
        steps = dataclasses.replace(steps, compute_ms=times)
    if timed:
        steps = dataclasses.replace(steps, step_ms=times.max(axis=1) + 3)
    model = MODEL.with_speeds({rank: speed for rank, speed in speeds.items() if rank < steps.dp_size})
    found = account(steps, model, measured=measured, curves=curves)
    expected = plain_account(steps, model, measured, curves)
    assert vars(found).keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, rtol=1e-12, atol=1e-9, err_msg=name)


@given(mixed_steps)
@settings(deadline=None)
def test_causes_add_up_to_the_idle(steps):
    accounts = account(steps, MODEL, measured=False)
    assert accounts.causes_ms.sum(axis=1) == pytest.approx(accounts.idle_ms, abs=1e-9)
    assert accounts.rank_causes_ms.sum(axis=1) == pytest.approx(accounts.rank_idle_ms, abs=1e-9)
    shares = attribution(folded(accounts))
    assert sum(shares.values()) == pytest.approx(accounts.idle_ms.sum() / (steps.dp_size * accounts.step_ms.sum()))
    assert ("prefill" in shares) == accounts.has_prefill


@given(mixed_steps)
@settings(deadline=None)
def test_even_prefill_leaves_nothing_to_the_cause_prefill(steps):
    even = {
        name: np.repeat(getattr(steps, name)[:, :1], steps.dp_size, axis=1)
        for name in ("prefill_tokens", "prefill_pairs")
    }
    accounts = account(dataclasses.replace(steps, **even), MODEL, measured=False)
    assert accounts.causes_ms[:, PREFILL] == pytest.approx(np.zeros(len(steps)), abs=1e-9)


@given(mixed_steps, st.integers(1, 5))
@settings(deadline=None)
def test_accounts_of_parts_add_up(steps, cut):
    whole = account(steps, MODEL, measured=False)
    parts = [account(steps.part(part), MODEL, measured=False) for part in (slice(0, cut), slice(cut, None))]
    for name, value in vars(parts[0] + parts[1]).items():
        np.testing.assert_allclose(value, getattr(whole, name), rtol=1e-12, atol=1e-9)

"""The step formula: one place says it, and all that inline it or scale it agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.bounds import RequestLoads, least_time_ms
from lbal.analyzers.barrier.step_time import (
    COEFFICIENTS,
    Coefficients,
    StepTimeModel,
    common_time,
    mixed_rank_time,
    mixed_step_time,
    prefill_time,
    rank_time,
    step_time,
)
from lbal.analyzers.trace.trace import StepArrays
from lbal.replay.policy.projection import load_units

seconds = st.floats(0, 1e-3).map(lambda value: round(value, 9))
models = st.builds(StepTimeModel, st.just("test"), seconds, seconds, seconds, seconds)
loads = st.tuples(st.integers(0, 10**6), st.integers(0, 500))


class Seen:
    """As much of a view as the units of a load need."""

    def __init__(self, coefficients: Coefficients) -> None:
        self.per_token_ms, self.per_request_ms = coefficients.per_token, coefficients.per_request


def test_the_formula_by_hand():
    coefficients = Coefficients(10.0, 0.01, 1.0, 0.5, 0.0)
    assert rank_time(100.0, 2.0, coefficients) == 3.0
    assert common_time(4.0, coefficients) == 12.0
    assert step_time(3.0, 4.0, coefficients) == 15.0


def test_the_formula_with_prefill_by_hand():
    """Two chunks, of 4 tokens at the head of a prompt and of 2 with 4 of theirs before: 4^2/2 + 2*4 + 2^2/2 pairs."""
    coefficients = Coefficients(10.0, 0.01, 1.0, 0.5, 0.1, 0.001, 5.0)
    assert prefill_time(6.0, 18.0, coefficients) == pytest.approx(0.618)
    assert mixed_rank_time(100.0, 2.0, 6.0, 18.0, coefficients) == pytest.approx(3.618)
    assert mixed_step_time(3.618, 4.0, True, coefficients) == pytest.approx(20.618)
    assert mixed_step_time(3.0, 4.0, False, coefficients) == 15.0


@given(st.builds(Coefficients, *[seconds] * 7), loads, st.floats(0, 500), seconds)
def test_without_prefill_both_forms_of_the_formula_are_equal_to_the_bit(coefficients, load, mean, slowest):
    assert mixed_rank_time(*map(float, load), 0.0, 0.0, coefficients) == rank_time(*map(float, load), coefficients)
    assert mixed_step_time(slowest, mean, False, coefficients) == step_time(slowest, mean, coefficients)


@given(st.builds(Coefficients, *[seconds] * 7))
def test_a_model_comes_back_from_its_record_with_all_its_coefficients(coefficients):
    model = StepTimeModel("test", 0.0, 0.0).with_coefficients(**dict(zip(COEFFICIENTS, coefficients, strict=True)))
    assert StepTimeModel.from_dict(model.as_dict()) == model
    assert model.coefficients_s == coefficients
    assert model.tells_prefill == any((coefficients.per_prefill_token, coefficients.per_prefill_pair))


@given(models, st.lists(loads, min_size=1, max_size=6))
def test_the_kernel_of_the_accounts_inlines_the_formula(model, ranks):
    tokens, running = np.array(ranks, np.float64).T[:, None, :]
    accounts = account(StepArrays(np.zeros(1, np.int64), tokens, running), model, measured=False)
    coefficients = model.coefficients_ms
    slowest = max(rank_time(float(held), float(active), coefficients) for held, active in ranks)
    assert accounts.slowest_ms[0] == slowest
    assert accounts.step_ms[0] == common_time(running.mean(), coefficients) + slowest
    assert model.rank_time_ms(tokens, running).max() == slowest
    assert accounts.step_ms[0] == pytest.approx(step_time(slowest, float(running.mean()), coefficients), rel=1e-15)


@given(models, loads)
def test_policies_weigh_loads_as_the_formula_does(model, load):
    coefficients = model.coefficients_ms
    per_token, per_request = load_units(Seen(coefficients), True)
    if coefficients.per_token == coefficients.per_request == 0:
        assert (per_token, per_request) == (1, 0)
        return
    scale = coefficients.per_token or coefficients.per_request
    weighed = per_token * load[0] + per_request * load[1]
    assert weighed * scale == pytest.approx(rank_time(*map(float, load), coefficients), rel=1e-12)


@given(models, st.lists(st.tuples(st.integers(1, 50), st.integers(1, 500)), min_size=1, max_size=4))
def test_one_rank_with_all_slots_takes_exactly_its_bound(model, requests):
    """Equally long requests that all run at once on one rank: no step can be shorter."""
    steps = max(output for output, _ in requests)
    prompts = np.array([prompt for _, prompt in requests])
    outputs = np.full(len(prompts), steps)
    bound = least_time_ms(RequestLoads(outputs, prompts, outputs), model, 1, len(prompts))
    tokens = (prompts[:, None] + np.arange(steps)).sum(axis=0)[:, None].astype(np.float64)
    running = np.full((steps, 1), float(len(prompts)))
    accounts = account(StepArrays(np.arange(steps), tokens, running), model, measured=False)
    assert bound == pytest.approx(accounts.step_ms.sum(), rel=1e-9)

"""How loaded a cluster is: estimated by hand-worked figures, and found so that a replay agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.rate_scale import find_rate_scale, rate_scale_for
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=1e-6, per_request_s=1e-4)
FIGURES = {"output_tokens_per_second": 2000.0, "prompt_tokens_mean": 100.0, "output_tokens_mean": 20.0}
"""Two ranks get 1,000 tokens/s each; a request costs 110 * 1e-6 + 1e-4 = 2.1e-4 s per step."""


def test_a_load_that_fits_is_estimated_by_littles_law():
    # n = 1000 * (0.01 + 2.1e-4 n), so n = 10 / 0.79; 16 requests emit 16 / (0.01 + 16 * 2.1e-4) tokens/s.
    sizing = rate_scale_for(FIGURES, 2, 20, MODEL)
    assert sizing.slot_use == pytest.approx(10 / 0.79 / 20)
    assert sizing.rate_scale == pytest.approx(16 / 0.01336 / 1000)
    assert sizing.fits


@pytest.mark.parametrize("slots", [5, 10])
def test_a_load_that_does_not_fit_is_told_as_what_is_asked_over_what_is_possible(slots):
    sizing = rate_scale_for(FIGURES, 2, slots, MODEL)
    assert sizing.slot_use == pytest.approx(1000 / (slots / (0.01 + 2.1e-4 * slots)))
    assert sizing.slot_use > 1
    assert not sizing.fits


def test_requests_that_no_number_of_slots_could_serve_are_no_division_by_zero():
    sizing = rate_scale_for({**FIGURES, "output_tokens_per_second": 2e4}, 2, 20, MODEL)
    assert sizing.slot_use == pytest.approx(1e4 / (20 / (0.01 + 2.1e-4 * 20)))


def test_without_arrivals_there_is_no_estimate():
    assert rate_scale_for({"prompt_tokens_mean": 1.0, "output_tokens_mean": 1.0}, 2, 20, MODEL) is None


@pytest.fixture
def steady(workload_of):
    outputs = (np.arange(300) % 7 + 3).tolist()
    return workload_of([20] * 300, outputs, arrivals=(np.arange(300) * 9.0).tolist())


@pytest.mark.parametrize("target", [0.2, 0.6])
def test_a_replay_at_the_rate_found_uses_that_share_of_the_slots_up_to_the_last_admission(steady, target):
    cluster, policy = Cluster(2, 4, MODEL), parse_policy("jsq")
    sizing = find_rate_scale(target, steady, cluster, policy, Conditions())
    replayed = replay(steady, cluster, policy, replace(Conditions(), rate_scale=sizing.rate_scale))
    running = replayed.trace.step_arrays().num_running[: replayed.admitted_step.max()]
    assert running.mean() / 4 == pytest.approx(target, abs=1.001e-3)
    assert sizing.slot_use == pytest.approx(running.mean() / 4)


def test_a_share_that_no_rate_reaches_is_refused_with_the_one_that_can_be(steady):
    with pytest.raises(UsageError, match="expected a share of at most 0"):
        find_rate_scale(0.9999, steady, Cluster(2, 64, MODEL), parse_policy("jsq"), Conditions())

"""What `--arrivals` names, and the times that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from lbal.analyzers.errors import UsageError
from lbal.replay.scenario.arrivals import parse_arrivals
from lbal.replay.scenario.cluster import Conditions


@pytest.mark.parametrize(("text", "cv"), [("poisson:5", 1.0), ("gamma:5,0.3", 0.3), ("gamma:5,3", 3.0)])
def test_drawn_times_have_the_rate_and_the_variation_that_were_asked_for(text, cv):
    gaps = np.diff(parse_arrivals(text).drawn_ms(100_000, seed=1))
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(200.0, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_the_same_seed_draws_the_same_times_and_another_rate_only_scales_them():
    five, ten = parse_arrivals("poisson:5"), parse_arrivals("poisson:10")
    np.testing.assert_array_equal(five.drawn_ms(50, 3), five.drawn_ms(50, 3))
    np.testing.assert_allclose(five.drawn_ms(50, 3), 2 * ten.drawn_ms(50, 3))
    assert (five.drawn_ms(50, 3) != five.drawn_ms(50, 4))[1:].all()
    np.testing.assert_array_equal(five.drawn_ms(50, 3), parse_arrivals("gamma:5,1").drawn_ms(50, 3))


def test_a_single_request_arrives_at_the_start():
    assert parse_arrivals("gamma:5,2").drawn_ms(1, 0).tolist() == [0.0]


def test_drawn_times_do_not_need_those_of_a_trace(workload_of):
    workload = workload_of([1, 2, 3], [1, 1, 1], arrivals=None)
    assert len(Conditions("poisson:2", seed=5).arrival_ms(workload)) == 3
    with pytest.raises(UsageError, match="it has no arrival times"):
        Conditions("trace").arrival_ms(workload)


def test_sessions_without_a_request_that_waits_are_refused(workload_of):
    with pytest.raises(UsageError, match=r"no request waits for another, expected arrivals=trace"):
        Conditions("sessions").arrival_ms(workload_of([1], [1], arrivals=[0.0]))

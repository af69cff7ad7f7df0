"""Drift: how a request's load grows, everywhere that loads are computed."""

from __future__ import annotations

import numpy as np
import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift, parse_drift

MODEL = StepTimeModel("test", shared_s=0.01, per_token_s=1e-6)


def loads(workload, drift: str, capacity=None):
    conditions = Conditions("backlog", drift=parse_drift(drift))
    replayed = replay(workload, Cluster(1, 4, MODEL, capacity), parse_policy("fcfs"), conditions)
    return replayed.trace.step_arrays().kv_tokens[:, 0].tolist()


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        ("1", [10, 11, 12, 13]),
        ("0", [10, 10, 10, 10]),
        ("2.5", [10, 12.5, 15, 17.5]),
        ("window:12", [10, 11, 12, 12]),
        ("window:10", [10, 10, 10, 10]),
        ("window:6", [6, 6, 6, 6]),
    ],
)
def test_a_load_grows_by_the_drift(workload_of, drift, expected):
    assert loads(workload_of([10], [4]), drift) == expected


def test_requests_with_different_windows_left_grow_side_by_side(workload_of):
    assert loads(workload_of([10, 3], [4, 2]), "window:11") == [13, 15, 11, 11]


def test_capacity_reserves_the_largest_load_under_the_drift(workload_of):
    workload = workload_of([10, 10], [4, 4])
    assert len(loads(workload, "0", capacity=20)) == 4
    assert len(loads(workload, "1", capacity=20)) == 8
    with pytest.raises(UsageError, match="expected at least 20"):
        loads(workload, "2.5", capacity=19)


def test_largest_load_is_rounded_up():
    assert Drift(0.3).largest_load(np.array([10]), np.array([4])).tolist() == [12]


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "window:0", "window:", "window:2.5", "fast", ""])
def test_a_drift_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="is no growth of load, expected a number of at least 0, or window:W"):
        parse_drift(text)


@pytest.mark.parametrize("text", ["1", "0", "2.5", "window:4096"])
def test_a_drift_reads_back_as_it_is_shown(text):
    assert str(parse_drift(text)) == text

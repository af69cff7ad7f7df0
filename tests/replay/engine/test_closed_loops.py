"""Closed loops: requests join as others end."""

from __future__ import annotations

import numpy as np
import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import headroom_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions

MODEL = StepTimeModel("test", shared_s=0.01, per_token_s=1e-6, per_request_s=1e-4)


@pytest.mark.parametrize("spec", ["jsq", "fcfs", "waterline", "round-robin"])
@pytest.mark.parametrize("in_flight", [1, 7, 500])
def test_so_many_requests_are_in_flight_until_the_last_has_joined(spec, in_flight, workload_of):
    outputs = np.random.default_rng(2).integers(1, 30, 200)
    workload = workload_of(np.full(200, 50), outputs)
    cluster, conditions = Cluster(4, 3, MODEL), Conditions(f"closed:{in_flight}")
    found = replay(workload, cluster, parse_policy(spec), conditions)
    requests = found.trace.requests
    joined, left = requests["arrival_ms"].to_numpy(), requests["finish_ms"].to_numpy()
    assert (np.diff(joined) >= 0).all(), "in file order"
    assert (joined[:in_flight] == 0).all()
    assert set(joined[in_flight:]) <= set(left), "each of the others joins when one ends"
    for start_ms in found.start_ms[found.start_ms <= joined[-1]]:
        assert ((joined <= start_ms) & (left > start_ms)).sum() == min(in_flight, 200 - (left <= start_ms).sum())
    bound = headroom_of(Windowed.of(found, "all"), workload, cluster, conditions)["makespan_bound_s"].value
    assert bound <= left.max() / 1e3 + 1e-9
    if in_flight == 1:
        assert bound == pytest.approx(left.max() / 1e3), "one request after the other takes as long as the bound says"


def test_one_request_in_flight_never_waits(workload_of):
    workload = workload_of([10, 20, 30], [3, 1, 2])
    found = replay(workload, Cluster(2, 1, MODEL), parse_policy("jsq"), Conditions("closed:1"))
    assert found.waited_steps.tolist() == [0, 0, 0]
    assert found.admitted_step.tolist() == [0, 3, 4]

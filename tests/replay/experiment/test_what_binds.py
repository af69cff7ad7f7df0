"""What keeps the ranks from being full: slots, KV memory, arrivals or the length of the trace, and what is advised."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import lbal
from lbal.analyzers.barrier.bounds import KvRoom, RequestLoads, least_time_ms
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import headroom_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions

STEADY = StepTimeModel("test", shared_s=0.02, per_token_s=1e-12, per_request_s=1e-9)


def trace_of(tmp_path, count, gap_ms, prompt, output):
    lines = [{"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 64}]
    for number in range(count):
        lines.append(
            {"request_id": number, "arrival_ms": gap_ms * number, "prompt_tokens": prompt, "output_tokens": output}
        )
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lbal.read_trace(path)


def replayed(trace, **options):
    return lbal.replay(trace, policies=["jsq"], step_model=STEADY, **options)


def test_kv_that_holds_two_requests_a_rank_bounds_the_makespan_and_is_what_binds(tmp_path):
    # 40 requests of 100 steps, two at a time on each of 2 ranks: 1,000 steps of 20 ms are the least.
    result = replayed(trace_of(tmp_path, 40, 100, 10_000, 100), kv_capacity=25_000)
    run = result.runs[0]
    assert run.headroom["makespan_bound_s"].value == pytest.approx(20.0, rel=1e-5)
    assert run.metrics["makespan_s"].value == pytest.approx(20.3, rel=1e-3)
    assert run.metrics["kv_use"].value == pytest.approx(0.7920788, rel=1e-4)
    assert run.metrics["slot_use"].value == pytest.approx(0.0307882, rel=1e-4)
    assert result.notes == [
        "KV memory binds, not slots: requests hold 79.2% of the KV tokens on average and 3.08% of the slots (jsq)"
    ]


def test_kv_use_is_told_only_where_a_capacity_is_given(tmp_path):
    trace = trace_of(tmp_path, 10, 100, 1000, 20)
    assert "kv_use" not in replayed(trace).runs[0].metrics
    assert "kv_use" in replayed(trace, kv_capacity=10_000).runs[0].metrics


def test_few_requests_are_said_to_be_few_and_no_rate_is_advised(tmp_path):
    (note,) = replayed(trace_of(tmp_path, 6, 50, 100, 200)).notes
    assert note == "6 requests cannot fill 128 slots at any rate: at most 4.69% are taken on average"


@pytest.mark.parametrize(("count", "gap_ms", "output"), [(600, 400, 100), (2000, 30, 40), (300, 1000, 400)])
def test_the_advice_is_gone_once_it_is_followed(tmp_path, count, gap_ms, output):
    trace = trace_of(tmp_path, count, gap_ms, 500, output)
    (note,) = replayed(trace).notes
    scale = float(re.search(r"--rate-scale (\S+)", note)[1])
    assert replayed(trace, rate_scale=scale).notes == []


@pytest.mark.parametrize("policy", ["jsq", "round-robin", "lpt", "waterline"])
@pytest.mark.parametrize("arrivals", ["trace", "backlog"])
def test_no_replay_beats_the_bound_under_a_capacity(workload_of, policy, arrivals):
    rng = np.random.default_rng(5)
    prompts, outputs = rng.integers(1, 900, 60), rng.integers(1, 40, 60)
    times = np.sort(rng.uniform(0, 2_000, 60)) if arrivals == "trace" else None
    workload = workload_of(prompts, outputs, times)
    cluster = Cluster(3, 8, STEADY, kv_capacity=1_500)
    conditions = Conditions(arrivals)
    found = Windowed.of(replay(workload, cluster, parse_policy(policy), conditions), "all")
    bounds = headroom_of(found, workload, cluster, conditions)
    free = headroom_of(found, workload, Cluster(3, 8, STEADY), conditions)
    assert 0 < bounds["makespan_bound_fraction"].value <= 1
    assert bounds["makespan_bound_s"].value >= free["makespan_bound_s"].value


def test_the_bound_of_requests_of_different_needs_is_that_of_their_area():
    # Needs of 2 and 6 tokens over 10 steps each on one rank of 8: the two fit together, three of 6 need 30 steps.
    loads = RequestLoads(np.array([10, 10, 10]), np.array([6, 6, 6]), np.array([10, 10, 10]), 0.0)
    room = KvRoom(np.array([6, 6, 6]), 8)
    assert least_time_ms(loads, STEADY, 1, 64, room=room) == pytest.approx(30 * 20, rel=1e-6)
    mixed = KvRoom(np.array([2, 6, 6]), 8)
    assert least_time_ms(loads, STEADY, 1, 64, room=mixed) == pytest.approx(np.ceil(140 / 8) * 20, rel=1e-6)

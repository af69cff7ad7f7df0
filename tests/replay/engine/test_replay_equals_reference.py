"""The compiled loop gives, to the bit, what the plain reference gives; and what no replay may break."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from arrival_cases import ARRIVALS, waits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference_engine import ReferenceEngine
from token_gap_checks import assert_gaps_between_tokens

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import POLICIES, Selector, parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload

# The expected loads of `bf-io` with `survival` are sums of fractions, which depend on the order of the active requests
# by an ulp: enough to tell placements of equal J apart. With these parameters all its sums are exact.
SPECS = [
    *(name for name in POLICIES.names() if name != "bf-io"),
    "bf-io:horizon=0",
    "bf-io:predictor=none,discount=0.5,load=kv,slack=2,worst_wait=0",
    "bf-io:horizon=4,predictor=oracle,discount=0.5,worst_wait=2",
    "round-robin:restart=true",
    "power-of-two:signal=kv",
    "vllm:variant=legacy",
    "vllm:clients=3,stale=25",
    "vllm:lag=11,stale=20,variant=legacy,clients=2",
    "vllm:lag=35,stale=1,variant=legacy-rotating",
    "vllm:lag=80,stale=30",
    "vllm:stale=0",
    "sglang-total-requests:stale=3",
    "sglang-total-requests:stale=0",
    "sglang-total-tokens:stale=2",
    "kv-aware:stale=30",
    "prompts-times-requests:stale=30",
    "dynamo-kv:block=8,weight=2.5,stale=15",
    "llm-d:stale=0,capacity=500",
    "br-0:candidates=2",
    "br-h:horizon=5,predictor=oracle",
    "br-h:horizon=9,predictor=noisy,gamma=1,alpha=2,beta=1.5",
    "br-h:horizon=7,predictor=mean,candidates=3",
    "br-h:horizon=3,predictor=none",
    "waterline:load=kv,worst_wait=0",
    "waterline:horizon=3,predictor=oracle,usual_wait=1,worst_wait=2",
]
DRIFTS = [Drift(), Drift(), Drift(0.0), Drift(2.5), Drift(window=20.0)]
MODEL = StepTimeModel("test", shared_s=0.01, per_token_s=1e-6, per_request_s=1e-4, per_mean_request_s=2e-5)


@st.composite
def situations(draw):
    count = draw(st.integers(1, 40))
    ranks = draw(st.integers(1, 5))
    prompts = draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
    outputs = draw(st.lists(st.integers(1, 12), min_size=count, max_size=count))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, 10.1, 37.0, 500.0]), min_size=count, max_size=count))
    workload = Workload(
        source="test",
        request_id=pl.Series("request_id", np.arange(count)),
        prompt_tokens=np.array(prompts, np.int64),
        output_tokens=np.array(outputs, np.int64),
        arrival_ms=np.cumsum(gaps),
        recorded_rank=np.array([index * 7 % ranks for index in range(count)], np.int64),
        waits=draw(waits(count)),
    )
    capacity = draw(st.sampled_from([None, 80, 130, 400]))
    speeds = draw(st.sampled_from([{}, {}, {0: 0.8}, {ranks - 1: 1.3}]))
    cluster = Cluster(ranks, draw(st.integers(1, 5)), MODEL.with_speeds(speeds), capacity)
    conditions = Conditions(
        arrivals=draw(st.sampled_from(ARRIVALS)),
        rate_scale=draw(st.sampled_from([0.5, 1.0, 20.0])),
        pool=draw(st.sampled_from([None, 1, 3, 17])),
        binding=draw(st.sampled_from([None, "pool", "immediate"])),
        seed=draw(st.integers(0, 3)),
        drift=draw(st.sampled_from(DRIFTS)),
    )
    return workload, cluster, conditions


def supported(policy, conditions: Conditions) -> Conditions:
    if conditions.binding in policy.bindings:
        return conditions
    return dataclasses.replace(conditions, binding=None)


@pytest.mark.parametrize("spec", SPECS)
@given(situation=situations())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_compiled_equals_reference(spec, situation):
    workload, cluster, conditions = situation
    policy = parse_policy(spec)
    conditions = supported(policy, conditions)
    expected = ReferenceEngine(workload, cluster, policy, conditions).run()
    found = replay(workload, cluster, policy, conditions)
    steps = found.trace.step_arrays()
    np.testing.assert_array_equal(steps.kv_tokens, expected.kv_tokens)
    np.testing.assert_array_equal(steps.num_running, expected.num_running)
    np.testing.assert_array_equal(steps.step_ms, expected.step_ms)
    np.testing.assert_array_equal(steps.start_ms, expected.start_ms)
    if found.binding == "immediate":
        np.testing.assert_array_equal(steps.num_waiting, expected.num_waiting)
    requests = found.trace.requests
    for column in ("rank", "arrival_ms", "admitted_ms", "finish_ms"):
        assert requests[column].to_list() == [getattr(request, column) for request in expected.requests]
    assert_gaps_between_tokens(found, [request.token_ms for request in expected.requests])
    assert found.admitted_step.tolist() == [request.admitted_step for request in expected.requests]
    assert found.waited_steps.tolist() == [r.admitted_step - r.arrived_step for r in expected.requests]


@pytest.mark.parametrize("spec", SPECS)
@given(situation=situations())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_policy_breaks_what_holds_for_all(spec, situation):
    workload, cluster, conditions = situation
    policy = parse_policy(spec)
    found = replay(workload, cluster, policy, supported(policy, conditions))
    steps, requests = found.trace.step_arrays(), found.trace.requests
    assert steps.num_running.sum() == workload.output_tokens.sum(), "every step gives every active request one token"
    assert steps.num_running.max() <= cluster.max_num_seqs
    if cluster.kv_capacity is not None:
        assert steps.kv_tokens.max() <= cluster.kv_capacity
    assert requests.height == len(workload)
    assert (requests["arrival_ms"] <= requests["admitted_ms"]).all()
    assert (requests["admitted_ms"] < requests["first_token_ms"]).all()
    assert (requests["first_token_ms"] <= requests["finish_ms"]).all()
    if conditions.drift.window == np.inf:
        o, s = workload.output_tokens, workload.prompt_tokens
        loads = (o * s).sum() + conditions.drift.per_step * (o * (o - 1) / 2).sum()
        assert steps.kv_tokens.sum() == loads, "s prompt and o output tokens load o*s + drift*o*(o-1)/2 in all"
    assert (np.diff(steps.start_ms) >= steps.step_ms[:-1] * (1 - 1e-12)).all(), "steps do not overlap"
    joining = np.argsort(requests["arrival_ms"].to_numpy(), kind="stable")
    admitted_step, served_by = found.admitted_step[joining], requests["rank"].to_numpy()[joining]
    if found.binding == "pool" and not isinstance(policy, Selector):
        assert (np.diff(admitted_step) >= 0).all(), "nobody is overtaken"
    if found.binding == "immediate":
        for rank in range(cluster.dp_size):
            assert (np.diff(admitted_step[served_by == rank]) >= 0).all(), "nobody is overtaken in a rank's own queue"


@given(situation=situations(), size=st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_accounts_do_not_depend_on_how_the_run_is_cut_into_pieces(situation, size):
    workload, cluster, conditions = situation
    policy = parse_policy("jsq")
    import lbal.replay.engine.engine as engine

    whole = replay(workload, cluster, policy, conditions)
    rows = engine._rows
    engine._rows = lambda dp_size: type(rows(dp_size))(*[array[:size].copy() for array in rows(dp_size)])
    try:
        pieces = replay(workload, cluster, policy, conditions)
    finally:
        engine._rows = rows
    assert whole.accounts.keys() == pieces.accounts.keys()
    for phase, accounts in whole.accounts.items():
        for name, value in vars(accounts).items():
            np.testing.assert_allclose(value, getattr(pieces.accounts[phase], name), rtol=1e-12, atol=1e-12)
    assert whole.trace.steps.equals(pieces.trace.steps)


@pytest.mark.parametrize("spec", ["fcfs", "round-robin", "jsq", "jsq-kv", "align-max", "lpt", "vllm", "trtllm-adp"])
@given(situation=situations(), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_names_of_requests_change_nothing(spec, situation, seed):
    workload, cluster, conditions = situation
    policy = parse_policy(spec)
    names = np.random.default_rng(seed).permutation(len(workload)) + 1000
    renamed = dataclasses.replace(workload, request_id=pl.Series("request_id", names))
    plain, other = (replay(each, cluster, policy, supported(policy, conditions)).trace for each in (workload, renamed))
    assert plain.steps.equals(other.steps)
    assert plain.requests.drop("request_id").equals(other.requests.drop("request_id"))
    assert other.requests["request_id"].to_list() == names.tolist()


@pytest.mark.parametrize("spec", ["fcfs", "round-robin", "jsq", "jsq-kv", "lpt"])
@given(situation=situations())
@settings(max_examples=8, deadline=None)  # each compiles a call of the rule
def test_plain_python_rules_place_as_compiled_ones_do(spec, situation):
    workload, cluster, conditions = situation
    policy = parse_policy(spec)
    called_back = type("CalledBack", (type(policy),), {"compiled": False})(**policy.parameters())
    plain, other = (
        replay(workload, cluster, each, supported(each, conditions)).trace for each in (policy, called_back)
    )
    assert plain.steps.equals(other.steps)
    assert plain.requests.equals(other.requests)

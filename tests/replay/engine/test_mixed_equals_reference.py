"""The compiled loop with prefill gives, to the bit, what the plain reference gives; and what no rule may break."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from arrival_cases import ARRIVALS, waits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mixed_reference import MixedReferenceEngine
from token_gap_checks import assert_gaps_between_tokens

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import Selector, parse_policy
from lbal.replay.prefill.rule import PREFILLS, parse_prefill
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload

RULES = [
    *PREFILLS.names(),
    "vllm:budget=9",
    "vllm:budget=9,kv=reserve",
    "vllm:budget=30,watermark=0.2",
    "sglang:chunk=60,kv=reserve",
    "vllm:budget=17,interval=2",
    "vllm:budget=30,interval=5",
    "sglang:chunk=40",
    "sglang:chunk=70,delayer=true,max_delay=4",
    "sglang:chunk=100,delayer=true,watermark=0.4",
    "sglang:chunk=60,interval=3",
    "sglang:chunk=60,mixed=true",
    "trtllm:max_tokens=60",
    "trtllm:max_tokens=60,balance=true,timeout=3,batch=2",
    "trtllm:max_tokens=12,chunked=true,balance=true,timeout=5,batch=0",
    "atom:budget=20",
    "atom:budget=20,ttft=6,partial=2,fill=0.9,interval=2",
    "atom:budget=33,coalesce=false",
]
POLICIES = [
    "round-robin",
    "jsq",
    "jsq-kv",
    "vllm:stale=25",
    "vllm:stale=30,lag=12",
    "sglang-total-tokens:stale=2",
    "bf-io:horizon=4,predictor=oracle,discount=0.5",
    "br-h:horizon=5,predictor=oracle",
    "waterline",
    "fast-phi",
]
DRIFTS = [Drift(), Drift(), Drift(0.0), Drift(2.5), Drift(window=20.0)]
MODEL = StepTimeModel(
    "test",
    shared_s=0.01,
    per_token_s=1e-6,
    per_request_s=1e-4,
    per_mean_request_s=2e-5,
    per_prefill_token_s=3e-4,
    per_prefill_pair_s=1e-7,
    graph_loss_s=0.002,
)
SLOTS = 5


@st.composite
def situations(draw):
    count = draw(st.integers(1, 40))
    ranks = draw(st.integers(1, 5))
    prompts = draw(st.lists(st.integers(1, 50), min_size=count, max_size=count))
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
    speeds = draw(st.sampled_from([{}, {}, {0: 0.8}, {ranks - 1: 1.3}]))
    cluster = Cluster(
        ranks,
        draw(st.integers(1, SLOTS)),
        MODEL.with_speeds(speeds),
        draw(st.sampled_from([None, 100, 130, 400])),
        padding=draw(st.sampled_from([None, False])),
    )
    conditions = Conditions(
        arrivals=draw(st.sampled_from(ARRIVALS)),
        rate_scale=draw(st.sampled_from([0.5, 1.0, 20.0])),
        pool=draw(st.sampled_from([None, 1, 3, 17])),
        binding=draw(st.sampled_from([None, "pool", "immediate"])),
        seed=draw(st.integers(0, 3)),
        drift=draw(st.sampled_from(DRIFTS)),
    )
    return workload, cluster, conditions


def asked(situation, rule, spec):
    workload, cluster, conditions = situation
    policy = parse_policy(spec)
    if conditions.binding not in policy.bindings:
        conditions = dataclasses.replace(conditions, binding=None)
    return workload, dataclasses.replace(cluster, prefill=parse_prefill(rule)), policy, conditions


@pytest.mark.parametrize("rule", RULES)
@given(situation=situations(), spec=st.sampled_from(POLICIES))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_compiled_equals_reference(rule, situation, spec):
    workload, cluster, policy, conditions = asked(situation, rule, spec)
    engine = MixedReferenceEngine(workload, cluster, policy, conditions)
    expected = engine.run()
    found = replay(workload, cluster, policy, conditions)
    steps = found.trace.step_arrays()
    np.testing.assert_array_equal(steps.kv_tokens, expected.kv_tokens)
    np.testing.assert_array_equal(steps.num_running, expected.num_running)
    np.testing.assert_array_equal(steps.prefill_tokens, engine.prefill_tokens)
    np.testing.assert_array_equal(steps.prefill_pairs, engine.prefill_pairs)
    np.testing.assert_array_equal(steps.padded_running, engine.padded_running)
    np.testing.assert_array_equal(steps.step_ms, expected.step_ms)
    np.testing.assert_array_equal(steps.start_ms, expected.start_ms)
    if found.binding == "immediate":
        np.testing.assert_array_equal(steps.num_waiting, expected.num_waiting)
    requests = found.trace.requests
    assert found.preempted == (engine.preemptions, engine.recomputed)
    assert requests["admitted_ms"].to_list() == [engine.first_chunk[index] for index in range(len(workload))]
    for column in ("rank", "arrival_ms", "finish_ms"):
        assert requests[column].to_list() == [getattr(request, column) for request in expected.requests]
    assert_gaps_between_tokens(found, [request.token_ms for request in expected.requests])
    assert requests["first_token_ms"].to_list() == [prompt.first_token_ms for prompt in engine.prompts]


@pytest.mark.parametrize("rule", RULES)
@given(situation=situations(), spec=st.sampled_from(POLICIES))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_rule_breaks_what_holds_for_all(rule, situation, spec):
    workload, cluster, policy, conditions = asked(situation, rule, spec)
    found = replay(workload, cluster, policy, conditions)
    steps, requests = found.trace.step_arrays(), found.trace.requests
    again = found.preempted.recomputed_tokens
    assert steps.prefill_tokens.sum() == workload.prompt_tokens.sum() + again, "but for that, a prompt is computed once"
    s = workload.prompt_tokens.astype(float)
    if found.preempted.preemptions == 0:
        assert steps.prefill_pairs.sum() == (s * s / 2).sum(), "in chunks or not, a prompt has s^2/2 pairs"
    decodes = (workload.output_tokens - 1).sum() - found.preempted.preemptions
    assert decodes <= steps.num_running.sum() <= decodes + found.preempted.preemptions, (
        "the prompt gives the first token, a decode each of the others"
    )
    rule_of = cluster.prefill
    beside = steps.num_running if rule_of.mixes else 0
    assert (steps.prefill_tokens + beside * (steps.prefill_tokens > 0)).max() <= rule_of.rank_budget(cluster.dp_size)
    if not rule_of.mixes:
        assert not ((steps.prefill_tokens > 0) & (steps.num_running > 0)).any(), "decodes stall beside prompts"
    assert steps.num_running.max() <= cluster.max_num_seqs
    if cluster.kv_capacity is not None:
        assert steps.kv_tokens.max() <= cluster.kv_capacity
    assert (requests["arrival_ms"] <= requests["admitted_ms"]).all()
    assert (requests["admitted_ms"] < requests["first_token_ms"]).all()
    assert (requests["first_token_ms"] <= requests["finish_ms"]).all()
    assert (np.diff(steps.start_ms) >= steps.step_ms[:-1] * (1 - 1e-12)).all(), "steps do not overlap"
    busy = steps.num_running.sum(axis=1) + steps.prefill_tokens.sum(axis=1)
    assert (busy > 0).all(), "nothing is held back where nobody decodes"
    if found.binding == "pool" and not isinstance(policy, Selector) and cluster.dp_size == 1:
        joining = requests.sort("arrival_ms", maintain_order=True)
        assert (np.diff(joining["first_token_ms"]) >= 0).all(), "prompts are computed in order"

"""Routers that engines ship: their rules by worked examples, and what late signals do to them."""

from __future__ import annotations

import numpy as np
import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import POLICIES, parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=0.0)
"""Every step takes 10 ms."""


def ranks_of(workload, spec, *, ranks=2, slots=64, capacity=None, binding=None):
    conditions = Conditions(binding=binding)
    replayed = replay(workload, Cluster(ranks, slots, MODEL, capacity), parse_policy(spec), conditions)
    return replayed.trace.requests["rank"].to_list()


def test_shipped_routers_bind_on_arrival():
    for name in ("vllm", "sglang-total-requests", "sglang-total-tokens", "kv-aware", "dynamo-kv", "llm-d"):
        assert POLICIES.get(name).bindings[0] == "immediate"


def test_sglang_counts_what_it_sent_since_the_snapshot(workload_of):
    # The snapshot at the start is empty and holds for 15 steps: dispatches alone spread the requests.
    workload = workload_of([100, 10, 10, 10], [50] * 4, arrivals=[0, 0, 0, 0])
    assert ranks_of(workload, "sglang-total-requests") == [0, 1, 0, 1]
    assert ranks_of(workload, "sglang-total-tokens") == [0, 1, 1, 1]


def test_sglang_does_not_see_an_end_before_the_next_snapshot(workload_of):
    # Request 0 (on rank 0) ends after 2 steps; request 1 goes to rank 1 and stays. At 155 ms both ranks count one
    # request in the snapshot of step 15 ... unless it is renewed.
    workload = workload_of([10] * 3, [2, 90, 5], arrivals=[0, 0, 55])
    assert ranks_of(workload, "sglang-total-requests:stale=0") == [0, 1, 0]
    late = workload_of([10] * 4, [2, 90, 5, 5], arrivals=[0, 0, 55, 56])
    assert ranks_of(late, "sglang-total-requests:stale=0") == [0, 1, 0, 0]
    assert ranks_of(late, "sglang-total-requests") == [0, 1, 0, 1], "it still takes request 0 for running"


def test_sglang_total_tokens_breaks_ties_by_requests(workload_of):
    workload = workload_of([10, 4, 6, 1], [90] * 4, arrivals=[0, 0, 0, 0])
    # rank 0: 10 tokens in one request; rank 1: 4 + 6 in two: equal tokens, so the fourth goes where fewer requests are.
    assert ranks_of(workload, "sglang-total-tokens") == [0, 1, 1, 0]


def test_vllm_starts_its_scan_one_rank_further_each_time(workload_of):
    workload = workload_of([10] * 4, [1] * 4, arrivals=[0, 1000, 2000, 3000])
    assert ranks_of(workload, "vllm", ranks=3) == [0, 1, 2, 0], "all ranks are equal each time"


def test_vllm_knows_what_it_has_in_flight_although_its_counts_are_late(workload_of):
    # 1 goes to rank 1 and stays; 0 ends at once. Counts are 100 ms old, but the request in flight is its own.
    workload = workload_of([10] * 3, [1, 90, 5], arrivals=[0, 0, 30])
    assert ranks_of(workload, "vllm:stale=0") == [0, 1, 0]


def most_of_a_wave(workload_of, spec, *, step_ms):
    """Of a wave of 10 requests, one every 45 ms, those on the rank of two that got more."""
    workload = workload_of([1000] * 10, [60] * 10, arrivals=[45 * i for i in range(10)])
    model = StepTimeModel("test", shared_s=step_ms / 1e3, per_token_s=2e-8, per_request_s=2e-4)
    replayed = replay(workload, Cluster(2, 64, model), parse_policy(spec), Conditions())
    return replayed.trace.requests["rank"].value_counts()["count"].max()


@pytest.mark.parametrize(("variant", "splits"), [("legacy", {5, 6}), ("legacy-rotating", {5}), ("current", {5})])
@pytest.mark.parametrize("step_ms", [10, 20, 27])
def test_vllm_with_a_fixed_scan_splits_some_waves_6_to_4_where_reports_lag(workload_of, variant, splits, step_ms):
    assert most_of_a_wave(workload_of, f"vllm:variant={variant}", step_ms=step_ms) == 5
    lagging = [f"vllm:variant={variant},lag={lag}" for lag in range(10, 101, 10)]
    assert {most_of_a_wave(workload_of, spec, step_ms=step_ms) for spec in lagging} == splits


def test_vllm_does_not_see_in_a_report_what_it_sent_within_the_lag(workload_of):
    # The report at 100 ms has what was sent by 50 ms. Until then every client counts what it sent by itself.
    workload = workload_of([10] * 4, [90] * 4, arrivals=[0, 60, 95, 105])
    assert ranks_of(workload, "vllm:variant=legacy") == [0, 1, 0, 1]
    assert ranks_of(workload, "vllm:variant=legacy,lag=20") == [0, 1, 0, 0], "the report lacks what was sent at 95 ms"


def test_vllm_legacy_scans_from_the_rank_of_the_client(workload_of):
    # Requests of 1 token are gone before the next comes: all ranks are equal each time, and clients take turns.
    workload = workload_of([10] * 4, [1] * 4, arrivals=[0, 1000, 2000, 3000])
    assert ranks_of(workload, "vllm:variant=legacy", ranks=4) == [0, 0, 0, 0]
    assert ranks_of(workload, "vllm:variant=legacy,clients=2", ranks=4) == [0, 2, 0, 2]
    assert ranks_of(workload, "vllm:variant=legacy-rotating", ranks=4) == [0, 1, 2, 3]


def test_vllm_legacy_weighs_what_waits_four_times(workload_of):
    # One slot each. Live counts: rank 0 runs one; the second goes to rank 1; then 4*waiting + running decides.
    workload = workload_of([10] * 4, [50] * 4, arrivals=[0, 15, 25, 35])
    assert ranks_of(workload, "vllm:variant=legacy,stale=0", slots=1) in ([0, 1, 0, 1], [0, 1, 1, 0])


def test_vllm_shuns_a_full_cache_only_where_requests_wait(workload_of):
    # Rank 0: one large request fills 90% of the cache, and one waits. Rank 1: three small ones run, one waits.
    prompts, outputs = [880, 10, 10, 880, 10], [60] * 5
    workload = workload_of(prompts, outputs, arrivals=[0, 1, 2, 20, 40])
    with_room = ranks_of(workload, "vllm:stale=0", capacity=1_000_000)
    full = ranks_of(workload, "vllm:stale=0", capacity=1_000)
    assert len(full) == len(with_room) == 5


def test_kv_aware_without_prefix_hits_joins_the_shortest_queue(workload_of):
    workload = workload_of([100, 10, 10, 10, 10], [90] * 5, arrivals=[0] * 5)
    assert ranks_of(workload, "kv-aware") == ranks_of(workload, "jsq", binding="immediate") == [0, 1, 0, 1, 0]


def test_prompts_times_requests_multiplies_both(workload_of):
    # Rank 0 (100 prompt tokens, 1 request) against rank 1 (10, 1): (10+100)*2 > (10+10)*2, and so on.
    workload = workload_of([100, 10, 10, 10, 10], [90] * 5, arrivals=[0] * 5)
    assert ranks_of(workload, "prompts-times-requests") == [0, 1, 1, 1, 1]
    # (10+100)*2 = 220 against (10+40)*5 = 250: one more goes to rank 0.
    workload = workload_of([100, 10, 10, 10, 10, 10], [90] * 6, arrivals=[0] * 6)
    assert ranks_of(workload, "prompts-times-requests") == [0, 1, 1, 1, 1, 0]


def test_dynamo_counts_blocks_of_prompts_with_the_new_request_and_requests_only_where_they_weigh(workload_of):
    workload = workload_of([32, 1, 1, 1, 1], [90] * 5, arrivals=[0] * 5)
    # With the new request rank 0 has 3 blocks and rank 1 has 1, however many requests of one token it holds.
    assert ranks_of(workload, "dynamo-kv") == [0, 1, 1, 1, 1]
    # Rank 0 costs 3 blocks + 1; rank 1 costs 1 + 0, 1 + 1, 1 + 2, then 1 + 3: equal, so the lower rank takes the last.
    assert ranks_of(workload, "dynamo-kv:weight=1") == [0, 1, 1, 1, 0]


def test_dynamo_counts_outputs_only_where_it_tracks_them(workload_of):
    # When the third arrives, request 0 has generated 100 tokens (7 blocks) on its prompt of 1; request 1 has 16 and 10.
    late = workload_of([1, 16, 1], [200, 200, 5], arrivals=[0, 900, 1000])
    assert ranks_of(late, "dynamo-kv") == [0, 1, 0]
    assert ranks_of(late, "dynamo-kv:track_output_blocks=true") == [0, 1, 1]


def test_llm_d_prefers_short_queues_and_free_cache(workload_of):
    workload = workload_of([500, 10, 10], [90] * 3, arrivals=[0, 100, 200])
    first, *rest = ranks_of(workload, "llm-d:stale=0,capacity=1000")
    assert rest == [1 - first] * 2, "the other rank has more free KV"
    assert ranks_of(workload, "llm-d:stale=0", capacity=1000) == [first, *rest]


def test_llm_d_weighs_kv_use_as_it_is_and_queues_by_their_range(workload_of):
    # Rank 0 holds 100 of 100,000 tokens more, next to nothing of its KV; one request waits on rank 1 alone.
    workload = workload_of([100] + [10] * 4, [90] * 5, arrivals=[0, 0, 0, 0, 500])
    found = ranks_of(workload, "llm-d:stale=0,capacity=100000", slots=1)
    waiting = np.bincount(found[:4], minlength=2)
    assert found[4] == int(np.argmin(waiting)) or waiting[0] == waiting[1]


def test_llm_d_sends_a_burst_to_the_rank_that_was_best_at_the_last_scrape(workload_of):
    workload = workload_of([500] + [10] * 8, [90] * 9, arrivals=[0] + [100] * 8)
    first, *burst = ranks_of(workload, "llm-d:stale=20,capacity=1000")
    assert burst == [1 - first] * 8


def test_llm_d_breaks_ties_at_random(workload_of):
    workload = workload_of([10] * 200, [1] * 200, arrivals=[100 * i for i in range(200)])
    assert np.bincount(ranks_of(workload, "llm-d", ranks=4), minlength=4).min() > 25


def test_trtllm_evens_out_requests_and_ignores_what_was_generated(workload_of):
    # Four new requests for two ranks: at most two each; longest first to the fewest prompt tokens.
    workload = workload_of([10, 40, 30, 20], [9] * 4, arrivals=[0] * 4)
    assert ranks_of(workload, "trtllm-adp") == [0, 0, 1, 1]
    # Rank 1 holds 10 prompt tokens and has generated 50, rank 0 has 30: the next goes to rank 1 all the same.
    workload = workload_of([10, 30, 5], [90, 90, 9], arrivals=[0, 0, 500])
    assert ranks_of(workload, "trtllm-adp") == [1, 0, 1]


@pytest.mark.parametrize(
    "spec",
    [
        "vllm:clients=0",
        "vllm:stale=-1",
        "vllm:lag=-1",
        "vllm:lag=5,stale=0",
        "sglang-total-requests:stale=-1",
        "dynamo-kv:block=0",
    ],
)
def test_parameters_that_make_no_sense_are_refused(spec):
    with pytest.raises(UsageError, match="expected at least"):
        parse_policy(spec)


@pytest.mark.parametrize(
    ("spec", "staleness"),
    [
        ("vllm", (100.0, 0)),
        ("sglang-total-requests", (20.0, 15)),
        ("llm-d", (50.0, 0)),
        ("vllm:stale=0", (0.0, 0)),
        ("jsq", (0.0, 0)),
    ],
)
def test_every_policy_says_how_late_its_signals_are(spec, staleness):
    assert parse_policy(spec).staleness == staleness

"""BalanceRoute and fast-phi: worked examples, the formulas computed naively, and what they must not know."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import replay
from lbal.replay.policies.fast_phi import FastPhi
from lbal.replay.policy.policy import Selector, parse_policy
from lbal.replay.policy.view import STEP, View
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload
from lbal.replay.solver.balance_route import MOST_NODES, closest_sets, target_tokens, value

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=0.0)
"""Every step takes 10 ms."""


def ranks_of(workload, spec, *, ranks=2, slots=4, capacity=None, conditions=None):
    policy = parse_policy(spec) if isinstance(spec, str) else spec
    replayed = replay(workload, Cluster(ranks, slots, MODEL, capacity), policy, conditions or Conditions())
    return replayed.trace.requests["rank"].to_list(), replayed.admitted_step.tolist()


def test_br_0_while_slots_are_plentiful_the_emptiest_rank_takes_one(workload_of):
    # F(D) = D - 2*max(D - m, 0). Rank 0, m = 0: the smallest, 2. Rank 1, m = 2: F(5) = -1, F(6) = -2, F(9) = -5.
    # Rank 0 has the lower load (2 of 5), m = 3: F(6) = 0, F(9) = -3. Rank 1 takes what is left.
    ranks, _ = ranks_of(workload_of([6, 2, 5, 9], [9] * 4, arrivals=[0] * 4), "br-0")
    assert ranks == [0, 0, 1, 1]


def test_br_0_when_slots_are_scarce_the_least_loaded_rank_takes_the_best_subset(workload_of):
    # 40 goes to rank 0 and 100 to rank 1. When five arrive for 2 + 2 slots, rank 0 is 60 below: 35 + 25 fill that.
    # Rank 1 is then highest whatever it takes: it is forced to take the smallest, 10, and then 61.
    prompts, arrivals = [40, 100, 70, 35, 25, 10, 61], [0, 0, 55, 55, 55, 55, 55]
    ranks, admitted = ranks_of(workload_of(prompts, [50] * 7, arrivals), "br-0", slots=3)
    assert ranks[:2] == [0, 1]
    assert ranks[3:] == [0, 0, 1, 1]
    assert admitted == [0, 0, 50, 6, 6, 6, 6], "70 waits until the first two end"


def test_br_0_considers_no_more_than_its_candidates(workload_of):
    # As above, but only 70 and 35 are looked at first: F(35) = 35, F(70) = 60 - 10 = 50, so rank 0 takes 70.
    prompts, arrivals = [40, 100, 70, 35, 25, 10, 61], [0, 0, 55, 55, 55, 55, 55]
    ranks, admitted = ranks_of(workload_of(prompts, [50] * 7, arrivals), "br-0:candidates=2", slots=3)
    assert ranks[2] == 0
    assert admitted[2] == 6


def test_br_0_looks_beyond_its_candidates_where_they_do_not_fit(workload_of):
    workload = workload_of([10, 90, 90, 5], [20, 20, 20, 20], arrivals=[0, 55, 55, 55])
    _, admitted = ranks_of(workload, "br-0:candidates=1", ranks=1, slots=2, capacity=110)
    assert admitted == [0, 26, 46, 6], "the last fits beside the first, those before it do not"


def test_br_h_leaves_room_on_a_rank_whose_load_stays(workload_of):
    # Rank 0 (30) ends after 2 steps, rank 1 (50) stays. Three steps ahead rank 0 is 50 and more below, not 20.
    workload = workload_of([30, 50, 45, 18], [8, 90, 50, 50], arrivals=[0, 0, 55, 55])
    slots = {"ranks": 2, "slots": 2}
    near, _ = ranks_of(workload, "br-0", **slots)
    far, _ = ranks_of(workload, "br-h:predictor=oracle,horizon=9,gamma=1", **slots)
    assert near[:2] == far[:2] == [0, 1]
    assert near[2:] == [1, 0]
    assert far[2:] == [0, 1]


def naive_value(total, margins, numbers):
    discounts = [numbers["gamma"] ** h for h in range(len(margins))]
    overflow = sum(d * max(total - m, 0) for d, m in zip(discounts, margins, strict=True))
    return numbers["alpha"] * sum(discounts) * total - numbers["beta"] * overflow


@dataclass(frozen=True)
class Naive(Selector):
    """BalanceRoute by the formulas: every subset of every candidate."""

    name: ClassVar[str] = "naive"
    looks_at: ClassVar[str] = "all"
    compiled: ClassVar[bool] = False
    learns_lengths: ClassVar[bool] = True
    uses_true_lengths: ClassVar[bool] = True
    numbers_: ClassVar[dict] = {}

    @staticmethod
    def inside(view, request, age):
        """(1 - p)*H + p*mu"""
        numbers = Naive.numbers_
        horizon = numbers["horizon"]
        if numbers["predictor"] == "oracle":
            left = int(view.output_tokens[request]) - age - 1
            return left if left < horizon else horizon
        seen = [0] * (age + horizon + 2)
        for at in range(len(seen)):
            seen[at] = (int(view.survivors[at]) if at < len(view.survivors) else 0) + 1
        ends = {left: (seen[age + left] - seen[age + left + 1]) / seen[age] for left in range(horizon)}
        p = sum(ends.values())
        return (1 - p) * horizon + sum(left * share for left, share in ends.items())

    @staticmethod
    def profile(view, request, age):
        prompt, horizon = int(view.prompt_tokens[request]), Naive.numbers_["horizon"]
        inside = Naive.inside(view, request, age) + 1e-9
        return np.array([(prompt + age + h) * (h <= inside) for h in range(horizon + 1)], np.float64)

    @staticmethod
    def place(view, pool, size, requests, ranks):
        numbers = Naive.numbers_
        loads = np.zeros((view.dp_size, numbers["horizon"] + 1))
        for request in view.active[view.active >= 0]:
            age = int(view.clock[STEP] - view.admitted_step[request])
            loads[view.rank[request]] += Naive.profile(view, request, age)
        waiting, placed = [int(request) for request in pool], []
        free = (view.max_num_seqs - view.num_running).tolist()
        discounts = numbers["gamma"] ** np.arange(numbers["horizon"] + 1)
        while waiting and sum(free):
            plentiful = sum(free) >= len(waiting)
            open_ranks = [rank for rank in range(view.dp_size) if free[rank]]
            load = [round(float(discounts @ row), 6) for row in loads]
            rank = min(open_ranks, key=lambda g: (-free[g], load[g]) if plentiful else (load[g], -free[g]))
            margins = loads.max(axis=0) - loads[rank]
            window = waiting[: numbers["candidates"]]
            sizes = range(1, 2 if plentiful else 1 + min(free[rank], len(window)))
            sets = [chosen for count in sizes for chosen in itertools.combinations(window, count)]

            def worth(chosen, margins=margins):
                total = sum(int(view.prompt_tokens[request]) for request in chosen)
                return (round(naive_value(total, margins, numbers), 6), -total)

            best = max(sets, key=worth)
            if worth(best)[0] <= 0:
                best = max((chosen for chosen in sets if len(chosen) == 1), key=worth)
            for request in best:
                placed.append((request, rank))
                waiting.remove(request)
                free[rank] -= 1
                loads[rank] += Naive.profile(view, request, 0)
        for index, (request, rank) in enumerate(placed):
            requests[index], ranks[index] = request, rank
        return len(placed)


def random_workload(seed, count, largest=1_000_000, longest=25, gap_ms=None):
    random = np.random.default_rng(seed)
    arrivals = None if gap_ms is None else np.floor(np.cumsum(random.exponential(gap_ms, count)))
    prompts, outputs = random.integers(1, largest, count), random.integers(1, longest, count)
    return Workload("test", pl.Series("request_id", np.arange(count)), prompts, outputs, arrivals, None)


@pytest.mark.parametrize(
    "numbers",
    [
        {"horizon": 0, "gamma": 1.0, "alpha": 1.0},
        {"horizon": 6, "gamma": 0.8, "alpha": 1.0, "predictor": "oracle"},
        {"horizon": 4, "gamma": 1.0, "alpha": 1.5, "beta": 2.0, "predictor": "oracle"},
        {"horizon": 9, "gamma": 0.9, "alpha": 1.0, "predictor": "survival"},
    ],
    ids=["br-0", "oracle", "weights", "survival"],
)
@given(seed=st.integers(0, 10**6), ranks=st.integers(2, 4), slots=st.integers(1, 4), gap=st.sampled_from([None, 8, 20]))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_placements_are_those_of_the_formulas_computed_naively(numbers, seed, ranks, slots, gap):
    workload = random_workload(seed, 28, gap_ms=gap)
    Naive.numbers_ = {"beta": float(ranks), "predictor": "oracle", **numbers, "candidates": 5}
    parameters = ",".join(f"{name}={number}" for name, number in numbers.items())
    spec = f"br-h:{parameters},candidates=5" if numbers["horizon"] else "br-0:candidates=5"
    conditions = Conditions("backlog" if gap is None else "trace", pool=8)
    cluster = {"ranks": ranks, "slots": slots, "conditions": conditions}
    assert ranks_of(workload, spec, **cluster) == ranks_of(workload, Naive(), **cluster)


@given(
    seed=st.integers(0, 10**6),
    ranks=st.integers(1, 5),
    slots=st.integers(1, 5),
    gap=st.sampled_from([None, 5, 20]),
    capacity=st.sampled_from([None, 150]),
    predictor=st.sampled_from(["survival", "oracle", "mean", "none", "noisy"]),
)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_br_h_without_a_horizon_is_br_0(seed, ranks, slots, gap, capacity, predictor):
    workload = random_workload(seed, 80, largest=60, gap_ms=gap)
    conditions = Conditions("backlog" if gap is None else "trace")
    cluster = {"ranks": ranks, "slots": slots, "capacity": capacity, "conditions": conditions}
    expected = ranks_of(workload, "br-0", **cluster)
    for beta in ("", f",beta={ranks}"):
        assert ranks_of(workload, f"br-h:horizon=0,alpha=1,predictor={predictor}{beta}", **cluster) == expected


@pytest.mark.parametrize("spec", ["br-0", "br-h", "br-h:horizon=9,predictor=mean", "br-h:predictor=none", "fast-phi"])
@given(seed=st.integers(0, 10**6), now=st.integers(1, 80), gap=st.sampled_from([None, 5]))
@settings(max_examples=25, deadline=None)
def test_what_happens_later_changes_no_placement_before_it(spec, seed, now, gap):
    workload = random_workload(seed, 200, gap_ms=gap)
    conditions = Conditions("backlog" if gap is None else "trace")
    ranks, admitted = ranks_of(workload, spec, conditions=conditions)
    runs_on = np.array(admitted) + workload.output_tokens > now
    others = np.maximum(np.random.default_rng(seed + 1).integers(1, 99, 200), now - np.array(admitted) + 1)
    changed = dataclasses.replace(workload, output_tokens=np.where(runs_on, others, workload.output_tokens))
    other_ranks, other_admitted = ranks_of(changed, spec, conditions=conditions)
    for index, step in enumerate(admitted):
        if step <= now:
            assert (other_ranks[index], other_admitted[index]) == (ranks[index], step)
        else:
            assert other_admitted[index] > now


def view_with(prompts, reserved):
    return View(**dict.fromkeys(View._fields))._replace(
        prompt_tokens=np.array(prompts, np.int64), reserved_tokens=np.array(reserved, np.int64)
    )


@given(
    prompts=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    slots=st.integers(1, 8),
    target=st.integers(0, 150),
    room=st.sampled_from([40.0, 90.0, np.inf]),
)
@settings(max_examples=300, deadline=None)
def test_the_closest_sets_are_those_of_all_subsets(prompts, slots, target, room):
    view, slots = view_with(prompts, [prompt + 5 for prompt in prompts]), min(slots, len(prompts))
    below, above = np.zeros(len(prompts), np.int64), np.zeros(len(prompts), np.int64)
    found = closest_sets(view, np.arange(len(prompts)), slots, room, float(target), below, above)
    sums = [0]
    for count in range(1, slots + 1):
        for chosen in itertools.combinations(prompts, count):
            if sum(chosen) + 5 * count <= room:
                sums.append(sum(chosen))
    assert found[0] == max(total for total in sums if total <= target)
    assert sum(prompts[index] for index in below[: found[1]]) == found[0]
    if found[0] < target:
        assert found[2] == min((total for total in sums if total > target), default=np.inf)
        assert found[3] == 0 or sum(prompts[index] for index in above[: found[3]]) == found[2]


def test_the_search_for_a_subset_is_bounded_and_still_close():
    prompts = np.random.default_rng(0).integers(1, 10**7, 64)
    view, space = view_with(prompts, prompts), (np.zeros(64, np.int64), np.zeros(64, np.int64))
    tokens, size, *_ = closest_sets(view, np.arange(64), 40, np.inf, 10**8 + 0.5, *space)
    assert size <= 40
    assert tokens > 0.999 * 10**8
    assert MOST_NODES <= 10_000


@given(
    margins=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    alpha=st.sampled_from([0.5, 1.0, 3.0]),
    beta=st.sampled_from([0.0, 1.0, 2.5, 8.0]),
)
@settings(max_examples=200, deadline=None)
def test_the_target_is_where_f_is_largest(margins, alpha, beta):
    margins, weights = np.array(margins, np.float64), 0.5 ** np.arange(len(margins))
    target = target_tokens(margins, weights, alpha, beta)
    values = [value(float(total), margins, weights, alpha, beta) for total in range(100)]
    numbers = {"alpha": alpha, "beta": beta, "gamma": 0.5}
    assert values == pytest.approx([naive_value(total, margins, numbers) for total in range(100)])
    if target == np.inf:
        assert (np.diff(values) > 0).all()
    else:
        assert values[int(target)] == pytest.approx(max(values))
        assert (np.diff(values[: int(target) + 1]) > 0).all(), "the smallest of the best"


@dataclass(frozen=True)
class WatchedFastPhi(FastPhi):
    """fast-phi with each answer compared with the costs of all ranks, computed naively."""

    compiled: ClassVar[bool] = False
    checked: ClassVar[list] = []

    @staticmethod
    def place(view, pool, size, requests, ranks):
        placed = FastPhi.place(view, pool, size, requests, ranks)
        n = [*view.survivors.tolist(), *[0] * 200]
        points = [min(h for h in range(200) if n[h] <= share * n[0]) for share in (0.9, 0.7, 0.5, 0.3, 0.1)]
        loads, free = np.zeros((view.dp_size, 5)), view.max_num_seqs - view.num_running
        chosen = zip(requests[:placed].tolist(), ranks[:placed].tolist(), strict=True)

        def expected(request, age, h):
            return (n[age + h] + 1) / (n[age] + 1) * (view.prompt_tokens[request] + age + h)

        for request in view.active[view.active >= 0]:
            age = int(view.clock[STEP] - view.admitted_step[request])
            loads[view.rank[request]] += [expected(request, age, h) for h in points]
        for request, rank in chosen:
            excess = [view.prompt_tokens[request] + h for h in points] - (loads.max(axis=0) - loads)
            costs = np.maximum(excess, 0) @ [(n[h] + 1) / (n[0] + 1) for h in points]
            assert costs[rank] <= costs[free > 0].min() + 0.01
            WatchedFastPhi.checked.append(costs[rank] > 0)
            loads[rank] += [expected(request, 0, h) for h in points]
            free[rank] -= 1
        return placed


def test_fast_phi_goes_where_the_expected_overflow_is_least():
    WatchedFastPhi.checked.clear()
    for seed, (gap, largest, longest) in enumerate([(None, 400, 60), (3, 400, 60), (10, 400, 60), (2, 9, 8)]):
        conditions = Conditions("backlog" if gap is None else "trace")
        workload = random_workload(seed, 150, largest=largest, longest=longest, gap_ms=gap)
        expected = ranks_of(workload, "fast-phi", ranks=3, conditions=conditions)
        assert ranks_of(workload, WatchedFastPhi(), ranks=3, conditions=conditions) == expected
    assert 50 < sum(WatchedFastPhi.checked) <= len(WatchedFastPhi.checked) == 600


def test_fast_phi_takes_the_lowest_load_where_no_rank_overflows(workload_of):
    # 90 on rank 0, then 20 and 10 on ranks 1 and 2: the next 5 fits below 90 everywhere but there.
    workload = workload_of([90, 20, 10, 5], [9] * 4, arrivals=[0] * 4)
    assert ranks_of(workload, "fast-phi", ranks=3)[0] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("br-0:candidates=0", "candidates: 0 is too few, expected at least 1"),
        ("br-h:candidates=0", "candidates: 0 is too few, expected at least 1"),
        ("br-h:horizon=-1", "horizon: -1 is too few, expected at least 0"),
        ("br-h:gamma=0", "gamma: 0.0 is no discount, expected a number above 0 and at most 1"),
        ("br-h:alpha=0", "alpha: 0.0 is no weight, expected a number above 0"),
        ("br-h:beta=-2", "beta: -2.0 is no weight, expected a number above 0, or 0 for G"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(UsageError) as raised:
        parse_policy(spec)
    assert message in str(raised.value)

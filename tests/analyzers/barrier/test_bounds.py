"""Headroom: bounds worked by hand, bounds that no replay of any policy beats, and what is said of them."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.bounds import (
    RequestLoads,
    SingleLoads,
    idle_bounds,
    least_slowest_ms,
    least_time_ms,
    recovered_fraction,
    recovered_fractions,
    single_loads,
    unavoidable_idle_ms,
)
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.trace.trace import StepArrays
from lbal.analyzers.wording.findings import headroom_sentence
from lbal.cli.main import run
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import headroom_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import POLICIES, parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=1e-5, per_request_s=1e-3)
"""10 ms, 0.01 ms per token, 1 ms per request: a request with 200 tokens takes 3 ms."""
MODELS = [
    MODEL,
    StepTimeModel("tokens", 0.002, 1e-4),
    StepTimeModel("requests", 0.0, 0.0, 1e-3),
    StepTimeModel("all", 0.005, 3e-5, 7e-4, 5e-4),
]
DRIFTS = [Drift(), Drift(0.0), Drift(2.5), Drift(0.3), Drift(window=20.0)]


def loads_of(prompts, outputs, drift: Drift | None = None) -> RequestLoads:
    drift, prompts, outputs = drift or Drift(), np.asarray(prompts, np.int64), np.asarray(outputs, np.int64)
    return RequestLoads(outputs, drift.entering_load(prompts), drift.growing_steps(prompts, outputs), drift.per_step)


def load(loads: RequestLoads, request: int, age: int) -> float:
    """Load entering the step of this age, from the definition."""
    return loads.entering_tokens[request] + loads.growth * min(age, loads.growing_steps[request])


def steps_of(kv_tokens, num_running) -> StepArrays:
    tokens = np.asarray(kv_tokens, np.float64)
    return StepArrays(np.arange(len(tokens)), tokens, np.asarray(num_running, np.float64))


# Unavoidable idle, by hand -------------------------------------------------------------------------------------------


def least_of(tokens, ranks: int, model: StepTimeModel = MODEL) -> float:
    """Bound on the largest rank time of one step with these active requests."""
    tokens = np.asarray(tokens, np.float64)
    single = SingleLoads(tokens.max(keepdims=True), tokens.min(keepdims=True))
    return float(least_slowest_ms(tokens.sum(keepdims=True), np.array([float(len(tokens))]), single, model, ranks)[0])


def test_one_request_on_two_ranks_leaves_one_of_them_idle():
    # r = 0.01*200 + 1 = 3 ms on one rank, nothing on the other: 3 ms of idle wherever it goes.
    accounts = account(steps_of([[200, 0]], [[1, 0]]), MODEL, measured=False)
    single = SingleLoads(np.array([200.0]), np.array([200.0]))
    assert unavoidable_idle_ms(accounts, single, MODEL).tolist() == [3]
    # The step lasts 13 ms, so 3 of 26 ms of rank-time, and nothing of the idle was avoidable.
    assert idle_bounds(accounts, single, MODEL) == {"unavoidable_idle_fraction": 3 / 26, "avoidable_idle_fraction": 0}


def test_the_largest_request_bounds_the_idle_of_two_ranks():
    # r = 11, 3 and 3 ms; the best placement has 11 against 6: 5 ms of idle. All three on one rank idle 17 ms.
    assert least_of([1000, 200, 200], 2) == 11
    accounts = account(steps_of([[1400, 0]], [[3, 0]]), MODEL, measured=False)
    single = SingleLoads(np.array([1000.0]), np.array([200.0]))
    assert unavoidable_idle_ms(accounts, single, MODEL).tolist() == pytest.approx([2 * 11 - 17])
    figures = idle_bounds(accounts, single, MODEL)
    assert figures["unavoidable_idle_fraction"] == pytest.approx(5 / (2 * 27))
    assert figures["avoidable_idle_fraction"] == pytest.approx(12 / (2 * 27))


def test_three_equal_requests_do_not_divide_among_two_ranks():
    # Some rank has two of 3 ms each: 6 against 3, although the mean is 4.5 and the largest request 3.
    assert least_of([200, 200, 200], 2) == 6


def test_a_step_that_balances_has_no_unavoidable_idle():
    assert least_of([200, 200, 100, 300], 2) == pytest.approx(6)
    accounts = account(steps_of([[400, 400]], [[2, 2]]), MODEL, measured=False)
    assert unavoidable_idle_ms(accounts, None, MODEL).tolist() == [0]


def test_numbers_of_requests_alone_give_a_weaker_bound():
    # One request on three ranks: its rank has all 6 ms. Four requests without tokens: some rank has two.
    accounts = account(steps_of([[500, 0, 0], [0, 0, 0]], [[1, 0, 0], [4, 0, 0]]), MODEL, measured=False)
    assert unavoidable_idle_ms(accounts, None, MODEL).tolist() == pytest.approx([12, 2])
    nothing_known = SingleLoads(np.full(2, np.nan), np.full(2, np.nan))
    assert unavoidable_idle_ms(accounts, nothing_known, MODEL).tolist() == pytest.approx([12, 2])


def test_a_single_load_beyond_what_the_straggler_held_is_not_believed():
    accounts = account(steps_of([[100, 100]], [[1, 1]]), MODEL, measured=False)
    assert unavoidable_idle_ms(accounts, SingleLoads(np.array([900.0]), np.array([1.0])), MODEL).tolist() == [0]


def test_a_step_without_requests_is_no_idle():
    accounts = account(steps_of([[0, 0]], [[0, 0]]), MODEL, measured=False)
    assert unavoidable_idle_ms(accounts, None, MODEL).tolist() == [0]


@given(st.lists(st.integers(0, 2_000), min_size=1, max_size=6), st.integers(1, 3), st.sampled_from(MODELS))
@settings(deadline=None)
def test_no_placement_of_a_few_requests_is_below_the_bound_on_the_slowest_rank(tokens, ranks, model):
    times = [(model.per_token_s * held + model.per_request_s) * 1e3 for held in tokens]
    best = min(
        max(sum(time for time, where in zip(times, placed, strict=True) if where == rank) for rank in range(ranks))
        for placed in itertools.product(range(ranks), repeat=len(times))
    )
    bound = least_of(tokens, ranks, model)
    assert bound <= best * (1 + 1e-12) + 1e-12
    if len(tokens) <= ranks or len(set(tokens)) == 1 or ranks == 1:
        assert bound == pytest.approx(best)


@given(
    st.lists(st.integers(0, 2_000), min_size=1, max_size=6),
    st.sampled_from([{0: 0.5}, {1: 0.8, 2: 1.6}, {0: 3.0}]),
    st.sampled_from(MODELS),
)
@settings(deadline=None)
def test_no_placement_on_ranks_of_other_speeds_is_below_the_bounds(tokens, speeds, model):
    ranks, model = 3, model.with_speeds(speeds)
    slowness = model.slowness(ranks)
    times = [(model.per_token_s * held + model.per_request_s) * 1e3 for held in tokens]
    least_slowest, least_idle = math.inf, math.inf
    for placed in itertools.product(range(ranks), repeat=len(times)):
        took = slowness * np.bincount(placed, weights=times, minlength=ranks)
        least_slowest = min(least_slowest, took.max())
        least_idle = min(least_idle, ranks * took.max() - took.sum())
    assert least_of(tokens, ranks, model) <= least_slowest * (1 + 1e-12) + 1e-12
    accounts = account(steps_of([[sum(tokens), 0, 0]], [[len(tokens), 0, 0]]), model, measured=False)
    single = SingleLoads(np.array([max(tokens)], np.float64), np.array([min(tokens)], np.float64))
    assert unavoidable_idle_ms(accounts, single, model)[0] <= least_idle * (1 + 1e-12) + 1e-9


# Single loads --------------------------------------------------------------------------------------------------------


def plain_single_loads(loads: RequestLoads, first, count: int) -> tuple[list[float], list[float]]:
    active: list[list[float]] = [[] for _ in range(count)]
    for request, start in enumerate(first):
        for age in range(loads.steps[request]):
            if start + age < count:
                active[start + age].append(load(loads, request, age))
    return [max(held, default=math.nan) for held in active], [min(held, default=math.nan) for held in active]


def test_the_largest_load_changes_hands_when_a_longer_request_enters_or_one_ends():
    # A: 10, 11, 12 in steps 0-2; B: 11, 12 in steps 1-2; C: 5 in step 4; nobody in step 3.
    single = single_loads(loads_of([10, 11, 5], [3, 2, 1]), np.array([0, 1, 4]), 5)
    np.testing.assert_array_equal(single.largest, [10, 11, 12, np.nan, 5])
    np.testing.assert_array_equal(single.smallest, [10, 11, 12, np.nan, 5])


def test_a_request_that_stops_growing_is_overtaken():
    # Window 12: A 10, 11, 12, 12, 12; B from step 3: 9, 10.
    single = single_loads(loads_of([10, 9], [5, 2], Drift(window=12.0)), np.array([0, 3]), 5)
    assert single.largest.tolist() == [10, 11, 12, 12, 12]
    assert single.smallest.tolist() == [10, 11, 12, 9, 10]


@st.composite
def admitted(draw):
    count = draw(st.integers(1, 30))
    numbers = [
        draw(st.lists(st.integers(*span), min_size=count, max_size=count)) for span in ((0, 40), (1, 15), (0, 30))
    ]
    return loads_of(numbers[0], numbers[1], draw(st.sampled_from(DRIFTS))), np.array(numbers[2])


@given(admitted(), st.integers(1, 50))
@settings(deadline=None)
def test_painted_single_loads_equal_the_plain_ones(requests, count):
    loads, first = requests
    found = single_loads(loads, first, count)
    largest, smallest = plain_single_loads(loads, first, count)
    np.testing.assert_allclose(found.largest, largest, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.smallest, smallest, rtol=1e-12, atol=1e-12)


@given(admitted(), st.integers(1, 50), st.integers(0, 49))
@settings(deadline=None)
def test_single_loads_of_later_steps_are_those_of_all_steps(requests, count, since):
    loads, first = requests
    since = min(since, count - 1)
    found, whole = single_loads(loads, first - since, count - since), single_loads(loads, first, count)
    np.testing.assert_allclose(found.largest, whole.largest[since:], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.smallest, whole.smallest[since:], rtol=1e-12, atol=1e-12)


@given(admitted())
def test_token_steps_are_the_sum_of_the_loads_entering_the_steps(requests):
    loads, _ = requests
    expected = [sum(load(loads, i, age) for age in range(steps)) for i, steps in enumerate(loads.steps)]
    assert loads.token_steps == pytest.approx(expected)


# The time that no policy can beat ------------------------------------------------------------------------------------


def test_four_equal_requests_on_two_ranks_by_hand():
    # o = 2, s = 100: token-steps 2*100 + 1 = 201 each. G = 2, B = 1: two waves of 2 steps, so C*4 = 40 ms;
    # rank times add up to 4 * (0.01*201 + 1*2) = 16.04 ms, a half of them per rank.
    loads = loads_of([100] * 4, [2] * 4)
    assert loads.token_steps.tolist() == [201] * 4
    assert least_time_ms(loads, MODEL, 2, 1) == pytest.approx(40 + 8.02)
    assert least_time_ms(loads, MODEL, 2, 2) == pytest.approx(20 + 8.02), "with two slots each, one wave is enough"


def test_one_long_request_bounds_the_steps_and_its_own_rank():
    # 10 steps, 10*50 + 45 = 545 token-steps: 100 ms + 5.45 + 10 ms, more than the mean over two ranks.
    loads = loads_of([50, 50], [10, 1])
    assert least_time_ms(loads, MODEL, 2, 8) == pytest.approx(100 + 15.45)


def test_the_mean_term_counts_every_token_once():
    model = StepTimeModel("mean", 0.010, 0.0, 0.0, per_mean_request_s=4e-3)
    assert least_time_ms(loads_of([0, 0], [3, 1]), model, 2, 4) == pytest.approx(30 + 4 * 4 / 2)


def test_a_late_request_bounds_the_end_by_its_arrival():
    # The last one arrives after 500 ms and takes 2 steps: 500 + 20 + 0.01*201 + 2.
    loads = loads_of([100, 100], [1, 2])
    assert least_time_ms(loads, MODEL, 2, 1, np.array([1000.0, 1500.0])) == pytest.approx(524.01)
    assert least_time_ms(loads, MODEL, 2, 1, np.array([0.0, 0.0])) == least_time_ms(loads, MODEL, 2, 1)


def plain_least_time_ms(loads: RequestLoads, model: StepTimeModel, ranks: int, slots: int, arrivals) -> float:
    bounds = []
    for first in range(len(loads.steps)):
        rest = range(first, len(loads.steps))
        outputs = [int(loads.steps[i]) for i in rest]
        work = [
            sum(model.per_token_s * load(loads, i, age) + model.per_request_s for age in range(loads.steps[i]))
            for i in rest
        ]
        steps = max(math.ceil(sum(outputs) / (ranks * slots)), *outputs, 0)
        seconds = model.shared_s * steps + max(sum(work) / ranks, *work, 0)
        seconds += model.per_mean_request_s * sum(outputs) / ranks
        bounds.append(arrivals[first] - arrivals[0] + seconds * 1e3)
    return max(bounds)


@given(admitted(), st.sampled_from(MODELS), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.0, 3.0, 40.0]))
@settings(deadline=None)
def test_least_time_equals_the_formula_request_by_request(requests, model, ranks, slots, gap):
    loads, first = requests
    arrivals = np.sort(first) * gap + 17.0
    expected = plain_least_time_ms(loads, model, ranks, slots, arrivals)
    assert least_time_ms(loads, model, ranks, slots, arrivals) == pytest.approx(expected)
    backlog = plain_least_time_ms(loads, model, ranks, slots, np.zeros(len(first)))
    assert least_time_ms(loads, model, ranks, slots) == pytest.approx(backlog)


# No replay beats the bounds ------------------------------------------------------------------------------------------


@st.composite
def situations(draw):
    count, ranks = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    prompts = draw(st.lists(st.integers(0, 50), min_size=count, max_size=count))
    outputs = draw(st.lists(st.integers(1, 12), min_size=count, max_size=count))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, 10.1, 37.0, 500.0]), min_size=count, max_size=count))
    workload = Workload(
        source="test",
        request_id=pl.Series("request_id", np.arange(count)),
        prompt_tokens=np.array(prompts, np.int64),
        output_tokens=np.array(outputs, np.int64),
        arrival_ms=np.cumsum(gaps) + draw(st.sampled_from([-40.0, 0.0, 1e6])),
        recorded_rank=np.array([index * 7 % ranks for index in range(count)], np.int64),
    )
    capacity = draw(st.sampled_from([None, 130, 400]))
    model = draw(st.sampled_from(MODELS)).with_speeds(draw(st.sampled_from([{}, {}, {0: 0.5}])))
    cluster = Cluster(ranks, draw(st.integers(1, 5)), model, capacity)
    conditions = Conditions(
        arrivals=draw(st.sampled_from(["trace", "backlog"])),
        rate_scale=draw(st.sampled_from([0.5, 1.0, 20.0])),
        pool=draw(st.sampled_from([None, 1, 17])),
        drift=draw(st.sampled_from(DRIFTS)),
    )
    return workload, cluster, conditions


@pytest.mark.parametrize("name", POLICIES.names())
@given(situation=situations())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_replay_of_any_policy_beats_the_bounds(name, situation):
    workload, cluster, conditions = situation
    replayed = replay(workload, cluster, parse_policy(name), conditions)
    steps = replayed.trace.step_arrays()
    model, drift = cluster.step_model, conditions.drift
    loads = loads_of(workload.prompt_tokens, workload.output_tokens, drift)
    single = single_loads(loads, replayed.admitted_step, len(steps))
    tokens, running = steps.kv_tokens.sum(axis=1), steps.num_running.sum(axis=1)
    least = least_slowest_ms(tokens, running, single, model, cluster.dp_size)
    slowest = model.rank_time_ms(steps.kv_tokens, steps.num_running).max(axis=1)
    assert (least <= slowest * (1 + 1e-9) + 1e-9).all()
    if not model.rank_speeds:
        assert (least * (1 + 1e-9) + 1e-9 >= model.rank_time_ms(steps.kv_tokens, steps.num_running).mean(axis=1)).all()

    found = {
        key: value.value
        for key, value in headroom_of(Windowed.of(replayed, "all"), workload, cluster, conditions).items()
    }
    end_ms = replayed.start_ms[-1] + replayed.step_ms[-1]
    first_ms = 0.0
    if conditions.arrivals == "trace":
        first_ms = max(workload.scaled_arrivals(conditions.rate_scale)[0], 0.0)
    assert found["makespan_bound_s"] <= (end_ms - first_ms) / 1e3 * (1 + 1e-9)
    assert found["tokens_per_second_bound"] * (1 + 1e-9) >= running.sum() / replayed.step_ms.sum() * 1e3
    assert found["unavoidable_idle_fraction"] >= 0
    assert found["avoidable_idle_fraction"] >= 0
    assert 0 < found["makespan_bound_fraction"] <= 1


def headroom(workload, cluster, policy: str, arrivals="backlog") -> dict[str, float]:
    conditions = Conditions(arrivals, pool=len(workload))
    replayed = replay(workload, cluster, parse_policy(policy), conditions)
    return {
        key: value.value
        for key, value in headroom_of(Windowed.of(replayed, "all"), workload, cluster, conditions).items()
    }


@pytest.mark.parametrize("model", MODELS)
def test_equal_requests_that_fill_every_slot_reach_the_bounds(workload_of, model):
    found = headroom(workload_of([30] * 12, [5] * 12), Cluster(3, 2, model), "jsq")
    assert found["makespan_bound_fraction"] == pytest.approx(1)
    assert found["unavoidable_idle_fraction"] == found["avoidable_idle_fraction"] == pytest.approx(0, abs=1e-12)


def test_a_single_request_reaches_the_bounds_and_all_its_idle_is_unavoidable(workload_of):
    workload = workload_of([30], [5], [123.0])
    found = headroom(workload, Cluster(4, 2, MODEL), "jsq", "trace")
    assert found["makespan_bound_fraction"] == pytest.approx(1)
    assert found["unavoidable_idle_fraction"] > 0
    assert found["avoidable_idle_fraction"] == pytest.approx(0, abs=1e-12)


def test_a_window_counts_its_own_steps_and_the_makespan_of_the_whole_run(workload_of):
    workload, cluster = workload_of([10, 90, 10, 10, 20], [4, 9, 4, 4, 6]), Cluster(2, 2, MODEL)
    replayed = replay(workload, cluster, parse_policy("fcfs"), Conditions("backlog"))
    windows = [
        headroom_of(Windowed.of(replayed, name), workload, cluster, Conditions("backlog"))
        for name in ("all", "admissions")
    ]
    assert windows[0]["makespan_bound_s"] == windows[1]["makespan_bound_s"]
    assert windows[0]["unavoidable_idle_fraction"].value > windows[1]["unavoidable_idle_fraction"].value, "the drain"


# What is said --------------------------------------------------------------------------------------------------------


def test_recovered_is_the_share_of_what_was_avoidable():
    assert recovered_fraction(0.234, 0.012, 0.032) == pytest.approx(202 / 222)
    assert recovered_fraction(0.2, 0.1, 0.3) == pytest.approx(-1)
    assert recovered_fraction(0.2, 0.2, 0.1) is None
    assert recovered_fractions(0.2, 0.1, {"x": 0.1, "y": 0.2}) == pytest.approx({"x": 1, "y": 0})


@pytest.mark.parametrize(
    ("idle", "unavoidable", "others", "sentence"),
    [
        (0.234, 0.012, {"jsq": 0.1, "jsq-kv": 0.032}, "Of 23.4% idle under fcfs, at least 1.20% was unavoidable; jsq-kv recovers 91.0% of the rest"),
        (0.234, 0.0, {"jsq": 0.117}, "Of 23.4% idle under fcfs, none is provably unavoidable; jsq recovers 50.0% of it"),
        (0.234, 0.012, {}, "Of 23.4% idle under fcfs, at least 1.20% was unavoidable; other placement could recover at most 22.2%"),
        (0.2, 0.1, {"jsq": 0.2}, "Of 20.0% idle under fcfs, at least 10.0% was unavoidable; jsq idles no less"),
        (0.2, 0.1, {"jsq": 0.3, "lpt": 0.4}, "Of 20.0% idle under fcfs, at least 10.0% was unavoidable; no other policy here idles less"),
        (0.2, 0.1, {"jsq": 0.05}, "Of 20.0% idle under fcfs, at least 10.0% was unavoidable; jsq, which admits otherwise, recovers all of the rest and more"),
        (0.2, 0.1, {"jsq": 0.1}, "Of 20.0% idle under fcfs, at least 10.0% was unavoidable; jsq recovers 100.0% of the rest"),
        (0.2, 0.2, {}, "Of 20.0% idle under fcfs, all was unavoidable for the same admissions"),
        (0.2, 0.2, {"jsq": 0.2}, "Of 20.0% idle under fcfs, all was unavoidable for the same admissions; jsq idles no less"),
        (0.2, 0.2, {"jsq": 0.1}, "Of 20.0% idle under fcfs, all was unavoidable for the same admissions; jsq, which admits otherwise, idles 10.0%"),
        (0.0, 0.0, {"jsq": 0.0}, "No rank-time is idle under fcfs: there is nothing to recover"),
    ],
)  # fmt: skip
def test_the_sentence_is_right_at_every_edge(idle, unavoidable, others, sentence):
    assert headroom_sentence("fcfs", idle, unavoidable, others) == sentence + " (modelled)."


REQUESTS = '{"lbal_trace": 1}\n' + "".join(
    f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i * 37 % 400}, "output_tokens": {5 + i % 17}, "rank": {i % 2}}}\n'
    for i in range(60)
)  # fmt: skip


@pytest.fixture
def requests(tmp_path) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_text(REQUESTS)
    return str(path)


def result_of(capsys, *arguments: str) -> dict:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


SMALL = ["--dp-size", "4", "--max-num-seqs", "8"]


def test_replay_puts_the_headroom_of_every_run_into_the_result(requests, capsys):
    result = result_of(capsys, "replay", requests, *SMALL, "--policy", "fcfs", "--policy", "jsq-kv")
    assert result["headroom"]["reference"] == "fcfs", "the one that idles most"
    assert result["headroom"]["best"] == "jsq-kv"
    for record in result["runs"]:
        figures = {name: measure["value"] for name, measure in record["headroom"].items()}
        assert all(measure["unit"] == METRICS[name].unit for name, measure in record["headroom"].items())
        assert {measure["basis"] for measure in record["headroom"].values()} == {"modelled"}
        idle = record["metrics"]["barrier_idle_fraction"]["value"]
        assert figures["unavoidable_idle_fraction"] + figures["avoidable_idle_fraction"] == pytest.approx(idle)
        assert figures["makespan_bound_s"] <= record["metrics"]["makespan_s"]["value"]
    recovered = [record["headroom"]["recovered_idle_fraction"]["value"] for record in result["runs"]]
    assert recovered[0] == 0 < recovered[1]


def test_what_was_recorded_is_the_reference_where_it_is_replayed(requests, capsys):
    several = ["--policy", "jsq-kv", "--policy", "recorded", "--policy", "fcfs"]
    assert result_of(capsys, "replay", requests, *SMALL, *several)["headroom"]["reference"] == "recorded"


@pytest.mark.parametrize("policies", [["jsq"], ["fcfs", "jsq"]])
def test_replay_says_the_headroom_in_words_and_in_a_table(requests, capsys, policies):
    assert run(["replay", requests, *SMALL, *itertools.chain(*(("--policy", name) for name in policies))]) == 0
    out = capsys.readouterr().out
    assert "\nHeadroom: what other placement or policy could change\nOf " in out
    assert "\nNo policy can serve these requests in less than " in out
    assert "\nunavoidable idle, at least " in out
    assert ("\navoidable idle recovered " in out) == (len(policies) > 1)


@pytest.mark.parametrize("drift", ["1", "0", "2.5", "window:300"])
@pytest.mark.parametrize("window", ["all", "admissions"])
def test_analyze_finds_the_same_unavoidable_idle_in_the_replayed_trace(requests, tmp_path, capsys, drift, window):
    out = str(tmp_path / "trace.jsonl")
    options = ["--policy", "jsq", "--window", window]
    replayed = result_of(capsys, "replay", requests, *SMALL, *options, "--drift", drift, "-o", out)
    analysed = result_of(capsys, "analyze", out, "--window", window)
    assert analysed["headroom"]["lengths_known"] is True
    for name in ("unavoidable_idle_fraction", "avoidable_idle_fraction"):
        ours, theirs = (result["runs"][0]["headroom"][name]["value"] for result in (replayed, analysed))
        assert ours == pytest.approx(theirs, rel=1e-12)
        assert ours > 0


STEPS = (
    '{"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 4}\n'
    '{"step": 0, "step_ms": 16, "start_ms": 0, "kv_tokens": [400, 0], "num_running": [2, 0], "compute_ms": [6, 0]}\n'
    '{"step": 1, "step_ms": 13, "start_ms": 16, "kv_tokens": [201, 0], "num_running": [1, 0], "compute_ms": [3.01, 0]}\n'
)
ACTIVE = (
    '{"request_id": 0, "prompt_tokens": 200, "output_tokens": 2, "arrival_ms": 0, "admitted_ms": 0, "finish_ms": 29}\n'
    '{"request_id": 1, "prompt_tokens": 200, "output_tokens": 1, "arrival_ms": 0, "admitted_ms": 0, "finish_ms": 16}\n'
)
HAND = ["--step-model", "C=0.01,a=1e-5,b=1e-3"]


@pytest.mark.parametrize(("requests_too", "known"), [(STEPS + ACTIVE, True), (STEPS, False)])
def test_analyze_tells_measured_idle_from_modelled_bounds(tmp_path, capsys, requests_too, known):
    # Two requests of 3 ms each could have had a rank each (6 ms avoidable); the last is alone (3.01 ms unavoidable).
    path = tmp_path / "trace.jsonl"
    path.write_text(requests_too)
    result = result_of(capsys, "analyze", str(path), *HAND)
    figures = result["runs"][0]["headroom"]
    assert figures["unavoidable_idle_fraction"]["value"] == pytest.approx(3.01 / (2 * 29))
    assert figures["avoidable_idle_fraction"]["value"] == pytest.approx(6 / (2 * 29))
    assert figures["avoidable_idle_fraction"]["basis"] == "modelled"
    assert result["headroom"]["lengths_known"] is known
    assert result["headroom"]["findings"][:2] == [
        "Of 15.5% idle (measured), at least 5.19% was unavoidable and at most 10.3% avoidable by placement (modelled).",
        "With perfect balance the steps of this trace would have been 15.5% shorter and used 6.06% (3.44% to 9.88%) less energy, "
        "all of it resting on the assumed wait power (time measured, energy modelled).",
    ]


def test_requests_that_do_not_fit_the_steps_are_not_believed(tmp_path, capsys):
    # A third request in step 1, where one was running, and one that is larger than what any rank held.
    path = tmp_path / "trace.jsonl"
    extra = '{"request_id": 2, "prompt_tokens": 9000, "output_tokens": 2, "arrival_ms": 0, "admitted_ms": 0, "finish_ms": 29}\n'
    path.write_text(STEPS + ACTIVE + extra)
    figures = result_of(capsys, "analyze", str(path), *HAND)["runs"][0]["headroom"]
    assert figures["unavoidable_idle_fraction"]["value"] == pytest.approx(3.01 / (2 * 29)), "from the numbers alone"

"""bf-io: its projection against the formula, what it must not know, fairness, and the exact method."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from step_problems import bursty_lengths

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import run_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policies.bf_io import BfIo, problem_of
from lbal.replay.policy.policy import parse_policy
from lbal.replay.policy.view import STEP
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.solver import solve

BACKLOG = Conditions(arrivals="backlog")
BY_TOKENS = StepTimeModel("by tokens", shared_s=0.010, per_token_s=1e-6)
BY_BOTH = StepTimeModel("by both", shared_s=0.010, per_token_s=1e-6, per_request_s=5e-4)
BY_REQUESTS = StepTimeModel("by requests", shared_s=0.010, per_token_s=0.0, per_request_s=5e-4)


def replayed(spec, *, workload=None, shape=(4, 8), model=BY_TOKENS, capacity=None, conditions=BACKLOG):
    policy = parse_policy(spec) if isinstance(spec, str) else spec
    chosen = bursty_lengths(400, seed=5) if workload is None else workload
    return replay(chosen, Cluster(*shape, model, capacity), policy, conditions)


def placements(spec, **setting):
    found = replayed(spec, **setting)
    return found.trace.requests["rank"].to_list(), found.admitted_step.tolist()


@dataclasses.dataclass(frozen=True)
class Watched(BfIo):
    """bf-io with a look at its problems, as views and as they are solved."""

    name = "watched"
    compiled = False
    seen = []  # noqa: RUF012  emptied by `steps_of`

    def decide(self, view, pool, size, requests, ranks):
        copied = view._replace(
            **{name: value.copy() for name, value in view._asdict().items() if isinstance(value, np.ndarray)}
        )
        problem = problem_of(view, pool, size)
        self.seen.append((copied, pool.copy(), problem))
        return (
            BfIo.decide(self, view, pool, size, requests, ranks)
            if self.method == "exact"
            else self._fast(view, pool, size, requests, ranks, problem)
        )

    def _fast(self, view, pool, size, requests, ranks, problem):
        solution = solve(problem)
        placed = len(solution.requests)
        requests[:placed], ranks[:placed] = pool[solution.requests], solution.ranks
        return placed


def steps_of(**setting):
    """(view, pool, problem) of every decision of a replay."""
    parameters = {"worst_wait": 0.0, **setting.pop("parameters")}
    Watched.seen.clear()
    replayed(Watched(**parameters), **setting)
    assert Watched.seen
    return list(Watched.seen)


def alive(view, parameters, request, age, h):
    """P(o > age + h | o > age) by the definition of the predictor."""
    name = parameters.get("predictor", "survival")
    seen = [int(count) for count in view.survivors]
    longer = [seen[at] if at < len(seen) else 0 for at in (age, age + h)]
    if name == "survival":
        return (longer[1] + 1) / (longer[0] + 1)
    length = math.inf
    if name in ("oracle", "noisy"):
        length = int(view.output_tokens[request])
    if name == "noisy":
        first, second = view.draws[request]
        z = math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)
        length = int(length * math.exp(0.3 * z) + 0.5)
    if name == "mean" and seen[0] > 0:
        length = int(view.tokens_completed[0] / seen[0] + 0.5)
    return float(h < max(length - age, 1))


@pytest.mark.parametrize("predictor", ["survival", "mean", "none", "oracle", "noisy"])
@pytest.mark.parametrize(
    ("drift", "model", "load"),
    [(Drift(1.0), BY_TOKENS, "kv"), (Drift(2.0), BY_BOTH, "time"), (Drift(1.0, 300.0), BY_BOTH, "kv"),
     (Drift(0.0), BY_REQUESTS, "time"), (Drift(1.0, 500.0), BY_BOTH, "time")],
)  # fmt: skip
def test_loads_are_projected_as_the_formula_says(predictor, drift, model, load):
    parameters = {"predictor": predictor, "horizon": 6, "load": load}
    conditions = Conditions(arrivals="backlog", drift=drift)
    workload = bursty_lengths(120, seed=2)
    steps = steps_of(parameters=parameters, workload=workload, shape=(3, 4), model=model, conditions=conditions)
    units = (1.0, 0.0)
    if load == "time":
        units = (1.0, model.per_request_s / model.per_token_s) if model.per_token_s else (0.0, 1.0)
    for view, pool, problem in steps[5::7]:
        window = view.attention_window

        def expected(request, age, h, view=view, window=window):
            prompt = float(view.prompt_tokens[request])
            tokens = prompt + view.drift * min(age + h, window - prompt)
            return (units[0] * tokens + units[1]) * alive(view, parameters, request, age, h)

        loads = np.zeros_like(problem.loads)
        for request in view.active[view.active >= 0]:
            age = int(view.clock[STEP] - view.admitted_step[request])
            loads[view.rank[request]] += [expected(request, age, h) for h in range(7)]
        profiles = [[expected(request, 0, h) for h in range(7)] for request in pool]
        np.testing.assert_allclose(problem.loads, loads, rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(problem.profiles, profiles, rtol=1e-9)
        np.testing.assert_array_equal(problem.free_slots, view.max_num_seqs - view.num_running)


def test_weights_and_overflow_are_as_asked():
    _, _, problem = steps_of(parameters={"horizon": 3, "discount": 0.5, "overflow": 7.0}, shape=(3, 4))[0]
    np.testing.assert_array_equal(problem.weights, [1, 0.5, 0.25, 0.125])
    assert problem.overflow == 7
    assert steps_of(parameters={}, shape=(3, 4))[0][2].overflow == 3


def test_load_in_time_is_load_in_tokens_where_requests_take_no_time_of_their_own():
    assert placements("bf-io:load=time") == placements("bf-io:load=kv")
    untimed = StepTimeModel("constant", shared_s=0.010, per_token_s=0.0)
    assert placements("bf-io:load=time", model=untimed) == placements("bf-io:load=kv", model=untimed)


def test_load_in_time_counts_requests_where_they_take_time_and_load_in_tokens_does_not():
    by_time, by_tokens = (placements(f"bf-io:load={load}", model=BY_BOTH) for load in ("time", "kv"))
    assert by_time != by_tokens


@pytest.mark.parametrize("predictor", ["survival", "oracle", "mean", "none", "noisy"])
def test_without_a_horizon_it_does_not_look_at_lengths(predictor):
    policy = parse_policy(f"bf-io:horizon=0,predictor={predictor}")
    assert not policy.uses_true_lengths
    assert not policy.learns_lengths
    assert not policy.uses_draws
    known = bursty_lengths(300, seed=9)
    ranks, admitted = placements(policy, workload=known)
    changed = known.output_tokens.copy()
    # Up to the 40th completion all ends are as they were; what is still active then, or not admitted, lasts longer.
    ends = np.array(admitted) + known.output_tokens
    first = int(np.sort(ends)[40])
    changed[ends > first] += 1 + np.arange((ends > first).sum()) % 50
    other_ranks, other_admitted = placements(policy, workload=dataclasses.replace(known, output_tokens=changed))
    early = [request for request in range(len(ranks)) if min(admitted[request], other_admitted[request]) <= first]
    assert len(early) > 60
    for request in early:
        assert (ranks[request], admitted[request]) == (other_ranks[request], other_admitted[request])


@pytest.mark.parametrize(
    ("spec", "true", "learns"),
    [
        ("bf-io", False, False),
        ("bf-io:horizon=5", False, True),
        ("bf-io:horizon=5,predictor=oracle", True, False),
        ("bf-io:horizon=5,predictor=none", False, False),
    ],
)
def test_it_says_what_it_knows(spec, true, learns):
    policy = parse_policy(spec)
    assert (policy.uses_true_lengths, policy.learns_lengths) == (true, learns)


@pytest.mark.parametrize("slack", [0, 3])
def test_slack_limits_the_choice_to_the_head_of_the_pool(slack):
    for _, pool, problem in steps_of(parameters={"slack": slack}):
        considered = min(int(min(problem.free_slots.sum(), len(pool))) + slack, len(pool))
        np.testing.assert_array_equal(problem.allowed, np.arange(len(pool)) < considered)


def test_without_slack_nobody_is_overtaken():
    admitted = replayed("bf-io:slack=0").admitted_step
    assert (np.diff(admitted) >= 0).all()
    assert (np.diff(replayed("bf-io").admitted_step) < 0).any()


@pytest.mark.parametrize("horizon", [0, 5])
def test_by_default_it_keeps_to_multiples_of_fifos_waits(horizon):
    workload, shape = bursty_lengths(4_000, seed=8), (8, 16)
    fifo = replayed("fcfs", workload=workload, shape=shape).waited_steps
    fair = replayed(f"bf-io:horizon={horizon}", workload=workload, shape=shape).waited_steps
    free = replayed(f"bf-io:horizon={horizon},worst_wait=0", workload=workload, shape=shape).waited_steps
    assert np.quantile(fair, 0.99) <= 3 * np.quantile(fifo, 0.99) < np.quantile(free, 0.99)
    assert fair.max() <= 10 * fifo.max() < free.max()


def test_what_has_waited_long_enough_goes_first():
    free = replayed("bf-io:worst_wait=0").waited_steps.max()
    limited = replayed("bf-io:max_wait=10,worst_wait=0")
    assert limited.waited_steps.max() < free
    for view, pool, problem in steps_of(parameters={"max_wait": 10})[::5]:
        waited = int(view.clock[STEP]) - view.arrived_step[pool]
        np.testing.assert_array_equal(problem.forced, waited >= 10)
        forced = int(problem.forced.sum())
        placed = solve(problem).requests
        assert problem.forced[placed].sum() == min(forced, len(placed))


@pytest.mark.parametrize(
    "spec", ["bf-io", "bf-io:slack=1", "bf-io:max_wait=5,slack=0", "bf-io:method=exact,limit=0.05"]
)
def test_with_a_kv_capacity_no_room_is_left_unused(spec):
    # The engine refuses an answer that leaves a slot to nobody although somebody fits.
    workload = bursty_lengths(150, seed=4)
    largest = int((workload.prompt_tokens + workload.output_tokens).max())
    found = replayed(spec, workload=workload, shape=(3, 6), capacity=largest + 500)
    assert (found.trace.requests["rank"] >= 0).all()


def test_the_exact_method_is_never_worse_than_the_fast_one():
    steps = steps_of(parameters={"method": "exact", "horizon": 2}, workload=bursty_lengths(150, seed=6))
    for _, _, problem in steps[::4]:
        exact = solve(problem, "exact")
        assert exact.objective <= solve(problem).objective
        assert exact.status == "optimal"


def test_the_exact_method_says_how_much_it_proved():
    workload = bursty_lengths(150, seed=6)
    found = replayed("bf-io:method=exact,horizon=1", workload=workload)
    assert found.statistics["method"] == "exact"
    assert found.statistics["decisions"] == len(np.unique(found.admitted_step))
    assert found.statistics["proven_optimal_fraction"] == 1
    assert 0 <= found.statistics["gap_sum"] <= 1e-6 * found.statistics["objective_sum"]
    assert run_of(Windowed.of(found, "all")).as_dict()["solver"] == found.statistics
    again = replayed("bf-io:method=exact,horizon=1", workload=workload)
    assert again.statistics == found.statistics
    fast = replayed("bf-io:horizon=1", workload=workload)
    assert fast.statistics == {}
    assert "solver" not in run_of(Windowed.of(fast, "all")).as_dict()


def test_it_balances_better_than_the_least_loaded_rank_in_order():
    workload = bursty_lengths(3_000, seed=7)
    imbalance = {
        spec: run_of(Windowed.of(replayed(spec, workload=workload, shape=(8, 16)), "admissions"))
        .metrics["imbalance_tokens_mean"]
        .value
        for spec in ("jsq-kv", "bf-io:worst_wait=0", "bf-io", "bf-io:slack=0")
    }
    assert imbalance["bf-io:worst_wait=0"] < imbalance["bf-io"] < imbalance["bf-io:slack=0"] < imbalance["jsq-kv"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("bf-io:horizon=-1", "horizon: -1 is too few, expected at least 0"),
        ("bf-io:slack=-2", "slack: -2 is too few, expected at least -1"),
        ("bf-io:max_wait=-1", "max_wait: -1 is too few, expected at least 0"),
        (
            "bf-io:worst_wait=0.5",
            "worst_wait: 0.5 is no multiple of FIFO's wait, expected at least 1, or 0 for no limit",
        ),
        ("bf-io:discount=0", "discount: 0.0 is no discount, expected a number above 0 and at most 1"),
        ("bf-io:overflow=-1", "overflow: -1.0 is no weight, expected a number above 0, or 0 for G"),
        ("bf-io:method=best", "method: 'best' does not fit, expected fast or exact"),
        ("bf-io:load=tokens", "load: 'tokens' does not fit, expected time or kv"),
        ("bf-io:gap=0.1", "gap: the method fast proves nothing, expected method=exact with it"),
        ("bf-io:method=exact,gap=1", "gap: 1.0 is no gap, expected a number of at least 0 and below 1"),
        ("bf-io:method=exact,limit=0", "limit: 0.0 is no limit, expected a number above 0"),
    ],
)
def test_wrong_parameters_are_refused(spec, message):
    with pytest.raises(UsageError) as raised:
        parse_policy(spec)
    assert message in str(raised.value)

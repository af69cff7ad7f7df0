"""Policies: what each one does, in examples small enough to follow; parameters; broken ones."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import PolicyError, UsageError
from lbal.analyzers.registry import Registry
from lbal.replay.engine.engine import replay
from lbal.replay.policy.parametrised import description
from lbal.replay.policy.policy import POLICIES, Policy, Router, Selector, parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions

MODEL = StepTimeModel("test", shared_s=0.01, per_token_s=1e-6)
BACKLOG = Conditions(arrivals="backlog")


def ranks_of(workload, spec, *, ranks=2, slots=4, conditions=BACKLOG, capacity=None):
    policy = parse_policy(spec) if isinstance(spec, str) else spec
    replayed = replay(workload, Cluster(ranks, slots, MODEL, capacity), policy, conditions)
    return replayed.trace.requests["rank"].to_list()


def test_fcfs_fills_rank_0_first(workload_of):
    assert ranks_of(workload_of([1] * 6, [5] * 6), "fcfs") == [0, 0, 0, 0, 1, 1]


def test_round_robin_takes_turns_and_goes_on_in_the_next_step(workload_of):
    workload = workload_of([1] * 4, [5] * 4, arrivals=[0, 0, 0, 1])
    trace = Conditions(arrivals="trace")
    assert ranks_of(workload, "round-robin", ranks=3, conditions=trace) == [0, 1, 2, 0]
    workload = workload_of([1] * 4, [5] * 4, arrivals=[0, 0, 1, 1])
    assert ranks_of(workload, "round-robin", ranks=3, conditions=trace) == [0, 1, 2, 0]
    assert ranks_of(workload, "round-robin:restart=true", ranks=3, conditions=trace) == [0, 1, 0, 1]


def test_jsq_counts_requests_and_jsq_kv_counts_tokens(workload_of):
    workload = workload_of([100, 10, 10, 10], [9] * 4)
    assert ranks_of(workload, "jsq") == [0, 1, 0, 1]
    assert ranks_of(workload, "jsq-kv") == [0, 1, 1, 1]


def test_immediate_binding_counts_the_queues_of_ranks(workload_of):
    workload = workload_of([100, 10, 10, 10, 10], [9] * 5, arrivals=[0] * 5)
    conditions = Conditions(binding="immediate")
    assert ranks_of(workload, "jsq", slots=1, conditions=conditions) == [0, 1, 0, 1, 0]
    assert ranks_of(workload, "jsq-kv", slots=1, conditions=conditions) == [0, 1, 1, 1, 1]


def test_a_router_sees_the_loads_of_the_step_in_progress(workload_of):
    # Request 1 arrives during the only step of request 0: rank 0 still counts as taken.
    workload = workload_of([5, 5], [1, 1], arrivals=[0, 1])
    assert ranks_of(workload, "jsq", conditions=Conditions(binding="immediate")) == [0, 1]
    # From a pool it is placed when it is admitted, and rank 0 is empty again by then.
    assert ranks_of(workload, "jsq", conditions=Conditions(binding="pool")) == [0, 0]


def test_lpt_places_the_longest_prompt_first(workload_of):
    assert ranks_of(workload_of([10, 40, 30], [9] * 3), "lpt") == [1, 0, 1]


def test_align_max_fills_up_to_the_maximum(workload_of):
    # Nothing is below a maximum of 0, so the smallest goes first (2 on rank 0). Then rank 1 is empty and nothing is
    # below 2: the smallest left (5). Rank 0 with 2 has 3 below the maximum: nothing fits, the smallest left (6) ...
    assert ranks_of(workload_of([6, 2, 5, 9], [9] * 4), "align-max") == [0, 0, 1, 1]


def test_recorded_follows_the_trace(workload_of):
    workload = workload_of([1] * 4, [3] * 4, arrivals=[0, 1, 2, 3], ranks=[1, 1, 0, 1])
    assert ranks_of(workload, "recorded", conditions=Conditions()) == [1, 1, 0, 1]


def test_recorded_refuses_a_trace_without_ranks(workload_of):
    with pytest.raises(UsageError, match="names no rank"):
        ranks_of(workload_of([1], [1], arrivals=[0]), "recorded", conditions=Conditions())


def test_random_policies_depend_on_the_seed_alone(workload_of):
    workload = workload_of([3] * 60, [4] * 60)
    for spec in ("random", "power-of-two"):
        first = ranks_of(workload, spec, ranks=8, conditions=Conditions("backlog", seed=1))
        assert first == ranks_of(workload, spec, ranks=8, conditions=Conditions("backlog", seed=1))
        assert first != ranks_of(workload, spec, ranks=8, conditions=Conditions("backlog", seed=2))


def test_random_reaches_every_rank(workload_of):
    found = ranks_of(workload_of([3] * 400, [1] * 400), "random", ranks=8, slots=100)
    assert np.bincount(found, minlength=8).min() > 20


def test_power_of_two_avoids_the_fullest_rank(workload_of):
    # With two ranks both are always drawn, so it is jsq; the first drawn wins a tie.
    found = ranks_of(workload_of([3] * 8, [9] * 8), "power-of-two", slots=8)
    assert sorted(found) == [0] * 4 + [1] * 4


def test_a_request_that_does_not_fit_waits(workload_of):
    workload = workload_of([60, 60, 60], [2, 2, 2])
    replayed = replay(workload, Cluster(1, 4, MODEL, 130), parse_policy("fcfs"), BACKLOG)
    assert replayed.admitted_step.tolist() == [0, 0, 2]
    assert replayed.waited_steps.tolist() == [0, 0, 2]


def test_a_request_that_can_never_fit_is_named(workload_of):
    with pytest.raises(UsageError, match=r"^kv_capacity: 100 tokens can never hold request 1 .*expected at least 202"):
        replay(workload_of([10, 200], [2, 2]), Cluster(1, 4, MODEL, 100), parse_policy("fcfs"), BACKLOG)


def test_idle_gaps_move_the_clock_and_are_no_steps(workload_of):
    replayed = replay(
        workload_of([5, 5], [2, 2], arrivals=[0, 1000]), Cluster(2, 4, MODEL), parse_policy("jsq"), Conditions()
    )
    assert len(replayed.step_ms) == 4
    assert replayed.start_ms[2] == 1000


@pytest.mark.parametrize("name", POLICIES.names())
def test_every_policy_says_what_it_does(name):
    cls = POLICIES.get(name)
    assert description(cls).endswith(".")
    assert cls.looks_at
    assert cls.bindings
    assert parse_policy(name).label == name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jqs", "unknown policy 'jqs': did you mean 'jsq'?"),
        ("round-robin:restat=true", "unknown parameter of round-robin 'restat': did you mean 'restart'?"),
        ("round-robin:restart=maybe", "restart: 'maybe' does not fit, expected true or false"),
        ("round-robin:restart", "restart: has no value, expected restart=true or false"),
        ("power-of-two:signal=bytes", "signal: 'bytes' does not fit, expected requests or kv"),
        ("jsq:x=1", "jsq takes no parameters"),
        ("nowhere.py:Mine", "there is no such file"),
    ],
)
def test_an_unknown_policy_or_parameter_is_answered_with_the_nearest(spec, message):
    with pytest.raises(UsageError) as raised:
        parse_policy(spec)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_label_shows_the_parameters_that_differ():
    assert parse_policy("round-robin:restart=true").label == "round-robin:restart=true"
    assert parse_policy("round-robin:restart=false").label == "round-robin"


PLUGIN = """
    from dataclasses import dataclass
    from typing import ClassVar
    from lbal.replay.policy.policy import Router, Selector

    @dataclass(frozen=True)
    class LastRank(Router):
        '''The last rank that can take the request.'''
        name: ClassVar[str] = "last"
        looks_at: ClassVar[str] = "free slots"
        compiled: ClassVar[bool] = {compiled}

        @staticmethod
        def choose(view, request):
            for rank in range(view.dp_size - 1, -1, -1):
                if view.eligible[rank]:
                    return rank
            return -1
"""


@pytest.mark.parametrize("compiled", [True, False])
def test_a_policy_of_ones_own_runs_compiled_or_in_plain_python(tmp_path, workload_of, compiled):
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(PLUGIN.format(compiled=compiled)))
    assert ranks_of(workload_of([1] * 6, [5] * 6), f"{file}:LastRank") == [1, 1, 1, 1, 0, 0]
    with pytest.raises(UsageError, match="did you mean 'LastRank'"):
        parse_policy(f"{file}:LastRnk")


@dataclass(frozen=True)
class Plain(Router):
    """Base of deliberately bad policies."""

    name: ClassVar[str] = "bad"
    looks_at: ClassVar[str] = "nothing"
    compiled: ClassVar[bool] = False

    @staticmethod
    def choose(view, request):
        raise NotImplementedError


class OutOfRange(Plain):
    @staticmethod
    def choose(view, request):
        return view.dp_size


class Raises(Plain):
    @staticmethod
    def choose(view, request):
        return 1 // 0


class Writes(Plain):
    @staticmethod
    def choose(view, request):
        view.kv_tokens[0] = 1e9
        return 0


class Interrupted(Plain):
    @staticmethod
    def choose(view, request):
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Lazy(Selector):
    """Places nothing."""

    name: ClassVar[str] = "lazy"
    looks_at: ClassVar[str] = "nothing"
    compiled: ClassVar[bool] = False

    @staticmethod
    def place(view, pool, size, requests, ranks):
        return 0


class LazyAndSaysSo(Lazy):
    work_conserving: ClassVar[bool] = False


class Twice(Lazy):
    @staticmethod
    def place(view, pool, size, requests, ranks):
        requests[:2], ranks[:2] = pool[0], 0
        return 2


class Overfull(Lazy):
    @staticmethod
    def place(view, pool, size, requests, ranks):
        requests[:size], ranks[:size] = pool[:size], 0
        return size


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (OutOfRange(), "placed request 0 on rank 2"),
        (Raises(), "its rule raised ZeroDivisionError"),
        (Writes(), "its rule raised ValueError: assignment destination is read-only"),
        (Lazy(), "left request 0 waiting although rank 0 could take it"),
        (LazyAndSaysSo(), "admits nothing although all ranks are empty"),
        (Twice(), "placed request 0 on rank 0"),
        (Overfull(), "placed request 4 on rank 0"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Policy) else "",
)
def test_a_policy_that_breaks_the_contract_is_stopped(workload_of, policy, message):
    with pytest.raises(PolicyError, match=message):
        ranks_of(workload_of([1] * 6, [5] * 6), policy)


def test_an_interrupt_inside_a_policy_is_an_interrupt(workload_of):
    with pytest.raises(KeyboardInterrupt):
        ranks_of(workload_of([1] * 6, [5] * 6), Interrupted())


def test_a_binding_that_a_policy_cannot_use_is_refused(workload_of):
    with pytest.raises(UsageError, match=r"^binding=immediate: the policy lpt cannot use it, expected pool"):
        ranks_of(workload_of([1], [1]), "lpt", conditions=Conditions("backlog", binding="immediate"))


def test_two_policies_of_one_name_are_refused(tmp_path, monkeypatch):
    package = tmp_path / "twins"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for file in ("a", "b"):
        (package / f"{file}.py").write_text(textwrap.dedent(PLUGIN.format(compiled=True)))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="two classes define the policy 'last'"):
        Registry("policy", "twins", Policy, group="twins").names()


WRITER = """
    from dataclasses import dataclass
    from typing import ClassVar
    from lbal.replay.policy.policy import Router

    @dataclass(frozen=True)
    class Writer(Router):
        '''Changes what it may only look at.'''
        name: ClassVar[str] = "writer"
        looks_at: ClassVar[str] = "everything"

        @staticmethod
        def choose(view, request):
            {statement}
            return 0
"""


@pytest.mark.parametrize("statement", ["view.num_running[0] = 0", "view.free_kv[0] = 10**9", "undefined_name += 1"])
def test_a_compiled_rule_that_writes_or_cannot_be_compiled_is_refused(tmp_path, workload_of, statement):
    file = tmp_path / "writer.py"
    file.write_text(textwrap.dedent(WRITER.format(statement=statement)))
    with pytest.raises(PolicyError, match=r"policy writer: its rule cannot be compiled: .*compiled = False") as raised:
        ranks_of(workload_of([1] * 6, [5] * 6), f"{file}:Writer")
    assert "\n" not in str(raised.value)

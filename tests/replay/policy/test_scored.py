"""Scored routers: the least score wins, and ties are broken as the class says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import Cluster, Conditions, replay
from lbal.replay.policy.checks import check_policy
from lbal.replay.policy.named import Memory
from lbal.replay.policy.policy import PlainRouter
from lbal.replay.policy.scored import TURN, Scored, Ties


@dataclass(frozen=True)
class Fewest(Scored):
    """Fewest requests."""

    name: ClassVar[str] = "fewest"
    looks_at: ClassVar[str] = "requests"

    @staticmethod
    def score(view, request, rank):
        return view.num_running[rank]


class FewestAtRandom(Fewest):
    name = "fewest-at-random"
    ties: ClassVar[Ties] = "random"


class FewestInTurn(Fewest):
    name = "fewest-in-turn"
    ties: ClassVar[Ties] = "rotating"


class LeastPair(Fewest):
    """Fewest requests, of equals fewest tokens."""

    name = "least-pair"

    @staticmethod
    def score(view, request, rank):
        return (view.num_running[rank], view.kv_tokens[rank])


class LeastPairInPython(PlainRouter):
    """The same in plain Python."""

    name = "least-pair-in-python"
    looks_at = "requests"

    def choose(self, view, request):
        return min(
            (rank for rank in range(view.dp_size) if view.eligible[rank]),
            key=lambda rank: (view.num_running[rank], view.kv_tokens[rank]),
        )


class Counted(Fewest):
    """Fewest so far, as it counts itself."""

    name = "counted"
    memory: ClassVar[Memory] = Memory(calls=1, counts=lambda _policy, ranks: ranks)

    @staticmethod
    def before(view, request):
        view.memory[0] += 1

    @staticmethod
    def score(view, request, rank):
        return view.memory[1 + rank]

    @staticmethod
    def after(view, request, rank):
        view.memory[1 + rank] += 1

    def statistics(self, memory):
        return {"memory": memory.tolist()}


def replayed(workload, policy, ranks=3, seed=0):
    cluster = Cluster(ranks, 4, StepTimeModel("test", shared_s=0.01, per_token_s=1e-6))
    return replay(workload, cluster, policy, Conditions("backlog", seed=seed))


def ranks_of(*arguments, **options):
    return replayed(*arguments, **options).trace.requests["rank"].to_list()


def test_the_lowest_of_equal_ranks_is_taken(workload_of):
    assert ranks_of(workload_of([5] * 6, [9] * 6), Fewest()) == [0, 1, 2, 0, 1, 2]


def test_rotating_ties_begin_one_rank_further_with_each_decision(workload_of):
    assert FewestInTurn.memory is TURN
    # The scan starts at 0, 1, 2, 0, 1, 2; with single-token requests all ranks are equal again in each step.
    workload = workload_of([5] * 5, [1] * 5, arrivals=[0, 100, 200, 300, 400])
    cluster = Cluster(3, 4, StepTimeModel("test", shared_s=0.01, per_token_s=1e-6))
    found = replay(workload, cluster, FewestInTurn(), Conditions())
    assert found.trace.requests["rank"].to_list() == [0, 1, 2, 0, 1]


def test_random_ties_depend_on_the_seed_and_reach_every_equal_rank(workload_of):
    assert FewestAtRandom.uses_draws
    workload = workload_of([5] * 300, [1] * 300)
    firsts = ranks_of(workload, FewestAtRandom(), ranks=8)
    assert firsts == ranks_of(workload, FewestAtRandom(), ranks=8)
    assert firsts != ranks_of(workload, FewestAtRandom(), ranks=8, seed=1)
    first_of_steps = firsts[:: 8 * 4]
    assert len(set(first_of_steps)) > 3
    assert np.bincount(firsts, minlength=8).min() > 30


def test_a_score_may_be_a_tuple(workload_of):
    draws = np.random.default_rng(3)
    workload = workload_of(draws.integers(1, 900, 80), draws.integers(1, 20, 80))
    assert ranks_of(workload, LeastPair()) == ranks_of(workload, LeastPairInPython())


def test_what_happens_before_and_after_a_decision_happens_once(workload_of):
    found = replayed(workload_of([5] * 7, [9] * 7), Counted())
    assert found.statistics["memory"] == [7.0, 3.0, 2.0, 2.0]


def test_a_score_written_as_a_method_is_refused():
    class Method(Fewest):
        name = "method"

        def score(self, view, request, rank):
            return 0

    with pytest.raises(
        UsageError, match=r"class Method: score: is a method, expected @staticmethod def score\(view, re"
    ):
        check_policy(Method)


def test_rotating_ties_need_the_start_of_the_scan_first_in_memory():
    class Wrong(FewestInTurn):
        name = "wrong"
        memory: ClassVar[Memory] = Memory(seen=1)

    with pytest.raises(UsageError, match=r"class Wrong: memory: rotating ties keep .* expected TURN.with_parts\(…\)"):
        check_policy(Wrong)

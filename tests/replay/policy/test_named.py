"""Parameters and memory are reached by name: what is put in between shifts nothing."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import ClassVar

import pytest

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import Cluster, Conditions, replay
from lbal.replay.policy.checks import check_policy
from lbal.replay.policy.named import Memory, parameters_of, per_rank
from lbal.replay.policy.policy import POLICIES, Router, parse_policy
from lbal.replay.policy.predictors import Predicting

POLICY = """
from dataclasses import dataclass
from typing import ClassVar
from lbal.replay.policy.named import Memory, parameters_of, per_rank
from lbal.replay.policy.policy import Router

@dataclass(frozen=True)
class Mine(Router):
    '''Every n-th request to the last rank that is free, the others to the first.'''
    {before}
    every: int = 3
    name: ClassVar[str] = "mine"
    looks_at: ClassVar[str] = "nothing"
    memory: ClassVar[Memory] = Memory({part} seen=1, sent=per_rank)

    @staticmethod
    def choose(view, request):
        view.memory[M.seen] += 1
        rank = view.eligible.argmax()
        if view.memory[M.seen] % view.parameters[P.every] == 0:
            for other in range(view.dp_size):
                if view.eligible[other]:
                    rank = other
        view.memory[M.sent + rank] += 1
        return rank

P, M = parameters_of(Mine), Mine.memory.places
"""


@pytest.mark.parametrize("name", POLICIES.names())
def test_places_of_parameters_are_those_of_the_numbers_that_a_rule_sees(name):
    policy = parse_policy(name)
    places = parameters_of(type(policy))._asdict()
    assert list(places) == list(policy.parameters())
    assert list(places.values()) == list(range(len(policy.numbers())))


@pytest.mark.parametrize(
    ("before", "part"), [("", ""), ("other: float = 9.0", ""), ("", "other=5,"), ("o: int = 1", "p=2,")]
)
def test_a_parameter_or_part_that_is_put_before_others_changes_nothing(tmp_path, workload_of, before, part):
    (tmp_path / "mine.py").write_text(textwrap.dedent(POLICY.format(before=before, part=part)))
    cluster = Cluster(3, 4, StepTimeModel("test", shared_s=0.01, per_token_s=1e-6))
    replayed = replay(
        workload_of([5] * 6, [9] * 6), cluster, parse_policy(str(tmp_path / "mine.py")), Conditions("backlog")
    )
    assert replayed.trace.requests["rank"].to_list() == [0, 0, 2, 0, 0, 2]


def test_memory_has_its_parts_one_behind_the_other():
    memory = Memory(turn=1, bins=8).with_parts(last=2, counts=per_rank)
    assert memory.places._asdict() == {"turn": 0, "bins": 1, "last": 9, "counts": 11}
    assert memory.size(None, 16) == 27
    assert Memory().size(None, 16) == 0


def test_only_the_last_part_may_depend_on_the_cluster():
    with pytest.raises(ValueError, match="memory: counts: its size is a function, expected that of the last part only"):
        Memory(counts=per_rank, turn=1)


def test_a_base_whose_parameters_would_move_is_refused():
    @dataclass(frozen=True)
    class Other(Router):
        weight: float = 1.0

    @dataclass(frozen=True)
    class Mixed(Predicting, Other):
        name: ClassVar[str] = "mixed"
        looks_at: ClassVar[str] = "nothing"

        @staticmethod
        def choose(view, request):
            return 0

    with pytest.raises(UsageError, match="class Mixed: predictor: the rules of Predicting expect its parameters"):
        check_policy(Mixed)


def test_a_parameter_cannot_take_a_name_that_policies_use():
    @dataclass(frozen=True)
    class Taken(Router):
        memory: float = 1.0  # type: ignore[assignment,misc]
        name: ClassVar[str] = "taken"
        looks_at: ClassVar[str] = "nothing"

        @staticmethod
        def choose(view, request):
            return 0

    with pytest.raises(UsageError, match="class Taken: memory: no parameter can have this name"):
        check_policy(Taken)

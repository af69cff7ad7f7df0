"""A compiled policy that leaves its arrays is stopped before it runs, or as soon as it does: it harms nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from lbal.analyzers.errors import PolicyError
from lbal.replay.engine.trial import try_policies, try_policy
from lbal.replay.policy.policy import POLICIES, parse_policy

POLICY = """
from dataclasses import dataclass
from typing import ClassVar
import numba
from lbal.replay.policy.compilable import jitable
from lbal.replay.policy.policy import Router, Selector

@jitable
def helper(view, place):
    return view.memory[place]

@numba.njit
def their_own(array, place):
    return array[place]

@dataclass(frozen=True)
class Mine(Router):
    '''A rule for tests.'''
    weight: float = 1.0
    name: ClassVar[str] = "mine"
    looks_at: ClassVar[str] = "nothing"

    {memory}

    @staticmethod
    def choose(view, request):
        {statement}
        return view.eligible.argmax()
"""
MEMORY = "def memory_size(self, dp_size): return 3"


def file_with(tmp_path, statement, memory=""):
    file = tmp_path / "mine.py"
    file.write_text(textwrap.dedent(POLICY).format(statement=statement, memory=memory))
    return file


def replayed(tmp_path, file, requests=60):
    """`lbal replay` with the policy after a built-in one, in a process of its own."""
    (tmp_path / "t.csv").write_text("input_length,output_length\n" + "5,3\n" * requests)
    command = [sys.executable, "-m", "lbal.cli", "replay", "t.csv", "--dp-size", "4", "--max-num-seqs", "2"]
    command += ["--policy", "jsq", "--policy", str(file), "-o", "out.json"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def refused(tmp_path, done):
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    assert not (tmp_path / "out.json").exists()
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("view.memory[0] += 1", "view.memory[0] is out of bounds, it has 0 numbers"),
        ("view.memory[100_000 + request] = 1.0", "view.memory[100000] is out of bounds, it has 0 numbers"),
        ("view.memory[-1] = 1.0", "view.memory[-1] is out of bounds, it has 0 numbers"),
        ("helper(view, 7)", "view.memory[7] is out of bounds, it has 0 numbers"),
        ("their_own(view.memory, 2)", "view.memory[2] is out of bounds, it has 0 numbers"),
    ],
)
def test_a_rule_that_forgets_its_memory_is_refused_before_any_replay(tmp_path, statement, message):
    file = file_with(tmp_path, statement)
    line = refused(tmp_path, replayed(tmp_path, file))
    assert line.startswith("lbal: policy mine: mine.py:")
    assert message in line
    assert line.endswith("expected memory: ClassVar[Memory] = Memory(…) in Mine with all that the rule keeps")


def test_a_rule_that_reads_past_its_parameters_is_refused_with_their_names(tmp_path):
    line = refused(tmp_path, replayed(tmp_path, file_with(tmp_path, "weight = view.parameters[1]")))
    assert "view.parameters[1] is out of bounds, it has 1 numbers" in line
    assert line.endswith("expected a place among the parameters of Mine: weight")


@pytest.mark.parametrize(
    ("statement", "remedy"),
    [
        ("view.draws[request, 0]", "uses_draws: ClassVar[bool] = True in Mine"),
        ("view.output_tokens[request]", "uses_true_lengths: ClassVar[bool] = True in Mine"),
        ("view.recorded_rank[request]", "uses_recorded_rank: ClassVar[bool] = True in Mine"),
        ("view.survivors[0]", "learns_lengths: ClassVar[bool] = True in Mine"),
        ("view.kv_tokens[view.dp_size]", "view.kv_tokens[1] is out of bounds, it has 1 numbers"),
        ("1 / (view.dp_size - 1)", "its rule raised ZeroDivisionError: division by zero (tried on 1 rank)"),
        ("raise SystemExit", "its rule raised SystemExit (tried on 1 rank)"),
    ],
)
def test_what_a_rule_may_not_read_is_told_with_the_remedy(tmp_path, statement, remedy):
    policy = parse_policy(str(file_with(tmp_path, statement)))
    with pytest.raises(PolicyError) as raised:
        try_policies([policy], 8)
    assert remedy in str(raised.value)


def test_the_number_of_ranks_of_the_replay_is_tried_too(tmp_path):
    policy = parse_policy(str(file_with(tmp_path, "view.memory[view.dp_size - 1]", MEMORY)))
    try_policies([policy], 3)
    with pytest.raises(PolicyError, match=r"view.memory\[7\] is out of bounds, it has 3 numbers \(tried on 8 ranks\)"):
        try_policies([policy], 8)


@pytest.mark.parametrize("call", ["view.memory[{place}]", "helper(view, {place})", "their_own(view.memory, {place})"])
def test_what_the_trial_does_not_reach_is_stopped_when_it_is_reached(tmp_path, call):
    file = file_with(tmp_path, call.format(place="100_000 * (request // 50)"), MEMORY)
    line = refused(tmp_path, replayed(tmp_path, file))
    assert line.startswith("lbal: policy mine: its rule reads or writes outside an array, expected a memory")


def test_a_rule_of_lbal_in_a_class_of_others_is_checked_too(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from lbal.replay.policies.round_robin import RoundRobin\n\n"
        "class Mine(RoundRobin):\n    name = 'mine'\n    def memory_size(self, dp_size): return 0\n"
    )
    assert "view.memory[0] is out of bounds" in refused(tmp_path, replayed(tmp_path, file))


def test_a_rule_that_stays_within_its_arrays_runs(tmp_path):
    done = replayed(tmp_path, file_with(tmp_path, "view.memory[2] += helper(view, 1) + view.parameters[0]", MEMORY))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.json").exists()


VARIANTS = ["bf-io:horizon=3", "bf-io:horizon=3,predictor=noisy", "waterline:horizon=3", "waterline:horizon=2,predictor=mean",
            "br-h:horizon=4,predictor=oracle", "vllm:clients=3", "vllm:variant=legacy,stale=0", "power-of-two:signal=kv",
            "round-robin:restart=true", "sglang-total-tokens:stale=0", "llm-d:stale=0"]  # fmt: skip


@pytest.mark.parametrize("spec", [*POLICIES.names(), *VARIANTS])
def test_every_policy_of_lbal_stays_within_its_arrays(spec):
    policy = parse_policy(spec)
    try_policy(policy, 5)

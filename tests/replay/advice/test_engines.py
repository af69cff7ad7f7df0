"""The settings of each engine: their flags say in the engine's spelling what their rule, router and slots are."""

from __future__ import annotations

import pytest

from lbal.replay.advice.engines import ENGINES
from lbal.replay.advice.setting import DEFAULT, Replayed
from lbal.replay.policy.policy import POLICIES, labelled, parse_policy
from lbal.replay.prefill.rule import parse_prefill

SLOTS, RANKS = 32, 8


def default_of(name, prefill=None):
    rule = parse_prefill(prefill or name)
    return Replayed(rule, ENGINES[name].policy, SLOTS)


def tried(name, prefill=None, *, may_double=True):
    return ENGINES[name].tried(default_of(name, prefill), RANKS, may_double=may_double)


def flags_of(name, replayed):
    """The flags of what is replayed, written here from the rule, the router and the slots, and from nothing else."""
    default, rule = default_of(name), replayed.rule
    found = []
    if name == "vllm" and rule.interval != default.rule.interval:
        found.append(f"--prefill-schedule-interval {rule.interval}")
    if name == "sglang":
        found += ["--enable-prefill-delayer"] * rule.delayer
        found += [f"--prefill-decode-interval {rule.interval}"] * (rule.interval > 0)
        if replayed.policy != default.policy:
            found.append(f"--load-balance-method {replayed.policy.removeprefix('sglang-').replace('-', '_')}")
    if name == "trtllm" and rule.balance:
        found.append(
            f"attention_dp_config: {{enable_balance: true, timeout_iters: {rule.timeout}, "
            f"batching_wait_iters: {rule.batch}}}"
        )
    if replayed.max_num_seqs != SLOTS:
        slots = replayed.max_num_seqs
        flag = {
            "vllm": f"--max-num-seqs {slots}",
            "sglang": f"--max-running-requests {slots * RANKS}",  # SGLang's flag is of all ranks
            "trtllm": f"max_batch_size: {slots}",
        }[name]
        found.append(flag)
    return found


@pytest.mark.parametrize("name", ENGINES)
def test_the_flags_of_every_setting_are_what_is_replayed(name):
    (default, as_it_comes), *others = tried(name)
    assert (default.name, default.flags, flags_of(name, as_it_comes)) == (DEFAULT, "", [])
    assert [[setting.flags] for setting, _replayed in others] == [flags_of(name, each) for _setting, each in others]


def test_the_settings_that_are_tried_are_those_that_are_stated():
    assert {name: [setting.name for setting, _replayed in tried(name)] for name in ENGINES} == {
        "vllm": ["default", "interval 2", "interval 4", "16 slots", "64 slots"],
        "sglang": [
            "default", "delayer", "decode-interval 4", "decode-interval 8", "sglang-total-requests",
            "sglang-total-tokens", "16 slots", "64 slots",
        ],
        "trtllm": ["default", "balance 10+0", "balance 10+10", "balance 50+0", "balance 50+10", "16 slots", "64 slots"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "prefill", "back"),
    [
        ("vllm", "vllm:interval=2", "--prefill-schedule-interval 1"),
        ("sglang", "sglang:delayer=true", "without --enable-prefill-delayer"),
        ("sglang", "sglang:interval=4", "--prefill-decode-interval 0"),
        ("trtllm", "trtllm:balance=true", "attention_dp_config: {enable_balance: false}"),
    ],
)
def test_where_an_engine_runs_with_a_setting_the_way_back_is_tried_and_the_setting_is_not_twice(name, prefill, back):
    found = tried(name, prefill)
    assert back in [setting.flags for setting, _replayed in found]
    assert [replayed for _setting, replayed in found].count(default_of(name, prefill)) == 1


def test_other_parameters_of_the_rule_stay_as_they_are_given():
    for _setting, replayed in tried("sglang", "sglang:chunk=16384,kv=reserve"):
        assert (replayed.rule.chunk, replayed.rule.kv) == (16384, "reserve")


def test_a_single_slot_is_not_halved():
    default = default_of("vllm")._replace(max_num_seqs=1)
    found = ENGINES["vllm"].tried(default, RANKS, may_double=False)
    assert [replayed.max_num_seqs for _setting, replayed in found] == [1, 1, 1]


@pytest.mark.parametrize("name", ENGINES)
def test_every_setting_can_be_the_label_of_a_run_under_a_policy_that_binds_as_the_engine_does(name):
    for setting, replayed in tried(name):
        assert labelled(f"{setting.name}={replayed.policy}") == (setting.name, replayed.policy)
        assert parse_policy(f"{setting.name}={replayed.policy}").label == setting.name
        assert ENGINES[name].binding in POLICIES.get(replayed.policy).bindings

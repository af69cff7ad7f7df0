"""A label before a policy names its run: in reports, in files, in gates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lbal.analyzers.errors import UsageError
from lbal.cli.main import run
from lbal.replay.policy.policy import labelled, parse_policy

TRACE = '{"lbal_trace": 1}\n' + "".join(
    f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i}, "output_tokens": {5 + i % 7}}}\n'
    for i in range(30)
)


@pytest.mark.parametrize(
    ("spec", "label", "rest"),
    [
        ("jsq", "", "jsq"),
        ("fair=jsq", "fair", "jsq"),
        ("fair one=bf-io:horizon=40", "fair one", "bf-io:horizon=40"),
        ("bf-io:horizon=40,x=y", "", "bf-io:horizon=40,x=y"),
        ("mine=path/to/file.py:Mine:a=1", "mine", "path/to/file.py:Mine:a=1"),
        ("path/a=b/file.py:Mine", "", "path/a=b/file.py:Mine"),
    ],
)
def test_what_is_a_label_and_what_is_a_parameter(spec, label, rest):
    assert labelled(spec) == (label, rest)


@pytest.mark.parametrize("spec", ["=jsq", "fair=", " =jsq"])
def test_a_label_without_a_policy_is_refused(spec):
    with pytest.raises(UsageError, match="a part is missing"):
        labelled(spec)


def test_a_labelled_policy_is_the_same_policy():
    policy = parse_policy("fair=power-of-two:signal=kv")
    assert policy == parse_policy("power-of-two:signal=kv")
    assert (policy.label, policy.name, policy.parameters()["signal"]) == ("fair", "power-of-two", "kv")
    assert "given_label" not in policy.parameters()


def test_the_label_names_the_run_its_file_and_its_gate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("t.jsonl").write_text(TRACE)
    flags = ["--dp-size", "2", "--max-num-seqs", "4", "--policy", "jsq", "--policy", "fair=power-of-two:signal=kv"]
    assert run(["replay", "t.jsonl", *flags, "-o", "r.json", "-o", "{policy}.out.jsonl"]) == 0
    record = json.loads(Path("r.json").read_text())
    assert [(one["label"], one["policy"]) for one in record["runs"]] == [("jsq", "jsq"), ("fair", "power-of-two")]
    assert {path.name for path in tmp_path.glob("*.out.jsonl")} == {"jsq.out.jsonl", "fair.out.jsonl"}
    assert run(["check", "r.json", "--run", "fair", "--fail-on", "steps<=1"]) == 1
    assert "steps<=1 (fair)" in capsys.readouterr().out


def test_repeats_keep_the_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("t.jsonl").write_text(TRACE)
    flags = ["--dp-size", "2", "--max-num-seqs", "4", "--policy", "fair=random", "--repeat", "2", "--jobs", "1"]
    assert run(["replay", "t.jsonl", *flags, "-o", "r.json"]) == 0
    assert json.loads(Path("r.json").read_text())["runs"][0]["label"] == "fair"


def test_two_runs_of_one_label_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("t.jsonl").write_text(TRACE)
    flags = ["--dp-size", "2", "--max-num-seqs", "4", "--policy", "a=jsq", "--policy", "a=fcfs"]
    assert run(["replay", "t.jsonl", *flags]) == 2
    assert "--policy a: stands twice" in capsys.readouterr().err

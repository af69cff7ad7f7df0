"""What cannot be served under a prefill rule is one line and exit code 2; so is a rule that is not known."""

from __future__ import annotations

import json

import pytest

from lbal.cli.main import run

CASES = {
    "a rule that is not known": (
        ["--prefill", "vlm"],
        "unknown prefill rule 'vlm'",
    ),
    "a parameter that is not known": (
        ["--prefill", "vllm:intervall=2"],
        "unknown parameter of vllm 'intervall'",
    ),
    "a parameter that is no number": (
        ["--prefill", "vllm:interval=two"],
        "--prefill 'vllm:interval=two': interval: 'two' does not fit, expected a whole number",
    ),
    "a parameter out of range": (
        ["--prefill", "vllm:interval=0"],
        "an interval of at least 1",
    ),
    "a budget below the slots": (
        ["--prefill", "vllm:budget=3"],
        "--prefill vllm:budget=3: its budget of 3 tokens is below the 4 slots of a rank",
    ),
    "a budget below a prompt that cannot be divided": (
        ["--prefill", "trtllm:max_tokens=20"],
        "its budget of 20 tokens can never take the prompt of request b of t.jsonl (30 tokens)",
    ),
    "a chunk that leaves a rank nothing": (
        ["--prefill", "sglang:chunk=1"],
        "--prefill sglang:chunk=1: its budget is 0 tokens for each of 2 ranks, expected at least 1\n",
    ),
    "a capacity below a prompt": (
        ["--prefill", "vllm", "--kv-capacity", "25"],
        "25 tokens can never hold request b of t.jsonl",
    ),
    "padding without prefill": (
        ["--no-padding"],
        "--padding: steps without prefill have none, expected --prefill NAME beside it",
    ),
    "a file that is not there": (
        ["--prefill", "none.py:Mine"],
        "--prefill none.py:Mine: there is no such file",
    ),
}


def write(folder, *lengths):
    """A trace of requests a, b, c, … with these prompt and output tokens."""
    lines = [{"lbal_trace": 1}]
    for index, (prompt, output) in enumerate(lengths):
        request = {"request_id": "abc"[index], "arrival_ms": 5.0 * index}
        lines.append({**request, "prompt_tokens": prompt, "output_tokens": output})
    (folder / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_is_one_line(name, tmp_path, monkeypatch, capsys):
    options, expected = CASES[name]
    monkeypatch.chdir(tmp_path)
    write(tmp_path, (10, 3), (30, 2))
    assert run(["replay", "t.jsonl", "--policy", "jsq", "--dp-size", "2", "--max-num-seqs", "4", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert expected in shown.err
    assert shown.err.count("\n") == 1


def test_a_prompt_of_no_tokens_has_no_first_token(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, (10, 3), (0, 2))
    command = ["replay", "t.jsonl", "--policy", "jsq", "--dp-size", "2", "--max-num-seqs", "4"]
    assert run([*command, "--prefill", "vllm"]) == 2
    assert "request b of t.jsonl has a prompt of 0 tokens" in capsys.readouterr().err


RULE = """
from dataclasses import dataclass
from typing import ClassVar
from lbal.replay.prefill.rule import PrefillRule

@dataclass(frozen=True)
class Mine(PrefillRule):
    '''Prompts of the first rank only, while anybody decodes.'''
    name: ClassVar[str] = "mine"
    source: ClassVar[str] = "here"
    left_out: ClassVar[str] = "nothing"
    tokens: int = 64
    def rank_budget(self, dp_size):
        return self.tokens
    {static}
    def release(ranks):
        for rank in range(1, ranks.dp_size):
            ranks.may_prefill[rank] = False
        return 0
"""


def test_a_rule_of_ones_own_is_a_class_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, (10, 9), (30, 2), (30, 2))
    command = ["replay", "t.jsonl", "--policy", "jsq", "--dp-size", "2", "--max-num-seqs", "4", "--json"]
    (tmp_path / "mine.py").write_text(RULE.format(static="@staticmethod"))
    assert run([*command, "--prefill", "mine.py:tokens=32"]) == 0
    assert '"label": "mine:tokens=32"' in capsys.readouterr().out
    (tmp_path / "mine.py").write_text(RULE.format(static=""))
    assert run([*command, "--prefill", "mine.py"]) == 2
    assert "class Mine: release: is a method, expected @staticmethod" in capsys.readouterr().err

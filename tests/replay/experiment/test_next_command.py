"""The last words of an analysis are a command that runs as it stands, or which log would make one possible."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import polars as pl
import pytest

import lbal
from lbal.analyzers.result.result import Result
from lbal.analyzers.trace.trace import Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_native
from lbal.cli.main import run

SAMPLES = Path(__file__).resolve().parents[3] / "sample_traces"
SKEWED = SAMPLES / "skewed_8_ranks.jsonl"


def last_line(arguments, capsys) -> str:
    assert run(["analyze", *map(str, arguments)]) == 0
    return capsys.readouterr().out.rstrip("\n").splitlines()[-1]


def results_of(command: str, capsys) -> dict:
    """What the command gives, typed into a shell."""
    program, *words = shlex.split(command)
    assert program == "lbal"
    assert run([*words, "--json"]) == 0, command
    return json.loads(capsys.readouterr().out)


def test_the_command_after_steps_runs_and_compares_what_was_recorded_with_what_balances(capsys):
    found = results_of(last_line([SKEWED], capsys), capsys)
    assert [each["label"] for each in found["runs"]] == ["recorded", "round-robin", "jsq", "bf-io", "waterline"]
    assert (found["config"]["dp_size"], found["config"]["max_num_seqs"]) == (8, 16)
    idle = [each["metrics"]["barrier_idle_fraction"]["value"] for each in found["runs"]]
    assert idle[0] == pytest.approx(0.134, abs=0.001)
    assert max(idle[3:]) < min(idle[:3])


@pytest.mark.parametrize("name", ["a run; rm -rf x.jsonl", "it's $HOME.jsonl", '"quoted" ä.jsonl', "-dash.jsonl"])
def test_names_are_quoted_so_that_the_shell_gives_them_back(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes((SAMPLES / "two_ranks_three_steps.jsonl").read_bytes())
    given = f"./{name}" if name.startswith("-") else name
    found = results_of(last_line([given], capsys), capsys)
    assert found["inputs"][0]["requests"] == 6


def changed(name: str, tmp_path: Path, requests=lambda table: table, **meta) -> Path:
    trace = lbal.read_trace(SAMPLES / name)
    assert trace.requests is not None
    steps = trace.steps
    made = Trace.of(dataclasses.replace(trace.meta, **meta), requests(trace.requests), steps)
    path = tmp_path / "changed.jsonl"
    write_native(made, path)
    return path


def test_slots_that_the_trace_does_not_tell_are_those_that_were_taken(tmp_path, capsys):
    path = changed(SKEWED.name, tmp_path, max_num_seqs=None)
    command = last_line([path], capsys)
    assert "--dp-size 8 --max-num-seqs 16 " in command
    assert results_of(command, capsys)["runs"][0]["policy"] == "recorded"
    assert "--max-num-seqs 24 " in last_line([path, "--max-num-seqs", 24], capsys)


def test_without_ranks_of_requests_nothing_recorded_is_replayed(tmp_path, capsys):
    command = last_line([changed(SKEWED.name, tmp_path, requests=lambda table: table.drop("rank"))], capsys)
    assert [each["label"] for each in results_of(command, capsys)["runs"]] == [
        "round-robin",
        "jsq",
        "bf-io",
        "waterline",
    ]


def test_requests_without_times_are_replayed_as_a_backlog(tmp_path, capsys):
    drop = ("arrival_ms", "admitted_ms", "first_token_ms", "finish_ms")
    command = last_line([changed(SKEWED.name, tmp_path, requests=lambda table: table.drop(drop))], capsys)
    assert results_of(command, capsys)["config"]["arrivals"] == "backlog"


def test_how_the_trace_was_read_and_the_models_that_were_named_go_along(capsys):
    options = ["--format", "native", "--step-model", "paper-release", "--rank-speed", "3=0.8"]
    found = results_of(last_line([SKEWED, *options], capsys), capsys)
    assert found["config"]["step_model"]["name"] == "paper-release"
    assert found["config"]["step_model"]["rank_speed"] == {"3": 0.8}


def test_the_command_after_requests_runs_too(capsys):
    command = last_line([SAMPLES / "requests_2000.jsonl"], capsys)
    labels = [each["label"] for each in results_of(command, capsys)["runs"]]
    assert labels == ["round-robin", "jsq", "bf-io", "waterline"]


def test_ranks_beyond_the_assumed_size_are_no_reason_to_suggest_what_cannot_run(tmp_path, capsys):
    table = pl.DataFrame(
        {"request_id": ["a", "b"], "arrival_ms": [0.0, 1.0], "prompt_tokens": [9, 9], "output_tokens": [3, 3]}
    ).with_columns(rank=pl.Series([0, 11]))
    path = tmp_path / "requests.jsonl"
    write_native(Trace.of(TraceMeta("made", "native"), table), path)
    assert results_of(last_line([path], capsys), capsys)["runs"]


def test_sizes_that_a_log_does_not_tell_are_left_to_the_reader(tmp_path):
    path = tmp_path / "server.log"
    line = (
        "Decode batch, #running-req: 5, #token: 500, token usage: 0.41, gen throughput (token/s): 40.0, #queue-req: 0"
    )
    path.write_text(f"[2026-03-17 17:35:07 TP0] {line}\n")
    assert "--dp-size RANKS --max-num-seqs SLOTS " in lbal.analyze(lbal.read_trace(path)).next["advice"]
    assert "--max-num-seqs 32 " in lbal.analyze(lbal.read_trace(path), max_num_seqs=32).next["advice"]


def test_the_command_in_the_advice_runs_on_the_log_that_it_names(tmp_path, capsys, shared):
    """Of SGLang, whose request log tells ranks."""
    trace = lbal.read_trace(SKEWED)
    alone = Trace.of(dataclasses.replace(trace.meta, engine="sglang", format="a log"), None, trace.steps)
    command = lbal.analyze(alone).next["advice"].partition("Then: ")[2]
    log = shared / "logs" / "sglang_request_metrics_file.jsonl"
    found = results_of(command.replace("REQUESTS", str(log)), capsys)
    assert [each["label"] for each in found["runs"]] == ["recorded", "round-robin", "jsq", "bf-io", "waterline"]


@pytest.mark.parametrize(
    ("engine", "says"),
    [
        ("sglang", "--log-requests --log-requests-format json"),
        ("vllm 0.11", "--otlp-traces-endpoint"),
        ("dynamo", "DYN_REQUEST_TRACE=1"),
        ("tensorrt-llm", "load generator"),
    ],
)
def test_steps_without_requests_say_which_log_has_them(engine, says, tmp_path, capsys):
    trace = lbal.read_trace(SKEWED)
    alone = Trace.of(dataclasses.replace(trace.meta, engine=engine, format="a log"), None, trace.steps)
    found = lbal.analyze(alone)
    assert says in found.next["advice"]
    assert found.next["advice"].startswith("Other policies can be replayed on requests, which are not in here: ")
    assert "command" not in found.next
    assert "--dp-size 8 --max-num-seqs 16 --policy " in found.next["advice"]
    assert ("--policy recorded" in found.next["advice"]) == (engine in ("sglang", "dynamo"))
    path = tmp_path / "steps.jsonl"
    write_native(Trace.of(dataclasses.replace(trace.meta, engine=None), None, trace.steps), path)
    assert last_line([path], capsys).endswith(
        'lines with "request_id", "arrival_ms", "prompt_tokens", "output_tokens" and "rank" would tell them.'
    )


def test_what_comes_next_is_in_stored_results_and_their_reports(tmp_path, capsys):
    result = lbal.analyze(lbal.read_trace(SKEWED))
    again = Result.from_dict(result.as_dict())
    assert again.next == result.next
    again.write(tmp_path / "x.md")
    assert result.next["command"] in (tmp_path / "x.md").read_text()
    record = {**result.as_dict(), "next": {"command": 3}}
    with pytest.raises(lbal.LbalError, match="command"):
        Result.from_dict(record)

"""Several files as the input of one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forward_passes import record

import lbal
from lbal.cli.main import run

MODEL = ["--step-model", "C=0.001,a=1e-6,b=1e-6,b_mean=0"]


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    for rank, tokens in ((0, 100), (1, 300)):
        lines = [record(rank, step, kv_tokens=tokens) for step in range(3)]
        (tmp_path / f"server-DP{rank}.log").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("how", ["files", "directory", "glob"])
def test_the_logs_of_ranks_are_one_input(how: str, logs: Path, capsys) -> None:
    files = sorted(str(path) for path in logs.glob("*.log"))
    names = {"files": files, "directory": [str(logs)], "glob": [f"{logs}/*-DP?.log"]}[how]
    assert run(["analyze", *names, *MODEL, "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    (found,) = result["inputs"]
    assert [(source["name"], source["ranks"]) for source in found["sources"]] == [(files[0], [0]), (files[1], [1])]
    assert (found["steps"], found["alignment"]) == (3, "step")
    assert result["runs"][0]["metrics"]["imbalance_tokens_mean"]["value"] == 200
    assert f"ranks by file: {files[0]} 0; {files[1]} 1" in err


def test_no_output_overwrites_any_of_the_inputs(logs: Path, capsys) -> None:
    second = logs / "server-DP1.log"
    target = logs / "out.json"
    target.hardlink_to(second)
    before = second.read_bytes()
    assert run(["analyze", str(logs / "server-DP0.log"), str(second), *MODEL, "-o", str(target), "--force"]) == 2
    assert "expected another file" in capsys.readouterr().err
    assert second.read_bytes() == before


def test_a_joined_trace_is_converted_whole(logs: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "joined.jsonl"
    assert run(["convert", f"{logs}/server-DP0.log", f"{logs}/server-DP1.log", str(out)]) == 0
    assert json.loads(out.read_text().splitlines()[1])["kv_tokens"] == [100, 300]
    header = json.loads(out.read_text().splitlines()[0])
    assert [source["ranks"] for source in header["sources"]] == [[0], [1]]
    capsys.readouterr()


def test_the_run_of_a_log_with_restarts_is_chosen(tmp_path: Path, capsys) -> None:
    path = tmp_path / "x.log"
    path.write_text(
        "".join(record(0, step, kv_tokens=tokens) for tokens, steps in ((5, 2), (7, 3)) for step in range(steps))
    )
    assert run(["convert", str(path), "-", "--run-index", "0"]) == 0
    assert [json.loads(line)["kv_tokens"] for line in capsys.readouterr().out.splitlines()[1:]] == [[5], [5]]


def test_a_name_without_a_rank_is_refused_where_a_pattern_is_given(logs: Path, capsys) -> None:
    assert run(["validate", str(logs)]) == 0
    assert run(["analyze", str(logs), "--rank-regex", r"pod(\d)"]) == 2
    assert "does not fit" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["analyze", "validate", "convert"])
def test_ranks_that_no_log_shows_are_unseen_ranks(command: str, logs: Path, capsys) -> None:
    out = [str(logs / "joined.jsonl")] if command == "convert" else []
    files = (
        [f"{logs}/server-DP0.log"] if command == "validate" else [f"{logs}/server-DP0.log", f"{logs}/server-DP1.log"]
    )
    assert run([command, *files, *out, "--dp-size", "4", *(MODEL if command == "analyze" else [])]) == 0
    said = capsys.readouterr()
    assert ("4 ranks" in said.out) or out
    if command == "analyze":
        assert "a lower bound, of 2 of 4 ranks" in said.out
        assert "with the others idle is no less, and what was avoidable is not known" in said.out
        assert "the straggler may be on a rank that is not there" in said.err
        assert "lbal replay REQUESTS --dp-size 4 " in said.out
    if out:
        header, step, *_ = map(json.loads, Path(out[0]).read_text().splitlines())
        assert (header["dp_size"], header["ranks_seen"], step["kv_tokens"]) == (4, [0, 1], [100, 300, None, None])


def test_the_number_of_ranks_goes_with_a_model_that_is_fitted(logs: Path, capsys) -> None:
    assert run(["calibrate", str(logs), "--dp-size", "1"]) == 2
    assert capsys.readouterr().err == "lbal: --dp-size: 1 does not fit, expected at least 2: rank 1 is there\n"


def test_a_number_of_ranks_that_contradicts_the_trace_is_refused_in_one_line(tmp_path: Path, capsys) -> None:
    log, native = tmp_path / "server.log", tmp_path / "steps.jsonl"
    log.write_text(
        "[2026-08-22 10:00:00] server_args=ServerArgs(model_path='m', dp_size=8, tp_size=8)\n"
        + "".join(f"[2026-08-22 10:00:01 DP{rank}] Decode batch, #running-req: 3, #token: 90, #queue-req: 0\n" for rank in (0, 1))
    )  # fmt: skip
    native.write_text('{"lbal_trace": 1}\n{"step": 0, "kv_tokens": [5, 6], "num_running": [1, 1]}\n')
    for path, size, expected in (
        (log, 16, "expected 8: the log tells dp_size=8"),
        (native, 3, f"expected 2, as {native} tells"),
    ):
        assert run(["analyze", str(path), "--dp-size", str(size)]) == 2
        assert capsys.readouterr().err == f"lbal: --dp-size: {size} does not fit, {expected}\n"
    assert run(["analyze", str(log), "--dp-size", "8"]) == 0
    capsys.readouterr()


def test_the_number_of_ranks_of_a_request_trace_is_that_of_its_replay(tmp_path: Path, capsys) -> None:
    path = tmp_path / "requests.jsonl"
    record = {"arrival_ms": 0, "prompt_tokens": 5, "output_tokens": 5, "rank": 3}
    path.write_text(
        '{"lbal_trace": 1}\n' + "".join(json.dumps({"request_id": each, **record}) + "\n" for each in range(3))
    )
    assert run(["analyze", str(path), "--dp-size", "16"]) == 0
    assert f"lbal replay {path} --dp-size 16 " in capsys.readouterr().out
    assert run(["analyze", str(path), "--dp-size", "3"]) == 2
    assert "expected at least 4: rank 3 is there" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -1, 1 << 20])
def test_a_size_that_cannot_be_is_refused_by_the_library_too(size: int) -> None:
    with pytest.raises(lbal.UsageError, match=f"{size} does not fit"):
        lbal.ReadOptions(dp_size=size)

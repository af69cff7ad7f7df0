"""Several files as the input of one command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forward_passes import record

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

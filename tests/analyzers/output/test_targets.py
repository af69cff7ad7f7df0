"""No output overwrites what is read, and no two outputs are one file; both are told before any work."""

from __future__ import annotations

import json
import os
import socket
import sys

import pytest

from lbal.analyzers.output.targets import names_per_run
from lbal.cli.main import run

TRACE = '{"lbal_trace": 1}\n' + "".join(
    f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i}, "output_tokens": {5 + i % 7}}}\n'
    for i in range(30)
)
SMALL = ["--dp-size", "2", "--max-num-seqs", "4"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty directory with a trace `jsq.jsonl`, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jsq.jsonl").write_text(TRACE)
    return tmp_path


@pytest.fixture
def result(here, capsys):
    """A result `r.json` beside the trace."""
    assert run(["replay", "jsq.jsonl", *SMALL, "--policy", "jsq", "-o", "r.json"]) == 0
    capsys.readouterr()
    return here / "r.json"


def refused(capsys, *arguments):
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_pattern_never_names_the_input(here, capsys):
    before = (here / "jsq.jsonl").read_bytes()
    for policies in (["jsq"], ["fcfs", "jsq"]):
        flags = [part for name in policies for part in ("--policy", name)]
        message = refused(capsys, "replay", "jsq.jsonl", *SMALL, *flags, "-o", "{policy}.jsonl", "--force")
        assert "jsq.jsonl: is the input" in message
    assert (here / "jsq.jsonl").read_bytes() == before
    assert [path.name for path in here.iterdir()] == ["jsq.jsonl"], "refused before any work"


def test_two_runs_of_one_policy_have_files_of_their_own(here, capsys):
    flags = ["--policy", "power-of-two:signal=kv", "--policy", "power-of-two", "--policy", "fcfs"]
    assert run(["replay", "jsq.jsonl", *SMALL, *flags, "-o", "{policy}.out.jsonl"]) == 0
    names = {path.name for path in here.glob("*.out.jsonl")}
    assert names == {"power-of-two_signal=kv.out.jsonl", "power-of-two.out.jsonl", "fcfs.out.jsonl"}
    engines = {
        json.loads(path.read_text().splitlines()[0])["config"]["parameters"]["signal"] for path in here.glob("p*")
    }
    assert len(engines) == 2


def test_labels_become_names_that_any_file_system_takes():
    [name, other] = names_per_run("out/{policy}.jsonl", [("mine", "mine:p=../../etc/x y*"), ("mine", "mine")])
    assert name == "out/mine_p=.._.._etc_x_y_.jsonl"
    assert other == "out/mine.jsonl"


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_to_the_input_is_the_input(here, capsys, link):
    other = here / "other.jsonl"
    (other.symlink_to if link == "symbolic" else other.hardlink_to)(here / "jsq.jsonl")
    assert "is the input" in refused(capsys, "convert", "jsq.jsonl", "other.jsonl", "--force")
    assert (here / "jsq.jsonl").read_text() == TRACE


def test_two_outputs_that_are_links_of_each_other_are_refused(here, capsys):
    (here / "a.json").write_text("{}")
    (here / "b.json").hardlink_to(here / "a.json")
    outputs = ["-o", "a.json", "-o", "b.json", "--force"]
    assert "b.json: is the same file as a.json" in refused(capsys, "replay", "jsq.jsonl", *SMALL, *outputs)


def test_standard_input_from_a_file_is_an_input_too(here, monkeypatch, capsys):
    with open("jsq.jsonl", "rb") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert "is the input" in refused(capsys, "convert", "-", "jsq.jsonl", "--force")


def test_nothing_is_written_into_a_trace_that_is_read(here, capsys):
    assert run(["convert", "jsq.jsonl", "t.parquet"]) == 0
    capsys.readouterr()
    inside = ["-o", "t.parquet/meta.json", "--force"]
    assert "is the input" in refused(capsys, "analyze", "t.parquet", *inside)
    assert "is the input" in refused(capsys, "convert", "t.parquet/requests.parquet", "t.parquet", "--force")


def test_a_check_writes_over_neither_its_head_nor_its_baseline_nor_its_settings(result, capsys):
    here = result.parent
    (here / "base.json").write_bytes(result.read_bytes())
    (here / "lbal.toml").write_text('[check]\nbaseline = "base.json"\nfail-on = ["barrier_idle_fraction:+5%"]\n')
    for flags in (["-o", "base.json"], ["--report", "json=base.json"], ["-o", "r.json"]):
        message = refused(capsys, "check", "r.json", *flags, "--force")
        assert "is read as base.json" in message or "is the input" in message
    assert "is read as lbal.toml" in refused(capsys, "check", "r.json", "--report", "json=lbal.toml", "--force")
    assert "is the input" in refused(capsys, "check", "r.json", "--record-baseline", "--baseline", "r.json")
    twice = ["--report", "junit=out.xml", "-o", "out.xml"]
    assert "out.xml: stands twice" in refused(capsys, "check", "r.json", *twice)


def test_models_and_policies_of_the_user_are_read_and_so_never_written(here, capsys):
    (here / "m.json").write_text('{"C": 0.01, "a": 1e-7}')
    model = ["--step-model", "m.json", "-o", "m.json", "--force"]
    assert "is read as m.json" in refused(capsys, "analyze", "jsq.jsonl", *model)
    assert "is read as m.json" in refused(capsys, "replay", "jsq.jsonl", *SMALL, *model)


def test_compare_writes_over_none_of_its_results(result, capsys):
    (result.parent / "s.json").write_bytes(result.read_bytes())
    for name in ("r.json", "s.json"):
        message = refused(capsys, "compare", "r.json", "s.json", "-o", name, "--force")
        assert f"{name}: is " in message


def test_devices_pipes_and_sockets_are_not_replaced_by_files(here, capsys):
    os.mkfifo(here / "pipe.json")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.json")
        for name in ("pipe.json", "socket.json"):
            assert "is no regular file" in refused(capsys, "analyze", "jsq.jsonl", "-o", name, "--force")


def test_a_suffix_in_capitals_is_the_same_suffix(here, capsys):
    assert run(["analyze", "jsq.jsonl", "-o", "X.HTML", "-o", "X.Json"]) == 0
    assert (here / "X.HTML").read_text().startswith("<!doctype html>")
    assert run(["replay", "jsq.jsonl", *SMALL, "--policy", "jsq", "-o", "T.PARQUET", "-o", "T.JSONL.GZ"]) == 0
    assert (here / "T.PARQUET" / "meta.json").is_file()
    assert (here / "T.JSONL.GZ").read_bytes().startswith(b"\x1f\x8b")
    assert run(["convert", "jsq.jsonl", "U.Parquet"]) == 0
    assert (here / "U.Parquet" / "meta.json").is_file()
    capsys.readouterr()

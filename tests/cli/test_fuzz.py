"""Whatever a number, a document or a line holds, a command ends with 0, 1 or 2: never 3, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbal.cli.main import run

QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
DIGITS = "1" + "0" * 400
STEPS = [
    {
        "step": i,
        "step_ms": 30 + i % 7,
        "start_ms": i * 50,
        "kv_tokens": [1000 + i * 37 % 400, 500 + i * 91 % 700],
        "num_running": [1 + i % 3, 1 + i % 4],
        "compute_ms": [7 + (i * 37 % 400) / 200, 4.5 + (i * 91 % 700) / 200],
    }
    for i in range(60)
]
STEP_HEADER = {"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 8, "config": {"drift": "1"}}
REQUESTS = [
    {"request_id": i, "arrival_ms": i * 20, "prompt_tokens": 50 + i, "output_tokens": 5 + i % 7} for i in range(30)
]
REPLAY = ["replay", "r.jsonl", "--dp-size", "2", "--max-num-seqs", "4", "--policy", "jsq"]
ADVISE = ["advise", "r.jsonl", "--engine", "vllm", "--dp-size", "2", "--max-num-seqs", "4"]
NUMBERS = [
    DIGITS, f"-{DIGITS}", "1" * 5000, "nan", "inf", "-inf", "1e999", "-1", "0", "", "1.5", "1e308", str(2**63),
    str(2**63 - 1), "999999999999", "x", "٣", "0x10", "1_000",
]  # fmt: skip
OPTIONS = [
    *[(REPLAY, flag, "{}") for flag in (
        "--dp-size", "--max-num-seqs", "--rate-scale", "--kv-capacity", "--slot-use", "--step-model", "--power-model",
        "--gpus-per-rank", "--seed", "--repeat", "--drift", "--window", "--format", "--policy",
    )],
    *[(ADVISE, flag, "{}") for flag in ("--dp-size", "--max-num-seqs", "--kv-capacity", "--rate-scale", "--prefill")],
    (ADVISE, "--prefill", "vllm:budget={}"),
    ([*REPLAY, "--arrivals", "backlog"], "--pool", "{}"),
    ([*REPLAY, "--repeat", "2"], "--jobs", "{}"),
    (REPLAY, "--drift", "window:{}"),
    (REPLAY, "--policy", "bf-io:horizon={}"),
    (["analyze", "s.jsonl"], "--max-num-seqs", "{}"),
    (["analyze", "s.jsonl"], "--step-model", "C=0.01,a={}"),
    (["analyze", "s.jsonl"], "--rank-speed", "0={}"),
    (["analyze", "s.jsonl"], "--rank-speed", "{}=0.5"),
    (["analyze", "s.jsonl"], "--costs", "pue={}"),
    (["analyze", "s.jsonl", "-o", "x.perfetto.json", "--force"], "--steps", "{}:"),
    (["analyze", "s.jsonl", "-o", "x.perfetto.json", "--force"], "--steps", "0:{}"),
    (["calibrate", "s.jsonl"], "--gpus-per-rank", "{}"),
    (["check", "result.json"], "--fail-on", "steps<={}"),
    (["check", "result.json", "--baseline", "repeated.json"], "--fail-on", "steps:+{}%"),
]  # fmt: skip
VALUES = st.sampled_from([int(DIGITS), -int(DIGITS), float("nan"), float("inf"), "\ud800", "\x1b", "", None, True, [], {},
                          [[]], -1, 0, 1.5, 1e308, 2**63, 2**70, f"window:{DIGITS}", "-1"])  # fmt: skip


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A directory with a trace of each kind, results and a model, as the current one."""
    folder = tmp_path_factory.mktemp("fuzz")
    before = Path.cwd()
    os.chdir(folder)
    write("s.jsonl", STEP_HEADER, *STEPS)
    write("r.jsonl", {"lbal_trace": 1}, *REQUESTS)
    assert run([*REPLAY, "-o", "result.json"]) == 0
    assert run([*REPLAY, "--repeat", "3", "--jobs", "1", "-o", "repeated.json"]) == 0
    assert run(["analyze", "s.jsonl", "-o", "analyzed.json"]) == 0
    assert run(["calibrate", "s.jsonl", "-o", "model.json"]) == 0
    yield folder
    os.chdir(before)


def write(name, *records):
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))


def ends_well(capsys, *arguments):
    """The command ends with 0, 1 or 2; a refusal is one line that is not too long."""
    capsys.readouterr()
    code = run(list(arguments))
    error = capsys.readouterr().err
    assert code in (0, 1, 2), error
    assert "Traceback" not in error
    if code == 2:
        assert error.count("\n") == 1, error
        assert error.startswith("lbal: ")
        assert len(error) < 2200


def places(value, place=()):
    """Each place in a document, as a path of keys."""
    yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list):
        for index in range(min(len(value), 2)):
            yield from places(value[index], (*place, index))


def changed(value, place, new):
    """A copy of a document with another value at a place."""
    if not place:
        return new
    copy = json.loads(json.dumps(value))
    part = copy
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = new
    return copy


@pytest.mark.parametrize(("command", "flag", "form"), OPTIONS)
def test_numbers_on_the_command_line(here, capsys, command, flag, form):
    for number in NUMBERS[: -2 if flag == "--repeat" else None]:  # a thousand repeats are fine, and take long
        ends_well(capsys, *command, flag, form.format(number))


@pytest.mark.parametrize("name", ["result.json", "repeated.json", "analyzed.json"])
@given(data=st.data())
@QUICK
def test_results_with_any_value_anywhere(here, capsys, name, data):
    record = json.loads(Path(name).read_text())
    place = data.draw(st.sampled_from(sorted(places(record), key=str)))
    Path("x.json").write_text(json.dumps(changed(record, place, data.draw(VALUES))))
    ends_well(capsys, "check", "x.json", "--fail-on", "barrier_idle_fraction<=5")
    ends_well(capsys, "compare", name, "x.json", "-o", "c.html", "-o", "c.md", "-o", "c.csv", "-o", "c.xml", "--force")


@given(data=st.data())
@QUICK
def test_models_with_any_value_anywhere(here, capsys, data):
    record = json.loads(Path("model.json").read_text())
    place = data.draw(st.sampled_from(sorted(places(record), key=str)))
    Path("x.json").write_text(json.dumps(changed(record, place, data.draw(VALUES))))
    ends_well(capsys, "analyze", "s.jsonl", "--step-model", "x.json")


@given(data=st.data())
@QUICK
def test_headers_and_lines_with_any_value_anywhere(here, capsys, data):
    lines = [
        {**STEP_HEADER, "kind": "replayed", **dict.fromkeys(("seed", "step_model", "engine", "excluded", "warnings"))},
        *STEPS[:5],
    ]
    for name, value in (("excluded", {"a": 1}), ("warnings", ["w"]), ("step_model", {"C": 1})):
        lines[0][name] = value
    row = data.draw(st.sampled_from([0, 1, 2]))
    place = data.draw(st.sampled_from(sorted(places(lines[row]), key=str)))
    lines[row] = changed(lines[row], place, data.draw(VALUES))
    write("x.jsonl", *lines)
    ends_well(capsys, "analyze", "x.jsonl", "--json")
    ends_well(capsys, "convert", "x.jsonl", "x.parquet", "--force")


@given(data=st.data())
@QUICK
def test_request_lines_with_any_value_anywhere(here, capsys, data):
    record = changed(REQUESTS[1], data.draw(st.sampled_from(sorted(places(REQUESTS[1]), key=str))), data.draw(VALUES))
    write("x.jsonl", {"lbal_trace": 1}, record, *REQUESTS[2:])
    ends_well(capsys, "analyze", "x.jsonl")


BYTES = [
    b"[" * 200_000, b'{"a":' * 100_000, b"\xff\xfe", b"1" * 5000, b'{"schema": 1e999}', b"", b"null", b"\0" * 100,
    b"\xef\xbb\xbf{}", b'{"schema": "lbal.result/1", "runs": [' + b"[" * 500 + b"]" * 500 + b"]}",
]  # fmt: skip
SETTINGS = [
    "a = " + "[" * 100_000, f"a = {'1' * 5000}", f"[check]\nbaseline = {DIGITS}", "[check]\nstrict = nan",
    '[check]\nbaseline = "\\u0000"', '[check]\nbaseline = "\\ud800"', "a." * 50_000 + "a=1",
    f'[check]\nfail-on = ["steps<={"9" * 5000}"]', f'[check]\nfail-on = ["{"x" * 5000}"]', f"[check]\nx = {DIGITS}",
    "[check]\nfail-on = [[[[[]]]]]", "a = 2020-99-99",
]  # fmt: skip


@pytest.mark.parametrize("content", BYTES, ids=range(len(BYTES)))
def test_documents_that_are_none(here, capsys, content):
    Path("x.json").write_bytes(content)
    ends_well(capsys, "check", "x.json", "--fail-on", "steps<=1")
    ends_well(capsys, "analyze", "s.jsonl", "--step-model", "x.json")
    ends_well(capsys, "analyze", "s.jsonl", "--power-model", "x.json")
    Path("x.jsonl").write_bytes(b'{"lbal_trace": 1}\n' + content)
    ends_well(capsys, "analyze", "x.jsonl")
    ends_well(capsys, "analyze", "x.json")


@pytest.mark.parametrize("content", SETTINGS, ids=range(len(SETTINGS)))
def test_settings_that_are_none(here, capsys, content):
    Path("x.toml").write_text(content)
    assert run(["check", "result.json", "--config", "x.toml"]) == 2
    ends_well(capsys, "check", "result.json", "--config", "x.toml")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/full"])
def test_devices_in_place_of_documents(here, capsys, device):
    for command in (
        ["check", device, "--fail-on", "steps<=1"],
        ["check", "result.json", "--config", device],
        ["analyze", "s.jsonl", "--step-model", device],
        ["analyze", device],
        ["compare", "result.json", device],
    ):
        ends_well(capsys, *command)


def test_names_that_are_not_utf8_are_refused_with_what_they_are(here, capsys):
    assert run(["analyze", "caf\udce9.jsonl"]) == 2
    assert "'caf\\udce9.jsonl': is not UTF-8" in capsys.readouterr().err

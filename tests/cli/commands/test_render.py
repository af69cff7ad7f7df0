"""A stored result is shown as its command showed it, in every report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lbal.analyzers.result.report import REPORTS
from lbal.cli.main import run

SAMPLES = Path(__file__).resolve().parents[3] / "sample_traces"
STEPS, REQUESTS, TINY = (
    str(SAMPLES / name) for name in ("skewed_8_ranks.jsonl", "requests_2000.jsonl", "two_ranks_three_steps.jsonl")
)
UNKNOWN = """{"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 4}
{"step": 0, "step_ms": 20, "kv_tokens": [null, null], "num_running": [1, 2]}
{"step": 1, "step_ms": 21, "kv_tokens": [null, null], "num_running": [1, 4]}
"""
SUFFIXES = [cls.suffixes[0] for cls in REPORTS.classes() if "timeline" not in cls.needs]
COMMANDS = {
    "analyze": ["analyze", STEPS, "--bands"],
    "unknown loads": ["analyze", "{unknown}"],
    "analyze requests": ["analyze", REQUESTS],
    "replay": ["replay", STEPS, "--policy", "recorded", "--policy", "jsq"],
    "advise": ["advise", TINY, "--engine", "sglang", "--step-model", "C=0.02,a=2e-8,b=2e-4,p=1e-4"],
    "repeats": ["replay", TINY, "--policy", "jsq", "--policy", "random", "--repeat", "2", "--jobs", "1"],
    "compare": ["compare", "{base}", "{base}"],
    "check": ["check", "{base}", "--warn-on", "barrier_idle_fraction<=5%"],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    name = str(tmp_path_factory.mktemp("results") / "base.json")
    assert run(["replay", TINY, "--policy", "jsq", "-o", name]) == 0
    return name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_report_of_a_stored_result_is_that_of_its_command(name, base, tmp_path, capsys):
    unknown = tmp_path / "unknown.jsonl"
    unknown.write_text(UNKNOWN)
    command = [part.format(base=base, unknown=unknown) for part in COMMANDS[name]]
    outputs = [part for suffix in SUFFIXES for part in ("-o", str(tmp_path / f"direct{suffix}"))]
    capsys.readouterr()
    assert run([*command, *outputs]) == 0
    shown = capsys.readouterr()
    rendered = [part.replace("direct", "rendered") for part in outputs]
    assert run(["render", str(tmp_path / "direct.json"), *rendered]) == 0
    again = capsys.readouterr()
    assert again.out == shown.out
    assert [line for line in shown.err.splitlines() if "note" in line] == again.err.splitlines()
    for suffix in SUFFIXES:
        direct, stored = ((tmp_path / f"{kind}{suffix}").read_bytes() for kind in ("direct", "rendered"))
        assert direct == stored, suffix


def test_a_calibration_is_shown_from_its_json(tmp_path, capsys):
    assert run(["calibrate", STEPS]) == 0
    shown = capsys.readouterr().out
    assert run(["calibrate", STEPS, "--json"]) == 0
    (tmp_path / "c.json").write_text(capsys.readouterr().out)
    assert run(["render", str(tmp_path / "c.json")]) == 0
    assert capsys.readouterr().out == shown


def test_charts_are_stored_in_printed_json_too(tmp_path, capsys):
    assert run(["analyze", TINY, "--json", "-o", str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "a.json").read_text()
    assert json.loads(printed)["runs"][0]["drawn"]["steps"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "schema: None is no schema of a result"),
        ('{"schema": "lbal.result/2", "runs": []}', "it has schema 'lbal.result/2'"),
        ('{"schema": "lbal.result/1", "runs": [{"label": 3}]}', "runs[0].label: 3 does not fit, expected text"),
        ("x", "is not JSON"),
    ],
)
def test_what_is_no_result_is_one_line(content, message, tmp_path, capsys):
    path = tmp_path / "x.json"
    path.write_text(content)
    assert run(["render", str(path), "-o", str(tmp_path / "x.html")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"lbal: {path}:")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["config", "max_num_seqs"], ..., "config.max_num_seqs: None does not fit, expected a whole number"),
        (["config", "step_model", "a"], "x", "config.step_model.a: 'x' is not a number, expected a number"),
        (["config", "power_model", "wait_watts", "high"], None, "config.power_model.wait_watts.high: None is not a n"),
        (["inputs", 0, "name"], 3, "inputs[0].name: 3 does not fit, expected text"),
        (["runs", 0, "staleness"], ..., "runs[0].staleness: None does not fit, expected an object"),
        (["headroom", "findings"], ..., "headroom.findings: None does not fit, expected a list"),
        (
            ["runs", 0, "ranks", 1, "straggler_fraction"],
            ...,
            "runs[0].ranks[1].straggler_fraction: is missing, expected a value or null",
        ),
    ],
)
def test_what_reports_need_is_named_where_it_lacks(path, value, message, base, tmp_path, capsys):
    record = json.loads(Path(base).read_text())
    part = record
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    (tmp_path / "x.json").write_text(json.dumps(record))
    capsys.readouterr()
    assert run(["render", str(tmp_path / "x.json")]) == 2
    assert f"x.json: {message}" in capsys.readouterr().err


def test_ranks_with_an_unknown_figure_are_shown(base, tmp_path, capsys):
    record = json.loads(Path(base).read_text())
    record["runs"][0]["ranks"][0]["kv_tokens_mean"] = None
    (tmp_path / "x.json").write_text(json.dumps(record))
    assert run(["render", str(tmp_path / "x.json"), "-o", str(tmp_path / "x.html")]) == 0


def test_single_steps_are_not_stored_and_nothing_is_written_then(base, tmp_path, capsys):
    capsys.readouterr()
    outputs = [str(tmp_path / "r.html"), str(tmp_path / "r.perfetto.json")]
    assert run(["render", base, "-o", outputs[0], "-o", outputs[1]]) == 2
    err = capsys.readouterr().err
    assert f"holds no single steps, expected lbal replay … -o {outputs[1]}" in err
    assert list(tmp_path.iterdir()) == []


def test_an_output_is_not_overwritten_without_force_and_the_result_never(base, tmp_path, capsys):
    (tmp_path / "r.md").write_text("mine")
    assert run(["render", base, "-o", str(tmp_path / "r.md")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["render", base, "-o", str(tmp_path / "r.md"), "--force"]) == 0
    copy = shutil.copy(base, tmp_path / "copy.json")
    assert run(["render", str(copy), "-o", str(copy), "--force"]) == 2
    assert "is the input" in capsys.readouterr().err


def test_standard_input_is_read(base):
    command = [sys.executable, "-m", "lbal.cli", "render", "-", "--json"]
    stored = Path(base).read_bytes()
    assert subprocess.run(command, input=stored, capture_output=True, check=True).stdout == stored

"""`advise` from end to end, on a few requests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lbal
from lbal.cli.main import run
from lbal.replay.advice.engines import ENGINES

SIZE = ["--dp-size", "2", "--max-num-seqs", "4"]


@pytest.fixture
def requests(tmp_path):
    lines = ['{"lbal_trace": 1}'] + [
        json.dumps({"request_id": f"r{i}", "arrival_ms": 40 * i, "prompt_tokens": 100 + 700 * (i % 3), "output_tokens": 5 + i % 7})
        for i in range(60)
    ]  # fmt: skip
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_gets_a_run_and_figures_of_each_setting(engine, requests):
    trace = lbal.read_trace(requests)
    options = {"dp_size": 2, "max_num_seqs": 4, "kv_capacity": 20_000}
    result = lbal.advise(trace, engine=engine, **options)
    told = result.advice["settings"]
    assert [each.label for each in result.runs] == [each["label"] for each in told]
    assert told[0] == {"label": "default", "flags": "", "verdict": "default", "changes": {}}
    assert [each.details["max_num_seqs"] for each in result.runs[-2:]] == [2, 8]
    default = result.runs[0].metrics
    for other, each in zip(result.runs[1:], told[1:], strict=True):
        for name in (
            "tokens_per_second",
            "ttft_ms_p99",
            "tpot_ms_mean",
            "queue_wait_ms_max",
            "energy_joules_per_token",
        ):
            change = each["changes"][name]
            assert change["nominal"] == pytest.approx(other.metrics[name].value / default[name].value - 1, abs=1e-9)
            assert change.get("low", change["nominal"]) <= change["nominal"] <= change.get("high", change["nominal"])
        assert each["changes"]["tokens_per_second"]["low"] < each["changes"]["tokens_per_second"]["high"]
    best = result.advice["best"]
    sure = {
        each["label"]: each["changes"]["tokens_per_second"]["nominal"]
        for each in told
        if each["verdict"] == "sure gain"
    }
    assert (best is None) == (not sure)
    if best is not None:
        assert sure[best] == pytest.approx(max(sure.values()), abs=1e-3)
        assert result.headline.startswith(f"{result.advice['flags']}: +")


def test_the_default_is_the_replay_of_the_same_rule_and_router(requests):
    trace = lbal.read_trace(requests)
    options = {"dp_size": 2, "max_num_seqs": 4, "prefill": "vllm:budget=2048"}
    alone = lbal.replay(trace, policies=["vllm"], binding="immediate", **options).runs[0]
    default = lbal.advise(trace, engine="vllm", **options).runs[0]
    for name in ("tokens_per_second", "ttft_ms_p99", "queue_wait_ms_max", "energy_joules_per_token"):
        assert default.metrics[name].value == alone.metrics[name].value


def test_the_command_prints_the_flags_writes_reports_and_what_it_stores_can_be_rendered(requests, tmp_path, capsys):
    stored, page, text = (str(tmp_path / name) for name in ("advice.json", "advice.html", "advice.md"))
    assert run(["advise", str(requests), "--engine", "vllm", *SIZE, "-o", stored, "-o", page, "-o", text]) == 0
    printed = capsys.readouterr()
    assert "--prefill-schedule-interval 2" in printed.out
    assert "8 slots per rank are not tried: the KV tokens that fit on a rank are not known" in printed.err
    assert run(["render", stored]) == 0
    assert capsys.readouterr().out == printed.out
    for name in (page, text):
        written = Path(name).read_text()
        assert "schedule-interval 4" in written.replace("\\", "")
        assert "sure" in written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "vlm"], "lbal: --engine: 'vlm' is not known, expected vllm, sglang or trtllm"),
        (
            ["--engine", "vllm", "--prefill", "sglang"],
            "lbal: --prefill 'sglang': it is not the rule of vllm, expected vllm with its parameters",
        ),
        (
            ["--engine", "vllm", "--prefill", "none"],
            "lbal: --prefill 'none': it is not the rule of vllm, expected vllm with its parameters",
        ),
        (["--engine", "vllm", "--step-model", "C=0.02,a=2e-8"], "does not say what prefill takes"),
        (["--engine", "vllm", "--dp-size", "0"], "--dp-size"),
    ],
)
def test_what_cannot_be_is_one_line(options, message, requests, capsys):
    assert run(["advise", str(requests), *SIZE, *options]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert (said.err.count("\n"), said.out) == (1, "")


def test_a_result_is_refused_as_it_holds_no_requests(requests, tmp_path, capsys):
    stored = tmp_path / "result.json"
    assert run(["replay", str(requests), *SIZE, "--policy", "jsq", "-o", str(stored)]) == 0
    capsys.readouterr()
    for text in (stored.read_text(), json.dumps(json.loads(stored.read_text()), separators=(",", ":"))):
        stored.write_text(text)
        assert run(["advise", str(stored), "--engine", "vllm"]) == 2
        told = f"lbal: {stored}: is a result of lbal and holds no requests, expected the trace that it was made of\n"
        assert capsys.readouterr().err == told


def test_a_trace_without_requests_is_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "steps.jsonl"
    path.write_text('{"lbal_trace": 1}\n{"step": 0, "kv_tokens": [5, 6], "num_running": [1, 1]}\n')
    assert run(["advise", str(path), "--engine", "vllm"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("capacity", "told"),
    [
        (2_000, "do not fit into 2,000"),
        (20_000, None),
    ],
)
def test_twice_the_slots_are_tried_where_that_many_mean_requests_fit(capacity, told, requests):
    result = lbal.advise(lbal.read_trace(requests), engine="trtllm", dp_size=2, max_num_seqs=4, kv_capacity=capacity)
    assert (any(each.label == "8 slots" for each in result.runs)) == (told is None)
    assert told is None or any(told in note for note in result.notes)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["advice"], None, "advice"),
        (["advice", "settings"], 3, "advice.settings: 3 does not fit, expected a list"),
        (["advice", "settings", 1, "flags"], None, "advice.settings[1].flags: None does not fit, expected text"),
        (["advice", "settings", 1, "changes", "tokens_per_second", "nominal"], "x", "is not a number"),
    ],
)
def test_stored_advice_that_lacks_what_is_shown_is_refused_in_one_line(
    path, value, message, requests, tmp_path, capsys
):
    stored = tmp_path / "advice.json"
    assert run(["advise", str(requests), "--engine", "vllm", *SIZE, "-o", str(stored)]) == 0
    record = json.loads(stored.read_text())
    part = record
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    stored.write_text(json.dumps(record))
    capsys.readouterr()
    assert run(["render", str(stored)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_it_is_said_that_arrivals_hold_throughput_down_exactly_where_requests_arrive_at_times(requests):
    trace, options = lbal.read_trace(requests), {"engine": "vllm", "dp_size": 2, "max_num_seqs": 4}
    for arrivals, is_said in (("trace", True), ("backlog", False), ("closed:6", False)):
        findings = lbal.advise(trace, arrivals=arrivals, **options).advice["findings"]
        assert any("no setting serves more than arrive" in line for line in findings) == is_said

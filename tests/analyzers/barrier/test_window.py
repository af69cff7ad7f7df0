"""The edges of the windows, as a user of `analyze` meets them."""

from __future__ import annotations

import json

import pytest

from lbal.cli.main import run


@pytest.fixture
def trace_of(tmp_path):
    """Writes a trace of 2 ranks with 2 slots each and steps of 10 ms: running requests by step, and times of admission."""

    def make(running, admitted_ms) -> str:
        head = {"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 2}
        request = {"rank": 0, "prompt_tokens": 9, "output_tokens": 2, "arrival_ms": 0, "finish_ms": 990}
        requests = [{"request_id": n, **request, "admitted_ms": time} for n, time in enumerate(admitted_ms)]
        steps = [
            {"step": n, "start_ms": 10 * n, "step_ms": 10, "kv_tokens": [90, 80], "num_running": list(ranks)}
            for n, ranks in enumerate(running)
        ]
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in [head, *requests, *steps]))
        return str(path)

    return make


def steps_in(window, path, capsys):
    assert run(["analyze", path, "--window", window, "--json"]) == 0
    return json.loads(capsys.readouterr().out)["runs"][0]["metrics"]["steps"]["value"]


def test_admissions_end_before_the_step_that_the_last_request_enters(trace_of, capsys):
    path = trace_of([(1, 1)] * 5, admitted_ms=[0, 20])
    assert steps_in("all", path, capsys) == 5
    assert steps_in("admissions", path, capsys) == 2


def test_the_steady_part_begins_where_all_slots_are_taken_and_goes_on_when_some_are_free_again(trace_of, capsys):
    path = trace_of([(1, 1), (2, 1), (2, 2), (1, 2), (2, 2), (1, 0)], admitted_ms=[0, 10, 40])
    assert steps_in("steady", path, capsys) == 2


@pytest.mark.parametrize(
    ("window", "admitted_ms", "reason"),
    [
        ("admissions", [0, 0], "all requests enter at once"),
        ("steady", [0, 20], "the slots are never all taken before the last admission"),
        ("steady", [0, 10], "the slots are never all taken before the last admission"),
    ],
)
def test_a_window_that_would_be_empty_is_refused(trace_of, capsys, window, admitted_ms, reason):
    path = trace_of([(1, 1), (2, 1), (2, 2)], admitted_ms)
    assert run(["analyze", path, "--window", window]) == 2
    assert f"--window {window}: {path} has no such steps ({reason})" in capsys.readouterr().err


def test_requests_of_a_window_are_those_that_enter_its_steps_and_waits_count_the_steps_before_it(tmp_path, capsys):
    """The second enters the first full step, having been admitted while the one before it ran; it waited two steps."""
    head = {"lbal_trace": 1, "dp_size": 1, "max_num_seqs": 2}
    times = [(0, 0), (3, 25), (39, 39)]
    requests = [
        {
            "request_id": n,
            "arrival_ms": arrival,
            "admitted_ms": at,
            "finish_ms": 90,
            "prompt_tokens": 9,
            "output_tokens": 2,
        }
        for n, (arrival, at) in enumerate(times)
    ]
    steps = [
        {"step": n, "start_ms": 10 * n, "step_ms": 10, "kv_tokens": [90], "num_running": [running]}
        for n, running in enumerate([1, 1, 1, 2, 2, 2])
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [head, *requests, *steps]))
    assert run(["analyze", str(path), "--window", "steady", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["runs"][0]["metrics"]
    assert metrics["steps"]["value"] == 1
    assert metrics["requests_completed"]["value"] == 1
    assert metrics["queue_wait_ms_max"]["value"] == 22
    assert metrics["queue_wait_steps_max"]["value"] == 2

"""The trace of single steps: valid Chrome trace events whose slices are the rank times, and which steps are in it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lbal.analyzers.barrier.single_steps import USUAL_RANK_STEPS, StepRange, StepWindow, parse_step_range
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.trace import StepArrays
from lbal.cli.main import run

# Rank times of step 7: 2 ms and 5 ms of 15 ms; of step 8: 4 ms and 4 ms of 14 ms.
STEPS = (
    '{"lbal_trace": 1, "dp_size": 2, "engine": "an \\"engine\\" </script>"}\n'
    '{"step": 7, "step_ms": 15, "start_ms": 0, "kv_tokens": [100, 300], "num_running": [1, 2], "compute_ms": [2, 5]}\n'
    '{"step": 8, "step_ms": 14, "start_ms": 15, "kv_tokens": [200, 200], "num_running": [2, 2], "compute_ms": [4, 4]}\n'
    '{"step": 9, "step_ms": 12, "start_ms": 29, "kv_tokens": [0, 100], "num_running": [0, 1], "compute_ms": [0, 2]}\n'
)
REQUESTS = '{"lbal_trace": 1}\n' + "".join(
    f'{{"request_id": {i}, "arrival_ms": {20 * i}, "prompt_tokens": {50 + i % 40}, "output_tokens": {5 + i % 17}}}\n'
    for i in range(60)
)
MODEL = StepTimeModel("example", 0.01, 1e-6)


@pytest.fixture
def steps(tmp_path) -> str:
    path = tmp_path / "steps.jsonl"
    path.write_text(STEPS)
    return str(path)


@pytest.fixture
def requests(tmp_path) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_text(REQUESTS)
    return str(path)


def written(capsys, tmp_path, *arguments: str) -> tuple[list[dict], str]:
    """The events of a trace, checked against the format, and what was said on stderr."""
    target = tmp_path / "out.perfetto.json"
    assert run([*arguments, "-o", str(target), "--force"]) == 0
    record = json.loads(Path(target).read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert record["displayTimeUnit"] == "ms"
    for event in record["traceEvents"]:
        check_event(event)
    return record["traceEvents"], capsys.readouterr().err


def check_event(event: dict) -> None:
    """What the Trace Event Format asks of the kinds that are used here."""
    assert event["ph"] in "XCM"
    assert isinstance(event["name"], str)
    assert isinstance(event["pid"], int)
    assert event["pid"] > 0
    if event["ph"] == "M":
        names = {"process_name": "name", "thread_name": "name"}
        assert set(event["args"]) == {names.get(event["name"], "sort_index")}
        return
    assert event["ts"] >= 0
    if event["ph"] == "X":
        assert event["dur"] > 0
        assert event["tid"] > 0
    else:
        assert all(isinstance(value, (int, float)) for value in event["args"].values())


def slices(events, thread, process=1):
    return [
        (event["name"], event["ts"], event["dur"])
        for event in events
        if event["ph"] == "X" and (event["pid"], event["tid"]) == (process, thread)
    ]


def test_each_rank_works_then_waits_for_the_slowest_then_does_what_all_share(capsys, tmp_path, steps):
    events, _said = written(capsys, tmp_path, "analyze", steps)
    assert slices(events, 1) == [("step 7", 0, 15e3), ("step 8", 15e3, 14e3), ("step 9", 29e3, 12e3)]
    assert slices(events, 2) == [
        *[("work", 0, 2e3), ("barrier wait", 2e3, 3e3), ("shared", 5e3, 10e3)],
        *[("work", 15e3, 4e3), ("shared", 19e3, 10e3)],
        *[("barrier wait", 29e3, 2e3), ("shared", 31e3, 10e3)],
    ]
    assert slices(events, 3)[:2] == [("work", 0, 5e3), ("shared", 5e3, 10e3)]


def test_counters_follow_the_loads_of_each_rank(capsys, tmp_path, steps):
    events, _said = written(capsys, tmp_path, "analyze", steps)
    counted = [(event["name"], event["ts"], event["args"]) for event in events if event["ph"] == "C"]
    assert counted[:2] == [
        ("KV tokens", 0, {"rank 0": 100, "rank 1": 300}),
        ("running requests", 0, {"rank 0": 1, "rank 1": 2}),
    ]
    assert len(counted) == 6


def test_tracks_are_named_and_ordered(capsys, tmp_path, steps):
    events, _said = written(capsys, tmp_path, "analyze", steps)
    names = {event.get("tid"): event["args"]["name"] for event in events if event["name"].endswith("_name")}
    assert names == {None: 'an "engine" </script>', 1: "steps", 2: "rank 0", 3: "rank 1"}


def test_every_policy_is_a_process_of_its_own(capsys, tmp_path, requests):
    sizes = ["--dp-size", "2", "--max-num-seqs", "4", "--policy", "jsq", "--policy", "lpt"]
    events, _said = written(capsys, tmp_path, "replay", requests, *sizes)
    assert {event["pid"] for event in events} == {1, 2}
    named = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert named == ["jsq", "lpt"]
    for process in (1, 2):
        for thread in (1, 2, 3):
            found = slices(events, thread, process)
            ends = [round(start + length, 3) for _name, start, length in found]
            assert all(end <= start for end, (_name, start, _length) in zip(ends, found[1:], strict=False))


def test_steps_choose_those_from_the_first_on_and_before_the_last(capsys, tmp_path, steps):
    for text, expected in (("8:9", ["step 8"]), ("8:", ["step 8", "step 9"]), (":8", ["step 7"])):
        events, said = written(capsys, tmp_path, "analyze", steps, "--steps", text)
        assert [name for name, _start, _length in slices(events, 1)] == expected
        assert "--steps" not in said


@pytest.mark.parametrize("text", ["", ":", "8", "9:8", "8:8", "a:b", "-1:4", "1.5:2", "1:2:3"])
def test_what_is_no_range_of_steps_is_refused(text):
    with pytest.raises(UsageError, match=r"^steps: "):
        parse_step_range(text)


def test_a_range_beyond_the_run_is_refused_and_nothing_is_written(capsys, tmp_path, steps):
    target = tmp_path / "out.perfetto.json"
    assert run(["analyze", steps, "-o", str(target), "--steps", "100:200"]) == 2
    assert "--steps: 100:200 holds no step of the run" in capsys.readouterr().err
    assert not target.exists()


def test_steps_without_a_trace_to_write_are_refused(capsys, steps):
    assert run(["analyze", steps, "--steps", "1:2"]) == 2
    assert "--steps: has no meaning without" in capsys.readouterr().err


def test_a_workload_without_steps_has_no_trace(capsys, tmp_path, requests):
    assert run(["analyze", requests, "-o", str(tmp_path / "out.perfetto.json")]) == 2
    assert "shows steps, and this result has none" in capsys.readouterr().err


def pieces(count, ranks):
    loads = np.ones((count, ranks))
    return StepArrays(np.arange(count), loads, loads)


def test_of_a_long_run_the_first_steps_are_taken_and_runs_share_the_room():
    for runs in (1, 3):
        window = StepWindow(None, runs)
        for first in range(0, 10_000, 1_000):
            part = pieces(1_000, 8)
            window.add(StepArrays(part.step + first, part.kv_tokens, part.num_running))
        timeline = window.timeline(MODEL)
        assert timeline is not None
        assert len(timeline.steps) == USUAL_RANK_STEPS // runs // 8
        assert timeline.total_steps == 10_000


def test_steps_that_are_left_out_are_told_and_where_to_look(capsys, tmp_path, requests, monkeypatch):
    monkeypatch.setattr("lbal.analyzers.barrier.single_steps.USUAL_RANK_STEPS", 20)
    events, said = written(
        capsys, tmp_path, "replay", requests, "--dp-size", "2", "--max-num-seqs", "4", "--policy", "jsq"
    )
    assert len(slices(events, 1)) == 10
    assert "the trace shows steps 0 to 9 of " in said
    assert "as in --steps 0:" in said


def test_a_range_that_no_viewer_opens_is_refused():
    window = StepWindow(StepRange(0, None))
    window.add(pieces(1_000, 64))
    with pytest.raises(UsageError, match="which no viewer opens"):
        window.add(pieces(40_000, 64))


def test_times_that_a_trace_lacks_are_those_of_the_model():
    window = StepWindow(None)
    window.add(StepArrays(np.arange(2), np.array([[1000.0, 3000.0], [2000.0, 2000.0]]), np.ones((2, 2))))
    timeline = window.timeline(MODEL)
    assert timeline is not None
    assert timeline.rank_ms.tolist() == [[1.0, 3.0], [2.0, 2.0]]
    assert timeline.steps.step_ms == pytest.approx([13.0, 12.0])
    assert timeline.steps.start_ms == pytest.approx([0.0, 13.0])

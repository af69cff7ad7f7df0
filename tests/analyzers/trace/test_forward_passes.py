"""Dynamo's forward-pass metrics: ranks count their own records, so equal counters need not be one pass."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from forward_passes import record

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import Trace

PASS_MS = 20.0


def line(rank: int, counter: int, time_ms: float, running: int) -> str:
    """A record of a pass that was received at a time; without requests, a heartbeat."""
    wall_s = PASS_MS / 1e3 if running else 0.0
    whole = json.loads(record(rank, counter, running, 100 * running, wall_s))
    return json.dumps({"received_at_ns": round(1.8e18 + time_ms * 1e6), **whole}) + "\n"


@pytest.fixture
def read(tmp_path: Path):
    def read_lines(lines: list[str]) -> Trace:
        path = tmp_path / "fpm.jsonl"
        path.write_text("".join(lines))
        return read_trace(path)

    return read_lines


def recorded(running: np.ndarray, *, heartbeat_ms: float | None = 1000.0) -> list[str]:
    """What is received of a run: of a rank without work nothing but heartbeats, which its counter counts too."""
    counters, silent_since, lines = [0] * running.shape[1], [0.0] * running.shape[1], []
    generator = np.random.default_rng(7)
    for step, row in enumerate(running):
        for rank in generator.permutation(len(row)).tolist():
            now = step * PASS_MS + float(generator.uniform(0, 4))
            is_beat = not row[rank] and heartbeat_ms is not None and now - silent_since[rank] >= heartbeat_ms
            if row[rank] or is_beat:
                lines.append(line(rank, counters[rank], now, int(row[rank])))
                counters[rank] += 1
                silent_since[rank] = now
    return lines


def run_with_pauses() -> np.ndarray:
    running = np.random.default_rng(1).integers(3, 30, (400, 3))
    running[50:150, 1] = 0
    running[200:330, 0] = 0
    return running


def test_passes_are_told_by_the_clock_where_counters_drift_apart(read) -> None:
    running = run_with_pauses()
    trace = read(recorded(running))
    steps = trace.step_arrays()
    assert np.array_equal(steps.num_running, running)
    assert np.array_equal(steps.kv_tokens, 100 * running)
    assert trace.meta.resolution == "step"
    assert any("counter_id" in note for note in trace.meta.warnings)


def test_a_rank_that_sent_no_heartbeat_is_unknown_and_not_idle(read) -> None:
    running = run_with_pauses()
    found = read(recorded(running, heartbeat_ms=None)).step_arrays().num_running
    assert np.isnan(found[running == 0]).all()
    assert np.array_equal(found[running > 0], running[running > 0])


def test_counters_that_agree_are_the_steps(read) -> None:
    running = np.random.default_rng(1).integers(3, 30, (50, 3))
    lines = [line(rank, step, step * PASS_MS, int(running[step, rank])) for rank in range(3) for step in range(50)]
    trace = read(lines)
    assert np.array_equal(trace.step_arrays().num_running, running)
    assert not any("counter_id" in note for note in trace.meta.warnings)

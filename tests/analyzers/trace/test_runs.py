"""Restarts are found by what all ranks do; one wrong step number is none, and takes nothing but its line along."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_logs import RENDERERS
from engine_logs.known_run import KnownRun, made_up
from engine_logs.renderer import Renderer
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.reading.runs import WRONG_STEP, Numbered, runs_of
from lbal.analyzers.trace.trace import Trace

NUMBER = re.compile(r'(Iteration\(|\biter = |"iter": |batch \[|"counter_id": )(\d+)')
NUMBERED = [
    name
    for name, each in RENDERERS.items()
    if each.resolution == "step" and not each.refused and NUMBER.search(each.text(made_up(3, 2, empty=False)))
]
OF_ONE_RANK = [name for name in NUMBERED if "lists" not in name]
"""Logs of which a line is a record of one rank."""
WRONG = (7, 999_999)
AT, RANK, STEPS, RANKS = 20, 1, 40, 3


def numbered(rows: list[tuple[int, int, float]]) -> Numbered:
    """Rank, step and time of each record, in the order of the log."""
    rank, step, time_ms = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    return Numbered(np.zeros(len(rows)), rank, step, time_ms)


def run_of_the_log() -> KnownRun:
    return made_up(STEPS, RANKS, empty=False)


def with_number(renderer: Renderer, wrong: int) -> list[str]:
    """The log with another number in the line of one rank and step."""
    lines = list(renderer.lines(run_of_the_log()))
    place = next(index for index, line in enumerate(lines) if (line.step, line.rank) == (AT, RANK))
    text = NUMBER.sub(rf"\g<1>{wrong}", lines[place].text)
    return [*(line.text for line in lines[:place]), text, *(line.text for line in lines[place + 1 :])]


def read(lines: list[str], renderer: Renderer, folder: Path, run_index: int | None = None) -> Trace:
    path = folder / "server.log"
    path.write_text("".join(f"{line}\n" for line in lines))
    return read_trace(path, options=replace(renderer.options, run_index=run_index))


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", OF_ONE_RANK)
def test_one_wrong_number_is_no_restart_and_loses_its_line_alone(name: str, wrong: int, tmp_path: Path) -> None:
    renderer = RENDERERS[name]
    whole = renderer.read(run_of_the_log(), tmp_path).step_arrays()
    trace = read(with_number(renderer, wrong), renderer, tmp_path)
    steps = trace.step_arrays()
    assert not any("runs" in warning for warning in trace.meta.warnings)
    assert trace.meta.excluded == {WRONG_STEP: 1}
    assert len(steps) == len(whole)
    expected = whole.num_running.copy()
    expected[AT, RANK] = np.nan
    assert np.array_equal(steps.num_running, expected, equal_nan=True)


@pytest.mark.parametrize("name", NUMBERED)
def test_a_restart_is_found_by_the_numbers_alone_also_beside_a_wrong_one(name: str, tmp_path: Path) -> None:
    renderer, first = RENDERERS[name], run_of_the_log()
    later = replace(first, num_running=first.num_running + 1, start_ms=first.start_ms + 600_000)
    anew = [line.text for line in renderer.lines(later) if NUMBER.search(line.text)]
    before = (
        [line.text for line in renderer.lines(first)] if name not in OF_ONE_RANK else with_number(renderer, WRONG[0])
    )
    for index, known in enumerate((first, later)):
        trace = read([*before, *anew], renderer, tmp_path, index)
        running = trace.step_arrays().num_running
        assert len(running) == STEPS
        told = ~np.isnan(running)
        assert told.sum() >= running.size - 1
        assert np.array_equal(running[told], known.num_running[told])


def test_a_rank_that_is_silent_in_a_whole_run_is_not_counted_a_run_behind(tmp_path: Path) -> None:
    renderer, first = RENDERERS["trtllm dummies"], run_of_the_log()
    lines: list[str] = []
    for index in range(3):
        later = replace(first, num_running=first.num_running + index, start_ms=first.start_ms + index * 600_000)
        lines += [line.text for line in renderer.lines(later) if not (index == 1 and line.rank == RANK)]
    for index in range(3):
        running = read(lines, renderer, tmp_path, index).step_arrays().num_running
        expected = first.num_running + index
        expected[:, RANK] = np.nan if index == 1 else expected[:, RANK]
        assert np.array_equal(running, expected, equal_nan=True), index


def test_a_device_time_is_never_one_of_another_run(tmp_path: Path) -> None:
    """The last step of a run has no row behind it, and steps of that number in the next run are not its."""
    renderer, first = RENDERERS["trtllm dummies"], run_of_the_log()
    later = replace(made_up(2 * STEPS, RANKS, empty=False), start_ms=600_000 + np.arange(2 * STEPS) * 1000.0)
    lines = [line.text for each in (first, later) for line in renderer.lines(each)]
    alone = read([line.text for line in renderer.lines(first)], renderer, tmp_path).step_arrays().step_ms
    assert read(lines, renderer, tmp_path, 0).step_arrays().step_ms.tolist() == alone.tolist()


def test_numbers_that_go_back_on_one_rank_while_the_others_go_on_are_no_restart() -> None:
    rows = [(rank, step, 100.0 * step) for step in range(60) for rank in range(4)]
    rows = [row for row in rows if not (row[0] == 2 and 21 <= row[1] < 50)]
    place = rows.index((2, 20, 2000.0))
    rows[place] = (2, 11, 2000.0)  # behind it the rank had no work for long, so that its neighbours are far apart
    found = runs_of(numbered(rows))
    assert not found.run.any()
    assert np.flatnonzero(found.is_wrong).tolist() == [place]


def test_ranks_whose_clocks_differ_start_anew_together() -> None:
    rows = [
        (rank, step, 1e5 * run + 100.0 * step + 7e3 * rank)
        for rank in range(2)
        for run in range(2)
        for step in range(50)
    ]
    assert runs_of(numbered(rows)).run.tolist() == [0] * 50 + [1] * 50 + [0] * 50 + [1] * 50


def test_a_log_without_times_counts_the_runs_of_each_rank() -> None:
    rows = [(rank, step, np.nan) for _run in range(2) for step in range(5) for rank in range(2)]
    assert runs_of(numbered(rows)).run.tolist() == [0] * 10 + [1] * 10


@given(st.integers(2, 5), st.lists(st.integers(4, 30), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_restarts_of_ranks_that_skip_runs_and_steps_are_all_found(ranks: int, lengths: list[int], seed: int) -> None:
    """A rank may be silent in a run, unless all are, and one rank at least logs the first and the last step of each."""
    generator = np.random.default_rng(seed)
    rows, expected = [], []
    for run, length in enumerate(lengths):
        silent = generator.random(ranks) < 0.3
        silent[0] = False
        for step in range(length):
            for rank in np.flatnonzero(~silent):
                rows.append((int(rank), step, 1e6 * run + 100.0 * step + rank))
                expected.append(run)
    found = runs_of(numbered(rows))
    assert found.run.tolist() == expected
    assert not found.is_wrong.any()

"""Numbers of passes that are missing: ranks without work, as far as it is certain; lost lines are never taken for such."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang_lines import decode, passes, prefill, text

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.reading.base import ReadOptions
from lbal.analyzers.trace.trace import Trace

RANKS, STEPS = 4, 60


def served(seed: int, steps: int = STEPS, ranks: int = RANKS) -> tuple[np.ndarray, np.ndarray]:
    """Requests and KV tokens by step and rank of a system with few requests: ranks run out of work now and then."""
    generator = np.random.default_rng(seed)
    running, tokens = np.zeros((2, steps, ranks), dtype=np.int64)
    for rank in range(ranks):
        active: list[list[int]] = []  # tokens, passes left
        for step in range(steps):
            if generator.random() < 0.2:
                active += [[int(generator.integers(200, 4000)), int(generator.integers(3, 25))] for _ in range(2)]
            running[step, rank] = len(active)
            tokens[step, rank] = sum(held for held, _left in active)
            active = [[held + 1, left - 1] for held, left in active if left > 1]
    running[[0, -1]] = np.maximum(running[[0, -1]], 1)  # what a rank did before its first line is not known
    tokens = np.where(running > 0, np.maximum(tokens, 50), 0)
    return running, tokens


@pytest.fixture
def read(tmp_path: Path):
    def read_lines(lines, **options) -> Trace:
        path = tmp_path / "server.log"
        path.write_text(text(lines))
        return read_trace(path, options=ReadOptions(**options))

    return read_lines


def steady(steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """Requests that all ranks keep, 20 and more each."""
    running = np.tile(np.arange(20, 20 + RANKS), (steps, 1))
    return running, running * (1000 + np.arange(steps)[:, None])


@pytest.mark.parametrize("seed", range(8))
def test_ranks_without_work_are_recovered_from_a_whole_log(seed: int, read) -> None:
    running, tokens = served(seed)
    trace = read(passes(running, tokens))
    steps = trace.step_arrays()
    known = ~np.isnan(steps.num_running)
    seen = running.any(axis=1)
    assert trace.meta.resolution == "step"
    assert np.array_equal(steps.num_running[known], running[seen][known])
    assert np.array_equal(steps.kv_tokens[known], tokens[seen][known])
    assert (steps.num_running == 0).sum() >= 0.9 * (running[seen] == 0).sum()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 30), losses=st.sets(st.integers(1, STEPS - 2), min_size=1, max_size=12))
def test_a_lost_line_of_a_rank_that_keeps_its_requests_is_never_idle(tmp_path_factory, seed, losses) -> None:
    running, tokens = steady()
    lines = passes(running, tokens)
    ranks = np.random.default_rng(seed).integers(0, RANKS, len(losses))
    for step, rank in zip(sorted(losses), ranks, strict=True):
        lines[step * RANKS + int(rank)] = ""
    path = tmp_path_factory.mktemp("lost") / "server.log"
    path.write_text(text(lines))
    trace = read_trace(path)
    unknown = np.isnan(trace.step_arrays().num_running)
    assert unknown.sum() == len(losses)
    assert (trace.step_arrays().num_running[~unknown] == running[~unknown]).all()
    assert any(f"{len(losses)} numbers of passes are missing" in note for note in trace.meta.warnings)


CUTS = {
    "behind the number": lambda line: line[: line.index("#running") + 12] + "\n",
    "in the tokens": lambda line: line[: line.index("#token") + 9] + "\n",
    "wrapped by a terminal": lambda line: line[:70] + "\n" + line[70:],
    "two in one": lambda line: line[:60] + line,
    "a letter for a digit": lambda line: line.replace("#token: ", "#token: x"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_mangled_line_is_counted_and_its_pass_is_unknown(cut: str, read) -> None:
    running, tokens = served(3)
    lines = passes(running, tokens)
    step, rank = next((s, r) for s in range(10, STEPS) for r in range(RANKS) if running[s - 1 : s + 2, r].all())
    lines[step * RANKS + rank] = CUTS[cut](lines[step * RANKS + rank])
    trace = read(lines)
    whole = read(passes(running, tokens)).step_arrays().num_running
    found = trace.step_arrays().num_running
    assert trace.meta.excluded["lines that are cut or mangled"] >= 1
    assert np.isnan(found[step, rank])
    assert ((found == whole) | np.isnan(found)).all()


def test_a_rank_that_comes_back_with_a_prefill_and_nothing_running_was_without_work(read) -> None:
    running, tokens = steady()
    running, tokens = running.copy(), tokens.copy()
    running[20:30, 2] = tokens[20:30, 2] = 0
    lines = passes(running, tokens)
    lines[29 * RANKS + 2] = prefill(2, 900, iteration=3029)
    assert (read(lines).step_arrays().num_running[20:29, 2] == 0).all()
    lines[29 * RANKS + 2] = prefill(2, 900, running=7, iteration=3029)
    assert np.isnan(read(lines).step_arrays().num_running[20:29, 2]).all()


def test_in_a_log_with_prefill_lines_no_rank_comes_back_without_one(read) -> None:
    running, tokens = served(5)
    known = read(passes(running, tokens)).step_arrays().num_running
    assert (known == 0).any()
    lines = [prefill(0, 100, iteration=2999), *passes(running, tokens)]
    assert not (read(lines).step_arrays().num_running == 0).any()


def test_numbers_that_go_back_are_another_run_and_no_gap(read) -> None:
    running, tokens = steady()
    lines = [*passes(running[:25], tokens[:25], first=90), *passes(running, tokens, first=7)]
    trace = read(lines)
    assert np.array_equal(trace.step_arrays().num_running, running)
    assert read(lines, run_index=0).num_steps == 25
    assert not any("are missing" in note for note in trace.meta.warnings)


def test_the_time_of_a_step_holds_no_pause_of_a_rank(read) -> None:
    """The throughput is over the time since a rank's last line: since the start, a prefill, or passes without work."""
    _running, tokens = steady(12)
    lines = [decode(rank, 20 + rank, tokens[0, rank], iteration=3000, step_ms=300_000.0) for rank in range(RANKS)]
    for step in range(1, 12):
        for rank in range(RANKS):
            after = step == 7 or (step, rank) == (9, 2)
            if step == 6 or (step, rank) == (8, 2):
                lines.append(prefill(rank, 900, running=7, iteration=3000 + step))
            else:
                took_ms = 900.0 if after else 25.0
                lines.append(decode(rank, 20 + rank, tokens[step, rank], iteration=3000 + step, step_ms=took_ms))
    step_ms = read(lines).step_arrays().step_ms
    assert np.isnan(step_ms[[0, 6, 7]]).all()
    assert np.allclose(np.delete(step_ms, [0, 6, 7]), 25.0)

"""The time that passed is counted once, and told only where the clock of the steps tells it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_clock import plain_makespan_ms, plain_pause, plain_times_once

from lbal.analyzers.barrier.clock import Starts, StepClock, in_order, is_backwards
from lbal.analyzers.barrier.overlap import OVERLAP, PAUSE, without_overlap
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import StepArrays


def steps_of(start_ms, step_ms, compute_ms=None) -> StepArrays:
    count = len(start_ms)
    loads = np.ones((count, 2))
    return StepArrays(
        step=np.arange(count),
        kv_tokens=loads,
        num_running=loads,
        compute_ms=compute_ms,
        step_ms=np.asarray(step_ms, float),
        start_ms=np.asarray(start_ms, float),
    )


def blocks_of(steps: StepArrays, *cuts: int) -> StepBlocks:
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(steps)), len(steps)]
    parts = [steps.part(slice(*ends)) for ends in pairwise(edges)]
    return StepBlocks(len(steps), steps.dp_size, lambda: iter(parts))


def once_of(steps: StepArrays, *cuts: int) -> tuple[StepArrays, list[str]]:
    once, notes = without_overlap(blocks_of(steps, *cuts))
    return once.joined(), notes


def clock_of(steps: StepArrays, *cuts: int) -> StepClock:
    clock = StepClock()
    for block in blocks_of(steps, *cuts):
        clock.add(block, block.step_ms)
    return clock


def test_steps_that_overlap_add_up_to_the_time_that_passed_and_keep_their_shares():
    steps = steps_of([0, 10, 20], [20, 20, 20], np.array([[10.0, 20.0]] * 3))
    once, notes = once_of(steps)
    assert once.step_ms.sum() == pytest.approx(40)
    assert (once.compute_ms / once.step_ms[:, None] == steps.compute_ms / steps.step_ms[:, None]).all()
    assert clock_of(once).makespan_ms == pytest.approx(40)
    assert "the times of 3 of 3 add up to 1.5 times the time that passed" in notes[0]


def test_a_pause_elsewhere_does_not_make_up_for_overlap():
    steps = steps_of([0, 10, 20, 1000, 1020], [20, 20, 20, 20, 20])
    once, (note,) = once_of(steps)
    assert once.step_ms.tolist() == pytest.approx([40 / 3] * 3 + [20, 20])
    assert "3 of 5" in note


@pytest.mark.parametrize(
    ("start_ms", "step_ms"),
    [
        ([0, 20, 40], [20, 20, 20]),
        ([0, 30, 60], [20, 20, 20]),
        ([0, 0, 0], [20, 20, 20]),
        ([0, np.nan, 10], [20, 20, 20]),
        ([20, 10, 0], [20, 20, 20]),
        ([0], [20]),
    ],
)
def test_steps_that_follow_one_another_or_a_clock_that_does_not_tell_change_nothing(start_ms, step_ms):
    steps = steps_of(start_ms, step_ms)
    blocks = StepBlocks.of(steps)
    assert without_overlap(blocks) == (blocks, [])


def test_starts_in_whole_milliseconds_are_no_overlap():
    rng = np.random.default_rng(1)
    step_ms = rng.uniform(12, 30, 2000)
    start_ms = np.round(np.concatenate([[0.0], np.cumsum(step_ms)[:-1]]))
    assert once_of(steps_of(start_ms, step_ms))[1] == []


@given(
    st.lists(st.tuples(st.floats(0.5, 50), st.floats(0.5, 50)), min_size=1, max_size=30),
)
def test_the_times_never_add_up_to_more_than_the_makespan(gaps_and_times):
    gaps, times = (np.array(values) for values in zip(*gaps_and_times, strict=True))
    steps, _notes = once_of(steps_of(np.cumsum(gaps), times))
    assert steps.step_ms.sum() <= clock_of(steps).makespan_ms * (1 + 1e-9)
    assert (steps.step_ms > 0).all()
    assert steps.step_ms.sum() <= OVERLAP * (1 + 1e-9) * ((np.cumsum(gaps) + times).max() - gaps[0])


@pytest.mark.parametrize(
    ("start_ms", "makespan"),
    [
        ([0, 20, 50], 70),
        ([0, 0, 0], 60),
        ([np.nan] * 3, 60),
        ([0, np.nan, 50], 70),
        ([np.nan, 20, 40], None),
        ([0, 20, np.nan], None),
        ([50, np.nan, 40], None),
        ([0, 30, 20], None),
    ],
)
def test_the_makespan_is_what_the_clock_tells(start_ms, makespan):
    found = clock_of(steps_of(start_ms, [20] * 3)).makespan_ms
    assert found == makespan or (makespan is None and np.isnan(found))


def test_unknown_starts_are_no_order_and_no_backwards_clock():
    assert not is_backwards(np.array([0.0, np.nan, 5.0]))
    assert is_backwards(np.array([5.0, np.nan, 0.0]))
    assert in_order(np.array([0.0, 0.0, 5.0]))
    assert not in_order(np.array([0.0, np.nan, 5.0]))
    assert not in_order(None)


CUTS = st.lists(st.integers(1, 40), max_size=6)
STARTS = st.floats(0, 60).map(lambda gap: round(gap, 1))
TIMES = st.floats(0.5, 50).map(lambda time: round(time, 1))


@given(st.lists(st.tuples(STARTS, TIMES), min_size=1, max_size=40), st.booleans(), CUTS)
def test_times_are_counted_once_however_the_steps_are_cut(gaps_and_times, is_dense, cuts):
    gaps, times = (np.array(values) for values in zip(*gaps_and_times, strict=True))
    steps = steps_of(np.cumsum(gaps / 10 if is_dense else gaps), times)
    once, notes = once_of(steps, *cuts)
    expected = plain_times_once(steps.start_ms, steps.step_ms, PAUSE, OVERLAP)
    np.testing.assert_allclose(once.step_ms, expected, rtol=1e-12)
    assert bool(notes) == (expected is not steps.step_ms)
    assert notes == once_of(steps)[1]


@given(st.lists(st.tuples(STARTS | st.just(np.nan), TIMES), min_size=1, max_size=40), st.booleans(), CUTS)
def test_the_clock_is_the_same_however_the_steps_are_cut(starts_and_times, is_sorted, cuts):
    start_ms, times = (np.array(values) for values in zip(*starts_and_times, strict=True))
    steps = steps_of(np.sort(start_ms) if is_sorted else start_ms, times)
    clock = clock_of(steps, *cuts)
    np.testing.assert_allclose(clock.makespan_ms, plain_makespan_ms(steps.start_ms, times), rtol=1e-12)
    assert clock.is_backwards == is_backwards(steps.start_ms)
    pause, row = plain_pause(steps.start_ms, times)
    assert (clock.longest_pause_ms, clock.after_pause) == (pytest.approx(pause, abs=1e-9), row)


@given(st.lists(STARTS | st.just(np.nan), min_size=1, max_size=40), st.booleans(), CUTS)
def test_starts_are_the_same_however_the_steps_are_cut(starts, is_sorted, cuts):
    start_ms = np.sort(starts) if is_sorted else np.array(starts)
    found = Starts.of(blocks_of(steps_of(start_ms, np.ones(len(starts))), *cuts))
    np.testing.assert_array_equal(found.start_ms, start_ms)
    assert found.are_in_order == in_order(start_ms)
    assert found.are_backwards == is_backwards(start_ms)
    assert found.rise == (not np.isnan(start_ms).any() and bool((np.diff(start_ms) > 0).all()))


def test_steps_without_starts_have_none():
    assert Starts.of(StepBlocks.of(StepArrays(np.arange(2), np.ones((2, 2)), np.ones((2, 2))))) is None

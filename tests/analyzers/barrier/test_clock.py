"""The time that passed is counted once, and told only where the clock of the steps tells it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.barrier.clock import OVERLAP, in_order, is_backwards, makespan_ms, without_overlap
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


def test_steps_that_overlap_add_up_to_the_time_that_passed_and_keep_their_shares():
    steps = steps_of([0, 10, 20], [20, 20, 20], np.array([[10.0, 20.0]] * 3))
    once, notes = without_overlap(steps)
    assert once.step_ms.sum() == pytest.approx(40)
    assert (once.compute_ms / once.step_ms[:, None] == steps.compute_ms / steps.step_ms[:, None]).all()
    assert makespan_ms(once, once.step_ms) == pytest.approx(40)
    assert "the times of 3 of 3 add up to 1.5 times the time that passed" in notes[0]


def test_a_pause_elsewhere_does_not_make_up_for_overlap():
    steps = steps_of([0, 10, 20, 1000, 1020], [20, 20, 20, 20, 20])
    once, (note,) = without_overlap(steps)
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
    assert without_overlap(steps) == (steps, [])


def test_starts_in_whole_milliseconds_are_no_overlap():
    rng = np.random.default_rng(1)
    step_ms = rng.uniform(12, 30, 2000)
    start_ms = np.round(np.concatenate([[0.0], np.cumsum(step_ms)[:-1]]))
    assert without_overlap(steps_of(start_ms, step_ms))[1] == []


@given(
    st.lists(st.tuples(st.floats(0.5, 50), st.floats(0.5, 50)), min_size=1, max_size=30),
)
def test_the_times_never_add_up_to_more_than_the_makespan(gaps_and_times):
    gaps, times = (np.array(values) for values in zip(*gaps_and_times, strict=True))
    steps, _notes = without_overlap(steps_of(np.cumsum(gaps), times))
    assert steps.step_ms.sum() <= makespan_ms(steps, steps.step_ms) * (1 + 1e-9)
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
    found = makespan_ms(steps_of(start_ms, [20] * 3), np.full(3, 20.0))
    assert found == makespan or (makespan is None and np.isnan(found))


def test_unknown_starts_are_no_order_and_no_backwards_clock():
    assert not is_backwards(np.array([0.0, np.nan, 5.0]))
    assert is_backwards(np.array([5.0, np.nan, 0.0]))
    assert in_order(np.array([0.0, 0.0, 5.0]))
    assert not in_order(np.array([0.0, np.nan, 5.0]))
    assert not in_order(None)

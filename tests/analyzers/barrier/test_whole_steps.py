"""Which steps of a trace can be accounted for."""

from __future__ import annotations

import polars as pl
import pytest

from lbal.analyzers.barrier.whole_steps import whole_steps
from lbal.analyzers.trace.trace import Trace, TraceMeta


def trace_of(compute_ms, step_ms):
    rows = range(len(step_ms))
    columns = {
        "step": rows,
        "rank": [0] * len(step_ms),
        "kv_tokens": [1.0] * len(step_ms),
        "num_running": [1] * len(step_ms),
    }
    steps = pl.DataFrame({**columns, "compute_ms": compute_ms, "step_ms": step_ms})
    return Trace.of(TraceMeta("test", "native"), None, steps)


@pytest.mark.parametrize(("excess", "kept"), [(1.0, True), (1.0009, True), (1.0011, False), (1.5, False)])
def test_a_rank_time_may_exceed_its_step_by_as_much_as_clocks_are_read_apart(excess, kept):
    trace = trace_of([5.0, 10.0 * excess], [10.0, 10.0])
    steps, notes = whole_steps(trace.step_arrays(), trace.meta.source)
    assert steps.step.tolist() == ([0, 1] if kept else [0])
    assert [note for note in notes if "clocks disagree" in note] == ([] if kept else notes)
    assert bool(notes) is not kept

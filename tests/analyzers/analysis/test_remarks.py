"""What a trace says beside its figures: a model that contradicts its steps, and requests that wait beside free slots."""

from __future__ import annotations

import json

import pytest

import lbal
from lbal.analyzers.barrier.step_time import StepTimeModel


def trace_of(tmp_path, steps, **header):
    path = tmp_path / "t.jsonl"
    lines = [{"lbal_trace": 1, "dp_size": 2, **header}, *({"step": n, **step} for n, step in enumerate(steps))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lbal.read_trace(path)


def notes_of(trace, **options):
    return lbal.analyze(trace, **options).notes


def test_a_model_that_takes_longer_than_the_steps_took_is_named(tmp_path):
    step = {"step_ms": 12.5, "kv_tokens": [40, 20], "num_running": [4, 2]}
    (note,) = notes_of(trace_of(tmp_path, [step] * 3))
    assert note.startswith(
        "the step model takes 28.3 ms for steps that took 12.5 ms (medians): its idle is not that of"
    )
    fits = StepTimeModel("fits", shared_s=0.0115, per_token_s=1e-9, per_request_s=2e-4)
    assert notes_of(trace_of(tmp_path, [step] * 3), step_model=fits) == []


@pytest.mark.parametrize(
    ("capacity", "why"), [(None, "the trace does not tell whether"), (1000, "KV memory is 30.0% full")]
)
def test_requests_that_wait_beside_free_slots_are_counted_with_what_is_lost_at_most(tmp_path, capacity, why):
    step = {"kv_tokens": [300, 300], "num_running": [15, 15], "num_waiting": [1, 1]}
    header = {} if capacity is None else {"kv_capacity": capacity}
    (note,) = notes_of(trace_of(tmp_path, [step] * 8, max_num_seqs=16, **header))
    assert note.startswith(f"in 16 of 16 rank-steps a request waits beside a free slot ({why}")
    assert note.endswith(
        "93.8% of the slots are taken on average; with all slots taken throughput would be at most 6.67% higher"
    )


def test_requests_that_wait_where_no_slot_is_free_are_no_news(tmp_path):
    step = {"kv_tokens": [300, 300], "num_running": [16, 15], "num_waiting": [3, 0]}
    assert notes_of(trace_of(tmp_path, [step] * 8, max_num_seqs=16)) == []

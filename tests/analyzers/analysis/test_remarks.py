"""What a trace says beside its figures: a model that contradicts its steps."""

from __future__ import annotations

import json

import lbal
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL


def trace_of(tmp_path, steps, **header):
    path = tmp_path / "t.jsonl"
    lines = [{"lbal_trace": 1, "dp_size": 2, **header}, *({"step": n, **step} for n, step in enumerate(steps))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lbal.read_trace(path)


def notes_of(trace, **options):
    return lbal.analyze(trace, **options).notes


def test_a_model_that_takes_longer_than_the_steps_took_is_named(tmp_path):
    step = {"step_ms": 12.5, "kv_tokens": [40, 20], "num_running": [4, 2]}
    trace = trace_of(tmp_path, [step] * 3)
    (note,) = notes_of(trace)
    assert "are taken, so idle is not that of this system" in note
    assert "the model itself takes 28.3 ms for steps that took 12.5 ms (medians)" in note
    (note,) = notes_of(trace, step_model=DEFAULT_STEP_MODEL)
    assert note.startswith(
        "the step model takes 28.3 ms for steps that took 12.5 ms (medians): its idle is not that of"
    )
    fits = StepTimeModel("fits", shared_s=0.0115, per_token_s=1e-9, per_request_s=2e-4)
    assert notes_of(trace_of(tmp_path, [step] * 3), step_model=fits) == []

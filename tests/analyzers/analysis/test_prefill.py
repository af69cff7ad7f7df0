"""What is said of traces whose ranks prefill: by models that know what that takes, and by those that do not."""

from __future__ import annotations

import json

import numpy as np
import pytest

import lbal

DECODE = "C=0.01,a=1e-7,b=1e-4"
MODEL = f"{DECODE},p=1e-4,e=1e-7"
REQUESTS, TOKENS = [10, 10, 10, 10], [10_000, 10_000, 10_000, 10_000]


def trace_of(tmp_path, steps):
    file = tmp_path / "trace.jsonl"
    header = {"lbal_trace": 1, "dp_size": 4}
    lines = [{"step": number, **step} for number, step in enumerate(steps)]
    file.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
    return lbal.read_trace(file)


def step_of(prefill, **columns):
    """A step of four equally loaded ranks: 2 ms of decode each, and the prefill given."""
    return {"kv_tokens": TOKENS, "num_running": REQUESTS, "prefill_tokens": prefill, **columns}


ONE_PREFILLS = [step_of([500, 0, 0, 0], prefill_pairs=[125_000, 0, 0, 0]), step_of([0] * 4, prefill_pairs=[0] * 4)] * 4
"""62.5 ms of prefill on rank 0 in every other step."""


def test_a_model_with_p_tells_how_much_of_the_idle_comes_of_prefill(tmp_path):
    result = lbal.analyze(trace_of(tmp_path, ONE_PREFILLS), step_model=MODEL)
    (run,) = result.runs
    idle = 3 * 62.5 / (4 * (2 * 12 + 62.5))
    assert run.metrics["barrier_idle_fraction"].value == pytest.approx(idle)
    assert run.attribution == pytest.approx(
        {"empty": 0, "count": 0, "length": 0, "prefill": idle, "speed": 0, "unexplained": 0}
    )
    assert run.metrics["prefill_idle_fraction"].value == pytest.approx(idle)
    assert run.metrics["prefill_tokens_per_step"].value == 250
    assert run.metrics["prefill_step_fraction"].value == 0.5
    assert run.metrics["prefill_step_fraction"].basis == "measured"
    assert "padding_fraction" not in run.metrics
    assert "most of it because of uneven prefill" in result.headline
    assert "Prefill falls unevenly on the ranks" in result.headline
    assert run.headroom["unavoidable_idle_fraction"].value == 0, "of steps with prefill nothing is proven"


def test_attention_of_prefill_is_left_out_and_that_is_said_where_its_pairs_are_unknown(tmp_path):
    steps = [{name: values for name, values in step.items() if name != "prefill_pairs"} for step in ONE_PREFILLS]
    result = lbal.analyze(trace_of(tmp_path, steps), step_model=MODEL)
    assert any("does not tell its pairs (prefill_pairs)" in note for note in result.notes)
    assert result.runs[0].metrics["prefill_idle_fraction"].value == pytest.approx(3 * 50 / (4 * (2 * 12 + 50)))


@pytest.mark.parametrize("model", [DECODE, None])
def test_a_model_that_is_not_asked_or_does_not_know_leaves_prefill_out_and_says_so(tmp_path, model):
    """The default model is not asked: what prefill takes depends on the system more than anything else does."""
    result = lbal.analyze(trace_of(tmp_path, ONE_PREFILLS), step_model=model)
    (run,) = result.runs
    assert "prefill" not in run.attribution
    assert "prefill_idle_fraction" not in run.metrics
    assert run.metrics["prefill_tokens_per_step"].value == 250, "it is known how much there was"
    assert run.metrics["barrier_idle_fraction"].value == 0
    assert any("ranks prefill" in note and "leave it out" in note for note in result.notes)


def test_the_estimate_from_step_times_gives_way_where_the_accounts_tell_prefill(tmp_path):
    steps = [dict(step, step_ms=74.5 if step["prefill_tokens"][0] else 12.0) for step in ONE_PREFILLS * 10]
    trace = trace_of(tmp_path, steps)
    unknowing, knowing = (lbal.analyze(trace, step_model=model) for model in (DECODE, MODEL))
    assert "which costs up to" in unknowing.headline
    assert "which costs up to" not in " ".join([knowing.headline, *knowing.notes])
    assert "Prefill falls unevenly on the ranks: 50.0% of steps have prefill on some of them only" in knowing.headline


def test_a_trace_without_prefill_is_told_as_before_whatever_the_model_knows_of_it(tmp_path):
    bare = [{"kv_tokens": [9_000, 10_000, 11_000, 12_000], "num_running": REQUESTS}] * 3
    none = [{**step, "prefill_tokens": [0] * 4} for step in bare]
    results = [
        lbal.analyze(trace_of(tmp_path, steps), step_model=model) for steps, model in ((bare, MODEL), (none, MODEL))
    ]
    for result in results:
        assert "p" not in result.config["step_model"]
        assert not [name for name in result.runs[0].metrics if name.startswith(("prefill", "padding"))]
        assert "prefill" not in result.runs[0].attribution
        assert not any("prefill" in note for note in result.notes)


def test_padding_is_told_apart_from_idle(tmp_path):
    steps = [{"kv_tokens": TOKENS, "num_running": [10, 10, 10, 2], "padded_running": [10] * 4}] * 3
    (run,) = lbal.analyze(trace_of(tmp_path, steps), step_model=DECODE).runs
    assert run.metrics["barrier_idle_fraction"].value == 0
    assert run.metrics["padding_fraction"].value == pytest.approx(8 * 0.1 / (4 * 12))


def test_measured_rank_times_leave_to_prefill_what_the_fit_gives_it(tmp_path):
    random = np.random.default_rng(0)
    steps = []
    for _ in range(400):
        running, prefill = random.integers(5, 20, 4), random.integers(0, 600, 4) * (random.random(4) < 0.3)
        tokens = running * random.integers(500, 1_500, 4)
        compute = 5 + 1e-4 * tokens + 0.1 * running + 0.1 * prefill
        steps.append(
            {
                "kv_tokens": tokens.tolist(), "num_running": running.tolist(), "prefill_tokens": prefill.tolist(),
                "compute_ms": compute.tolist(), "step_ms": float(compute.max()) + 2,
            }
        )  # fmt: skip
    (run,) = lbal.analyze(trace_of(tmp_path, steps)).runs
    assert run.metrics["barrier_idle_fraction"].basis == "measured"
    assert run.attribution["prefill"] > 0.8 * run.metrics["barrier_idle_fraction"].value
    assert abs(run.attribution["unexplained"]) < 1e-6

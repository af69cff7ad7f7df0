"""vLLM's iteration lines: three generations told apart, known loads recovered, and what each of them cannot say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from damaged_lines import damaged
from vllm_lines import iteration, iterations, started

import lbal
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace

GENERATOR = np.random.default_rng(5)
RUNNING = GENERATOR.integers(1, 60, (40, 4)) * (GENERATOR.random((40, 4)) > 0.25)
RUNNING[0] = RUNNING[-1] = RUNNING[:, 0] = 7
SHARES = np.round(RUNNING * 1.5, 1)


def log(generation: str) -> str:
    return started(generation, 4) + iterations(generation, RUNNING.tolist(), SHARES.tolist())


@pytest.mark.parametrize("generation", ["B", "C"])
def test_known_loads_and_steps_without_work_are_recovered_where_all_ranks_number_steps_alike(generation, read) -> None:
    trace = read(log(generation))
    assert trace.meta.resolution == "step"
    assert trace.meta.config["iteration_lines"].startswith(f"generation {generation}")
    assert np.array_equal(trace.step_arrays().num_running, RUNNING)


def test_shares_of_the_kv_space_become_tokens_with_what_the_log_or_the_user_tells(read) -> None:
    expected = SHARES / 100 * 100_000
    assert np.allclose(read(log("C")).step_arrays().kv_tokens, expected)
    bare = iterations("C", RUNNING.tolist(), SHARES.tolist())
    assert "kv_tokens" not in read(bare).steps.columns
    assert any("--kv-capacity" in text for text in read(bare).meta.warnings)
    assert np.allclose(read(bare, kv_capacity=50_000).step_arrays().kv_tokens, expected / 2)


def test_generation_a_is_joined_by_the_clock_as_its_indices_are_of_each_rank(read) -> None:
    trace = read(log("A"))
    assert trace.meta.alignment == "time"
    seen = trace.step_arrays().num_running
    steps = np.rint(trace.step_arrays().start_ms / 2000).astype(int)
    logged = RUNNING[steps]
    assert np.array_equal(seen[logged > 0], logged[logged > 0])
    assert any("numbers its own iterations" in text for text in trace.meta.warnings)


def test_no_iteration_line_is_taken_for_time_of_the_rank_alone(read) -> None:
    trace = read(log("B"))
    assert "compute_ms" not in trace.steps.columns
    assert any("already contains the wait" in text for text in trace.meta.warnings)


def test_a_missing_number_is_no_idle_step_where_dummy_steps_have_lines(read) -> None:
    lines = [iteration("C", rank, step, 4) for step in range(5) for rank in (0, 1) if (step, rank) != (2, 1)]
    lines.append(iteration("C", 0, 5, 4) + iteration("C", 1, 5, 0, dummy=True))
    running = read("".join(lines)).step_arrays().num_running
    assert np.isnan(running[2, 1])
    assert running[5].tolist() == [4, 0]


def test_a_restart_is_no_gap(read) -> None:
    first = started("C", 2) + "".join(iteration("C", rank, step, 9) for step in range(3) for rank in (0, 1))
    then = started("C", 2) + "".join(iteration("C", rank, step, 5) for step in range(50, 60) for rank in (0, 1))
    trace = read(first + then)
    assert trace.num_steps == 10
    assert any("2 runs" in text for text in trace.meta.warnings)
    assert read(first + then, run_index=0).step_arrays().num_running.tolist() == [[9, 9]] * 3


def test_ranks_that_number_iterations_apart_have_no_barrier(read) -> None:
    lines = []
    for step in range(30):
        lines.append(iteration("C", 0, step, 4, clock=f"08-22 10:00:{step:02d}"))
        lines.append(iteration("C", 1, 500 + step, 4, clock=f"08-22 10:00:{step:02d}"))
        lines.append(iteration("C", 1, step, 4, clock=f"08-22 09:00:{step:02d}"))
    warnings = read("".join(sorted(lines, key=lambda line: line.split()[3]))).meta.warnings
    assert any("barrier idle does not apply" in text for text in warnings)


def test_where_the_log_does_not_tell_the_model_the_barrier_is_said_to_depend_on_it(read) -> None:
    bare = "".join(iteration("C", rank, step, 4) for step in range(5) for rank in (0, 1))
    assert any("PR 30739" in text for text in read(bare).meta.warnings)
    assert not any("PR 30739" in text for text in read("enable_expert_parallel=True\n" + bare).meta.warnings)


def test_a_cut_line_is_counted_and_never_used_in_part(read) -> None:
    whole = "".join(iteration("B", 0, step, 4) for step in range(3))
    trace = read(whole + iteration("B", 0, 3, 4)[:-12] + "\n")
    assert trace.num_steps == 3
    assert trace.meta.excluded == {"lines that are cut or mangled": 1}


@pytest.mark.parametrize("generation", ["A", "B", "C"])
def test_no_damage_raises_anything_but_a_refusal(generation, tmp_path: Path) -> None:
    text = (started(generation, 2) + iterations(generation, RUNNING[:6, :2].tolist(), SHARES[:6, :2].tolist())).encode()
    generator = np.random.default_rng(11)
    path = tmp_path / "x.log"
    for _ in range(250):
        path.write_bytes(damaged(text, generator))
        try:
            running = read_trace(path, format_name="vllm-iterations").step_arrays().num_running
        except InputError:
            continue
        assert (np.isnan(running) | (running >= 0)).all()


def test_excerpts_from_the_field_read_as_they_are(shared: Path) -> None:
    old = read_trace(shared / "field/l11_vllm_iteration_genA_dp_scheduled.log")
    assert old.meta.alignment == "time"
    assert old.meta.sources[0]["ranks"] == [0, 1]
    assert old.meta.kv_capacity == 458_128
    dummies = read_trace(shared / "field/l13_vllm_iteration_genB_dummy.log").step_arrays()
    assert dummies.step.tolist() == [90, 91]
    assert dummies.num_running.tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize("generation", ["A", "B", "C"])
def test_requests_in_context_do_not_count_as_decoding(generation: str, read) -> None:
    """A step takes b for each request that decodes; those in context are told by their tokens."""
    trace = read("".join(iteration(generation, rank, 3, 40, context=(2 * rank, 900 * rank)) for rank in (0, 1)))
    steps = trace.step_arrays()
    assert steps.num_running.tolist() == [[40, 40]]
    assert steps.prefill_tokens.tolist() == [[0, 900]]


def test_a_rank_that_only_prefills_is_not_called_one_without_work(read) -> None:
    lines = [
        iteration("B", rank, step, 0 if rank else 40, context=(rank, 900 * rank))
        for step in range(9)
        for rank in (0, 1)
    ]
    assert "no work" not in lbal.analyze(read("enable_expert_parallel=True\n" + "".join(lines))).headline

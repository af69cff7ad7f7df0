"""TensorRT-LLM: the iteration log in every generation, and rows of /metrics; whose times they are, and which ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from damaged_lines import damaged

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace

GENERATIONS = ("colon", "equals", "cached", "dummies")


def line(generation: str, step: int, rank: int, running: int, tokens: int, device: str = "20.5ms") -> str:
    """A row as a generation writes it; `running` requests, none of them a dummy."""
    head = f"[08/22/2026-10:00:00] [TRT-LLM] [I] [_torch][RANK {rank}] iter = {step}, global_rank = {rank}, rank = {rank}, "
    times = f"host_step_time = 30.25ms, prev_device_step_time = {device}, timestamp = 2026-08-22 10:00:00, "
    states = "'num_ctx_requests': 0, 'num_ctx_tokens': 0, 'num_generation_tokens': 256"
    if generation == "colon":
        count = f"num_scheduled_requests: {running}, "
        return f"{head}currank_total_requests = 3/24, {times}{count}states = {{{states}}}\n"
    padded = max(running, 1) if generation == "dummies" else running
    head += f"num_scheduled_requests = {padded}, kv_cache_util = {tokens / 600_000:.3f}, currank_total_requests = 3/24, {times}"
    if generation == "equals":
        return f"{head}states = {{{states}}}\n"
    suffix = f", num_active = 14, num_fetched = 3, num_dummy = {padded - running}, num_unscheduled = 5"
    return f"{head}states = {{{states}, 'cached_kv_tokens': {tokens}}}{suffix if generation == 'dummies' else ''}\n"


RUNNING = np.random.default_rng(2).integers(0, 40, (30, 4))
TOKENS = RUNNING * 1000


def log(generation: str) -> str:
    rows = ((step, rank) for step in range(30) for rank in range(4))
    return "".join(
        line(generation, step, rank, int(RUNNING[step, rank]), int(TOKENS[step, rank])) for step, rank in rows
    )


@pytest.mark.parametrize("generation", GENERATIONS)
def test_known_loads_of_every_generation_are_recovered(generation: str, read) -> None:
    steps = read(log(generation)).step_arrays()
    assert np.array_equal(steps.num_running, RUNNING)
    if generation in ("cached", "dummies"):
        assert np.array_equal(steps.kv_tokens, TOKENS)


def test_a_device_time_belongs_to_the_row_before_unless_that_had_no_work(read) -> None:
    rows = [(0, 4, "N/A"), (1, 4, "11.5ms"), (2, 0, "12.5ms"), (3, 4, "1456.7ms")]
    steps = read("".join(line("cached", step, 0, running, 9, device) for step, running, device in rows)).step_arrays()
    assert steps.step_ms.tolist() == [11.5, 12.5, 30.25, 30.25]


def test_the_time_of_a_step_is_no_time_of_a_rank_alone(read) -> None:
    trace = read(log("cached"))
    assert "compute_ms" not in trace.steps.columns
    assert any("contain the wait" in text for text in trace.meta.warnings)


def test_a_log_of_rank_0_alone_says_how_to_get_the_others(read) -> None:
    assert any("TLLM_PROFILE_LOG_RANKS=all" in text for text in read(line("cached", 1, 0, 3, 9)).meta.warnings)
    with pytest.raises(InputError, match="print_iter_log: true"):
        read("[08/22/2026-10:00:00] [TRT-LLM] [I] ready\n")


def test_padded_generation_tokens_are_never_taken_for_requests(read) -> None:
    old = line("colon", 1, 0, 3, 9).replace("num_scheduled_requests: 3, ", "")
    trace = read(old + line("colon", 2, 0, 3, 9))
    assert trace.step_arrays().num_running.tolist() == [[3]]
    assert sum(trace.meta.excluded.values()) == 1


def row(rank: int | None, step: int | None, running: int, *, key: str = "attentionDpRank") -> str:
    batch = {
        "numGenRequests": running,
        "numGenKvTokens": 100 * running,
        "numScheduledRequests": running,
        "numCtxTokens": 0,
    }
    named = {} if rank is None else {key: rank}
    numbered = {} if step is None else {"iter": step}
    times = {"hostStepTimeMS": 12.5, "iterLatencyMS": 25.0, "schedulerMode": "overlap", "numQueuedRequests": 0}
    return json.dumps({**numbered, **named, **times, "inflightBatchingStats": batch})


@pytest.mark.parametrize("key", ["attentionDpRank", "rank"])
@pytest.mark.parametrize("shape", ["lines", "lists"])
@pytest.mark.parametrize("numbered", [True, False], ids=["iter", "no iter"])
def test_rows_of_one_iteration_are_one_step(key: str, shape: str, numbered: bool, read) -> None:
    steps = [
        [row(rank, 5 + step if numbered else None, 3 + rank + step, key=key) for rank in (0, 1)] for step in (0, 1)
    ]
    separator = "\n" if shape == "lines" else ", "
    text = "\n".join(separator.join(rows) if shape == "lines" else f"[{separator.join(rows)}]" for rows in steps)
    arrays = read(text).step_arrays()
    assert arrays.num_running.tolist() == [[3, 4], [4, 5]]
    assert arrays.kv_tokens.tolist() == [[300, 400], [400, 500]]
    assert arrays.step_ms.tolist() == [12.5, 12.5]


def test_times_of_rank_0_in_all_rows_are_no_times_of_the_ranks(read) -> None:
    trace = read("\n".join(row(rank, 1, 3) for rank in (0, 1)))
    assert "compute_ms" not in trace.steps.columns
    assert any("rank 0's" in text for text in trace.meta.warnings)
    assert trace.steps.sort("rank")["num_waiting"].to_list() == [0, None]


def test_rows_of_one_rank_say_how_to_get_the_others(read) -> None:
    assert any("TLLM_METRICS_ALL_RANKS=1" in text for text in read(row(None, 1, 3)).meta.warnings)


@pytest.mark.parametrize(
    ("name", "text"),
    [("trtllm-log", log("dummies")[:2500]), ("trtllm-metrics", "\n".join(row(rank, 1, 3) for rank in (0, 1)))],
)
def test_no_damage_raises_anything_but_a_refusal(name: str, text: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    path = tmp_path / "x.log"
    for _ in range(500):
        path.write_bytes(damaged(text.encode(), generator))
        try:
            running = read_trace(path, format_name=name).step_arrays().num_running
        except InputError:
            continue
        assert (np.isnan(running) | (running >= 0)).all()


def test_the_excerpt_from_the_field_reads_as_it_is(shared: Path) -> None:
    trace = read_trace(shared / "field/l18_trtllm_iter_rank0.log")
    assert trace.step_arrays().step.tolist() == [198, 258]
    assert trace.step_arrays().num_running.tolist() == [[10], [1]]
    assert trace.step_arrays().step_ms == pytest.approx([5.060911178588867, 7.4])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_requests_in_context_do_not_count_as_decoding(generation: str, read) -> None:
    """They are scheduled too, and are told by their tokens."""
    text = line(generation, 4, 0, 12, 900).replace("'num_ctx_requests': 0, 'num_ctx_tokens': 0", "'num_ctx_requests': 5, 'num_ctx_tokens': 700")  # fmt: skip
    steps = read(text).step_arrays()
    assert steps.num_running.tolist() == [[7]]
    assert steps.prefill_tokens.tolist() == [[700]]


def test_a_row_whose_requests_in_context_are_mangled_has_no_count(read) -> None:
    broken = line("cached", 5, 0, 12, 900).replace("'num_ctx_requests': 0", "'num_ctx_requests': 0x")
    trace = read(line("cached", 4, 0, 12, 900) + broken)
    assert trace.step_arrays().num_running.tolist() == [[12]]
    assert trace.meta.excluded == {"lines that are cut or mangled": 1}


@pytest.mark.parametrize("lacks", ["numGenRequests", "numScheduledRequests", "neither"])
def test_rows_of_metrics_count_requests_in_generation(lacks: str, read) -> None:
    record = json.loads(row(0, 1, 7))
    batch = record["inflightBatchingStats"] | {"numScheduledRequests": 10, "numContextRequests": 3}
    record["inflightBatchingStats"] = {key: value for key, value in batch.items() if key != lacks}
    assert read(json.dumps(record)).step_arrays().num_running.tolist() == [[7]]


def test_rows_that_never_tell_requests_in_context_count_all_and_say_so(read) -> None:
    trace = read(line("cached", 4, 0, 12, 900).replace("'num_ctx_requests': 0, ", ""))
    assert trace.step_arrays().num_running.tolist() == [[12]]
    assert any("not told apart from those that decode" in text for text in trace.meta.warnings)
    assert not any("not told apart" in text for text in read(line("cached", 4, 0, 12, 900)).meta.warnings)

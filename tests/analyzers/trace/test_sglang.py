"""SGLang's server log: every version's lines with known loads, wrapped lines, samples, steps, and damaged lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from damaged_lines import damaged

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import Trace

RUNNING = np.random.default_rng(5).integers(1, 40, (20, 4))
TOKENS = RUNNING * 900
GENERATIONS = {
    "0.4.3": "[{at} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: 0.12, gen throughput (token/s): {t}, #queue-req: 2",
    "0.4.4": "[{at} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: 0.01, gen throughput (token/s): {t}, largest-len: 0, #queue-req: 2, ",
    "0.5.2": "[{at} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, gen throughput (token/s): {t}, #queue-req: 2, ",
    "0.5.8": "[{at} EP{r} TP{r} DP{r}] Decode batch, #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, gen throughput (token/s): {t}, #queue-req: 2, ",
    "0.5.10": "[{at} DP{r} TP0] Decode batch, #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, gen throughput (token/s): {t}, #queue-req: 2",
    "pd": "[{at} DP{r} TP{r}] Decode batch, #running-req: {n}, #token: {k}, token usage: 0.97, pre-allocated usage: 0.73, "
    "#prealloc-req: 21, #transfer-req: 12, #retracted-req: 0, cuda graph: True, gen throughput (token/s): {t}, #queue-req: 2",
    "swa": "[{at}.250 DP{r} TP{r}] Decode batch, #running-req: {n}, #full token: {k}, full token usage: 0.10, #swa token: 7, "
    "swa token usage: 0.05, cuda graph: True, gen throughput (token/s): {t}, #queue-req: 2, fwd occupancy: 91.20%",
    "custom": "{at} INFO 3122{r} [DP{r} TP{r} EP{r} scheduler_metrics_mixin.py:222] Decode batch. #running-req: {n}, #token: {k}, "
    "token usage: 0.21, cuda graph: True, gen throughput (token/s): {t}, #queue-req: 2",
    "jax": "[{at} DP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: 0.00, gen throughput (token/s): {t}, "
    "#queue-req: 2, #cache_miss: 1",
}


@pytest.fixture
def read(tmp_path: Path):
    def read_text(text: str | bytes) -> Trace:
        path = tmp_path / "server.log"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_trace(path)

    return read_text


def line(generation: str, row: int, rank: int) -> str:
    """A decode line of steps of 25 ms."""
    running, tokens = int(RUNNING[row, rank]), int(TOKENS[row, rank])
    at = f"2026-08-22 10:00:{row:02d}"
    return GENERATIONS[generation].format(at=at, r=rank, n=running, k=tokens, t=running * 40)


def log(generation: str) -> list[str]:
    return [line(generation, row, rank) for row in range(20) for rank in range(4)]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_known_loads_of_every_generation_are_recovered(generation: str, read) -> None:
    trace = read("\n".join(log(generation)) + "\n")
    steps = trace.step_arrays()
    assert np.array_equal(steps.kv_tokens, TOKENS)
    assert np.array_equal(steps.num_running, RUNNING)
    assert np.allclose(steps.step_ms, 25.0)
    assert trace.meta.resolution == "sampled"
    assert not trace.meta.excluded
    assert any("--decode-log-interval 1 and SGLANG_LOG_FORWARD_ITERS=1" in text for text in trace.meta.warnings)


WRAPPERS = {
    "docker": lambda text, at: f"{at}T09:00:00.123456789Z {text}\n",
    "pod": lambda text, at: f"[pod/sglang-0/main] {text}\n",
    "journald": lambda text, at: f"Aug 22 10:00:00 host python3[77]: {text}\n",
    "ray": lambda text, at: f"\x1b[36m(SchedulerActor pid=7, ip=10.0.0.1)\x1b[0m {text}\n",
    "crlf": lambda text, at: f"{text}\r\n",
    "progress": lambda text, at: f"Loading:  50%|#####     | 1/2\r{text}\n",
    "log": lambda text, at: json.dumps({"log": text + "\n", "stream": "stdout"}) + "\n",
    "message": lambda text, at: json.dumps({"message": text, "level": "info"}) + "\n",
    "textPayload": lambda text, at: json.dumps({"insertId": "a", "textPayload": text}) + "\n",
    "MESSAGE": lambda text, at: json.dumps({"MESSAGE": text, "PRIORITY": "6"}) + "\n",
}


@pytest.mark.parametrize("wrapper", [name for name in WRAPPERS if name != "docker"])
def test_what_wraps_a_line_does_not_change_what_it_says(wrapper: str, read) -> None:
    trace = read("".join(WRAPPERS[wrapper](text, "2026-08-22") for text in log("0.5.10")))
    assert np.array_equal(trace.step_arrays().kv_tokens, TOKENS)
    assert not trace.meta.excluded


def test_the_clock_of_the_container_is_used(read) -> None:
    lines = [f"2026-08-22T10:00:00.{row * 40:03d}000000Z {line('0.5.10', 0, 0)}\n" for row in range(5)]
    assert np.allclose(np.diff(read("".join(lines)).step_arrays().start_ms), 40.0)


def test_lines_of_every_pass_are_steps_and_a_missing_one_is_a_rank_without_work(read) -> None:
    rows = []
    for row in range(20):
        for rank in range(4):
            if (row, rank) != (7, 2):
                rows.append(line("0.5.10", row, rank).replace("batch,", f"batch [{3000 + row}],"))
    trace = read("\n".join(rows) + "\n")
    known = TOKENS.copy()
    known[7, 2] = 0
    assert trace.meta.resolution == "step"
    assert np.array_equal(trace.step_arrays().kv_tokens, known)


def test_numbers_of_every_40th_pass_are_samples(read) -> None:
    rows = [
        line("0.5.10", row, rank).replace("batch,", f"batch [{40 * row + rank}],")
        for row in range(20)
        for rank in (0, 1)
    ]
    assert read("\n".join(rows) + "\n").meta.resolution == "sampled"


def test_of_restarts_the_longest_run_is_read(read) -> None:
    start = "[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', dp_size=4, tp_size=4)\n"
    lines = [text + "\n" for text in log("0.5.10")]
    trace = read(start + "".join(lines[:16]) + start + "".join(lines[16:]))
    assert np.array_equal(trace.step_arrays().kv_tokens, TOKENS[4:])


def test_a_number_that_may_be_cut_is_not_used(read) -> None:
    whole = line("0.5.10", 0, 0)
    cut = whole[: whole.index(", token usage") - 1]
    trace = read(f"{whole}\n{cut}\n{cut.replace('#token', '#tok')}\n{line('0.5.10', 1, 0)}\n")
    assert trace.step_arrays().kv_tokens[:, 0].tolist() == TOKENS[:2, 0].tolist()
    assert trace.meta.excluded == {"lines that are cut or mangled": 2}


def test_prefill_lines_beside_decode_lines_are_counted(read) -> None:
    prefill = (
        "[2026-08-22 10:00:00 DP3 TP3] Prefill batch, #new-seq: 2, #new-token: 8192, #cached-token: 0, token usage: 0.42, "
        "#running-req: 33, #queue-req: 4, cuda graph: False, input throughput (token/s): 45012.10\n"
    )
    assert sum(read(prefill + "\n".join(log("0.5.10")) + "\n").meta.excluded.values()) == 1


def test_a_log_without_batch_lines_says_what_would_write_them(read) -> None:
    with pytest.raises(InputError, match="is an SGLang log without a Decode batch"):
        read("[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', dp_size=4)\n")


def test_a_scrape_is_not_taken_for_a_log_without_batch_lines(read) -> None:
    with pytest.raises(InputError, match="no known trace format"):
        read('sglang:num_running_reqs{dp_rank="3",tp_rank="3"} 33.0\n')


FIELD_ROWS = {
    "l05": {2: 162112, 3: 157952, 4: 168768, 5: 164224},
    "l10": {5: 2765, 7: 6135},
    "l23": {0: 64},
    "l24": {0: 7352},
}


@pytest.mark.parametrize("name", FIELD_ROWS)
def test_excerpts_from_the_field_are_read_right(name: str, shared: Path) -> None:
    path = next((shared / "field").glob(f"{name}_*"))
    tokens = read_trace(path).step_arrays().kv_tokens[-1]
    assert {rank: value for rank, value in enumerate(tokens.tolist()) if value == value} == FIELD_ROWS[name]


def test_prefill_lines_alone_without_running_requests_are_named(shared: Path) -> None:
    with pytest.raises(InputError, match="6 prefill lines without #running-req"):
        read_trace(next((shared / "field").glob("l07_*")))


def test_no_damage_raises_anything_but_a_refusal(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    text = "\n".join([*log("pd")[:8], WRAPPERS["log"](log("swa")[9], "").rstrip()]).encode()
    path = tmp_path / "x.log"
    for _ in range(500):
        path.write_bytes(damaged(text, generator))
        try:
            tokens = read_trace(path, format_name="sglang").step_arrays().kv_tokens
        except InputError:
            continue
        assert (np.isnan(tokens) | (tokens >= 0)).all()

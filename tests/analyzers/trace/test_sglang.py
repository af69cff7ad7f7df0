"""SGLang's server log: every version's lines with known loads, wrapped lines, samples, steps, and damaged lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from damaged_lines import damaged
from sglang_lines import BODIES, PREFILL_BODIES, PREFIXES, decode, prefill, text

import lbal
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.writing.native import write_native

RUNNING = np.random.default_rng(5).integers(1, 40, (20, 4))
TOKENS = RUNNING * 900


def log(body: str = "0.5.10", prefix: str = "attention DP") -> list[str]:
    """Lines of samples with the known loads, 25 ms a step, without their line ends."""
    return [
        decode(rank, int(RUNNING[row, rank]), int(TOKENS[row, rank]), second=row, body=body, prefix=prefix).rstrip("\n")
        for row in range(20)
        for rank in range(4)
    ]


@pytest.mark.parametrize(
    ("body", "prefix"), [*((b, "attention DP") for b in BODIES), *(("0.5.10", p) for p in PREFIXES)]
)
def test_known_loads_of_every_generation_and_prefix_are_recovered(body: str, prefix: str, read) -> None:
    trace = read("\n".join(log(body, prefix)) + "\n")
    steps = trace.step_arrays()
    assert np.array_equal(steps.kv_tokens, TOKENS)
    assert np.array_equal(steps.num_running, RUNNING)
    assert (steps.num_waiting == 2).all()
    assert np.allclose(steps.step_ms, 25.0)
    assert np.array_equal(np.diff(steps.start_ms), np.full(19, 1000.0))
    assert trace.meta.resolution == "sampled"
    assert not trace.meta.excluded
    assert any("--decode-log-interval 1 and SGLANG_LOG_FORWARD_ITERS=1" in text for text in trace.meta.warnings)
    assert any("do not wait for one another" in text for text in trace.meta.warnings) == (prefix in PLAIN)


PLAIN = ("plain DP", "DP alone")
"""Prefixes of copies of the server."""
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
    trace = read("".join(WRAPPERS[wrapper](text, "2026-08-22") for text in log()))
    assert np.array_equal(trace.step_arrays().kv_tokens, TOKENS)
    assert not trace.meta.excluded


def test_the_clock_of_the_container_is_used(read) -> None:
    lines = [f"2026-08-22T10:00:00.{row * 40:03d}000000Z {log()[0]}\n" for row in range(5)]
    assert np.allclose(np.diff(read("".join(lines)).step_arrays().start_ms), 40.0)


def test_numbers_of_every_40th_pass_are_samples(read) -> None:
    rows = [decode(rank, 7, 900, second=row, iteration=40 * row + rank) for row in range(20) for rank in (0, 1)]
    assert read(text(rows)).meta.resolution == "sampled"


def test_of_restarts_the_longest_run_is_read(read) -> None:
    start = "[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', dp_size=4, tp_size=4)\n"
    lines = [text + "\n" for text in log()]
    trace = read(start + "".join(lines[:16]) + start + "".join(lines[16:]))
    assert np.array_equal(trace.step_arrays().kv_tokens, TOKENS[4:])


def test_a_number_that_may_be_cut_is_not_used(read) -> None:
    whole = log()[0]
    cut = whole[: whole.index(", token usage") - 1]
    trace = read(f"{whole}\n{cut}\n{cut.replace('#token', '#tok')}\n{log()[4]}\n")
    assert trace.step_arrays().kv_tokens[:, 0].tolist() == TOKENS[:2, 0].tolist()
    assert trace.meta.excluded == {"lines that are cut or mangled": 2}


def test_prefill_lines_beside_decode_lines_are_counted(read) -> None:
    excluded = read(prefill(3, 8192) + "\n".join(log()) + "\n").meta.excluded
    assert excluded == {"prefill lines beside sampled decode lines (they have no decode load)": 1}


def test_a_log_without_batch_lines_says_what_would_write_them(read) -> None:
    with pytest.raises(InputError, match="is an SGLang log without a Decode batch"):
        read("[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', dp_size=4)\n")


def test_a_scrape_is_not_taken_for_a_log_without_batch_lines(read) -> None:
    assert read('sglang:num_running_reqs{dp_rank="3",tp_rank="3"} 33.0\n').meta.format == "sglang-prometheus"


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


@pytest.mark.parametrize("body", PREFILL_BODIES)
def test_new_tokens_of_prefill_lines_alone_are_added_up_by_second(body: str, read) -> None:
    lines = [prefill(rank, 100 * (rank + 1), second=second, body=body) for second in (0, 0, 1) for rank in (0, 1)]
    trace = read(text([*lines, prefill(0, 7, second=2, body=body), prefill(1, 9, second=3, body=body)]))
    steps = trace.step_arrays()
    assert steps.prefill_tokens.tolist()[:2] == [[200, 400], [100, 200]]
    assert np.array_equal(steps.prefill_tokens[2:], [[7, 0], [np.nan, 9]], equal_nan=True)
    assert np.isnan(steps.num_running).all()
    assert trace.meta.resolution == "interval"


def test_new_tokens_of_numbered_passes_are_steps(read) -> None:
    lines = [prefill(rank, 100 + rank, iteration=number) for number in range(5) for rank in (0, 1)]
    trace = read(text(lines))
    assert trace.meta.resolution == "step"
    assert trace.step_arrays().prefill_tokens.tolist() == [[100, 101]] * 5


def test_lines_of_one_second_are_all_samples(read, shared: Path) -> None:
    """With --decode-log-interval 1 a rank writes many lines a second, and the clock has seconds only."""
    rows = [
        decode(rank, 5 + rank, 900 + turn, second=second) for second in (0, 1) for turn in range(4) for rank in (0, 1)
    ]
    steps = read(text(rows)).step_arrays()
    assert steps.kv_tokens.tolist() == [[900 + turn, 900 + turn] for _second in (0, 1) for turn in range(4)]
    assert steps.start_ms.tolist() == [250.0 * moment for moment in range(8)]
    assert read_trace(next((shared / "field").glob("l23_*"))).step_arrays().kv_tokens.tolist() == [[64], [64]]


def test_the_analysis_of_prefill_lines_alone_says_what_they_say(shared: Path) -> None:
    found = lbal.analyze(read_trace(next((shared / "field").glob("l07_*"))))
    assert "barrier idle of decode is n/a" in found.headline
    assert "1.063 times the mean of new tokens, 1.547 times those of the least busy" in found.headline
    (run,) = found.runs
    assert run.metrics["prefill_imbalance_ratio"].value == pytest.approx(1.0626080940850917)
    assert run.metrics["prefill_tokens_per_rank"].value == pytest.approx(481.8333333333333)
    assert run.details["new_tokens"] == {"0": 512, "1": 331, "2": 512, "4": 512, "5": 512, "6": 512}
    assert "barrier_idle_fraction" not in run.metrics
    assert run.details["unavailable"]["barrier_idle_fraction"] == "the log has prefill lines alone"


def test_a_trace_of_prefill_alone_is_stored_and_read_back(read, tmp_path: Path) -> None:
    trace = read(text(prefill(rank, 100 + rank, iteration=number) for number in range(5) for rank in (0, 1)))
    write_native(trace, tmp_path / "stored.jsonl")
    stored = read_trace(tmp_path / "stored.jsonl")
    assert stored.steps.equals(trace.steps)
    assert lbal.analyze(stored).headline == lbal.analyze(trace).headline


def test_no_damage_raises_anything_but_a_refusal(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    whole = "\n".join([*log("PD decode")[:8], WRAPPERS["log"](log("hybrid SWA")[9], "").rstrip()]).encode()
    path = tmp_path / "x.log"
    for _ in range(500):
        path.write_bytes(damaged(whole, generator))
        try:
            tokens = read_trace(path, format_name="sglang").step_arrays().kv_tokens
        except InputError:
            continue
        assert (np.isnan(tokens) | (tokens >= 0)).all()


def test_two_logs_of_prefill_alone_are_compared_by_their_new_tokens(read) -> None:
    one, other = (
        lbal.analyze(read(text(prefill(rank, tokens, iteration=0) for rank, tokens in enumerate(new))))
        for new in ((100, 300), (200, 200))
    )
    compared = lbal.compare(one, other, allow_mismatch=["trace"])
    assert compared.headline.startswith("imbalance ratio of new tokens -33.3% (not judged); of 3 metrics")

"""Logs that only look at the load every few seconds: vLLM's statistics, LMDeploy's, DyntraLB's tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from damaged_lines import damaged
from vllm_lines import periodic, seconds, started

from lbal import analyze
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace

CLOCKS = seconds(range(0, 100, 10))
A_SECOND_LATER = seconds(range(1, 101, 10))


def test_lines_of_one_look_may_be_a_second_apart(read) -> None:
    lines = [
        periodic(rank, 10 * rank + look, rank, 50, clocks[look])
        for look in range(10)
        for rank, clocks in enumerate((CLOCKS, A_SECOND_LATER))
    ]
    trace = read("".join(lines))
    assert trace.meta.resolution == "sampled"
    assert trace.step_arrays().num_running.tolist() == [[look, 10 + look] for look in range(10)]
    assert trace.steps.filter(trace.steps["rank"] == 1)["num_waiting"].to_list() == [1] * 10


def test_a_rank_that_falls_silent_is_unknown_not_idle(read) -> None:
    lines = [periodic(0, 5, 0, 50, clock) for clock in CLOCKS] + [periodic(1, 3, 0, 50, clock) for clock in CLOCKS[:4]]
    running = read("".join(lines)).step_arrays().num_running
    assert (running[:4, 1] == 3).all()
    assert np.isnan(running[6:, 1]).all()


def test_sums_of_all_engines_are_told_with_the_switch_that_keeps_the_ranks_apart(read) -> None:
    sums = periodic(None, 400, 0, 41).replace("Avg prompt", "8 Engines Aggregated: Avg prompt")
    with pytest.raises(InputError, match=r"sums up its 8 engines.*without --aggregate-engine-logging"):
        read(sums)
    trace = read(sums + periodic(0, 5, 0, 50))
    assert trace.step_arrays().num_running.tolist() == [[5]]
    assert sum(trace.meta.excluded.values()) == 1


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (
            "WARNING x AsyncLLM created with api_server_count more than 1; disabling stats logging to",
            "--api-server-count 1",
        ),
        ("(EngineCore_DP0 pid=7) INFO 08-22 10:00:00 [core.py:1] ready", "--enable-logging-iteration-details"),
        ("Avg prompt tput: 0.0 toks/s, Avg generation tput: 8000.0 toks/s, Reqs Running: 400", "scrape /metrics"),
    ],
)
def test_a_log_of_vllm_without_loads_says_what_would_write_them(text: str, advice: str, read) -> None:
    with pytest.raises(InputError, match=advice):
        read(text + "\n")


@pytest.mark.parametrize(
    "prefix", ["2026-12-31T23:59:59.331095044Z ", "\x1b[36m", "Processed: 12%|##\r", "(RayWorker pid=3, ip=10.0.0.1) "]
)
def test_what_stands_before_a_line_does_not_matter(prefix: str, read) -> None:
    trace = read(prefix + periodic(1, 5, 2, 50) + prefix + periodic(0, 6, 2, 50))
    assert trace.step_arrays().num_running.tolist() == [[6, 5]]


@pytest.mark.parametrize("key", ["log", "message", "textPayload", "MESSAGE"])
def test_a_collector_s_json_reads_as_the_line_in_it_with_the_collector_s_clock(key: str, read) -> None:
    moments = ["2026-08-22T10:00:00.250Z", "2026-08-22T10:00:10.500Z"]
    lines = [json.dumps({key: periodic(rank, 5 + rank, 2, 50), "time": at}) for at in moments for rank in (0, 1)]
    steps = read("\n".join(lines) + "\n").step_arrays()
    assert steps.num_running.tolist() == [[5, 6], [5, 6]]
    assert steps.start_ms.tolist() == [0, 10_250]


def test_new_year_is_no_way_back(read) -> None:
    clocks = ["12-31 23:59:45", "12-31 23:59:55", "01-01 00:00:05", "01-01 00:00:15"]
    start = read("".join(periodic(0, 5, 0, 50, clock) for clock in clocks)).step_arrays().start_ms
    assert start.tolist() == [0, 10_000, 20_000, 30_000]


def test_per_cent_become_tokens_where_the_log_tells_the_size_of_a_rank(read) -> None:
    trace = read(started("C", 2, 1000) + periodic(0, 5, 0, 50) + periodic(1, 5, 0, 25))
    assert trace.step_arrays().kv_tokens.tolist() == [[500, 250]]
    assert trace.meta.engine_version == "0.33.0"
    assert trace.meta.max_num_seqs == 64


def test_no_damage_raises_anything_but_a_refusal(tmp_path: Path) -> None:
    lines = [periodic(rank, 10, 1, 50, clock) for clock in CLOCKS[:4] for rank in (0, 1)]
    text = (started("C", 2) + "".join(lines)).encode()
    generator = np.random.default_rng(3)
    path = tmp_path / "x.log"
    for _ in range(600):
        path.write_bytes(damaged(text, generator))
        try:
            running = read_trace(path, format_name="vllm-periodic").step_arrays().num_running
        except InputError:
            continue
        assert (np.isnan(running) | (running >= 0)).all()


@pytest.mark.parametrize(
    ("name", "running", "waiting"),
    [
        ("l01_vllm_periodic_dp8_waiting.log", [[51, 31]], [117, 108]),
        ("l14_vllm_docker_timestamps.log", [[9], [9], [10]], [0, 1, 0]),
        ("l16_vllm_multiport_supervisor.log", [[0, 0]], [0, 0]),
        ("l17_vllm_ray_batch.log", [[38, 42]], [0, 0]),
        ("l22_lmdeploy_dp.log", [[45]], [5]),
        ("l29_vllm_pre_v1.log", [[247]], [740]),
    ],
)
def test_excerpts_from_the_field_read_as_they_are(name: str, running, waiting, shared: Path) -> None:
    trace = read_trace(shared / "field" / name)
    assert trace.step_arrays().num_running.tolist() == running
    assert trace.steps.sort("step", "rank")["num_waiting"].to_list() == waiting


def test_the_clock_of_a_container_counts_before_that_of_the_server(shared: Path) -> None:
    start = read_trace(shared / "field/l14_vllm_docker_timestamps.log").step_arrays().start_ms
    assert np.allclose(np.diff(start), 10_001, atol=1)


def test_blocks_of_requests_become_tokens_of_ranks(shared: Path) -> None:
    trace = read_trace(shared / "logs/ascend_dyntra_lb.txt")
    assert trace.step_arrays().kv_tokens.tolist() == [[752 * 128, 26 * 128]]
    assert trace.step_arrays().num_running.tolist() == [[3, 2]]


def test_the_headline_of_one_rank_claims_nothing_of_idle(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text(periodic(0, 5, 0, 50))
    assert "nothing to compare" in analyze(read_trace(path)).headline

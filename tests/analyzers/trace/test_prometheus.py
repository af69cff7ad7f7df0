"""Scrapes of /metrics: where one ends and the next begins, when it was, and what vLLM's series say of each rank."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace

LOADS = [[8, 8, 8], [27, 5, 0], [3, 4, 5]]


def scrape(running: list[int], stamp: str = "") -> str:
    lines = ["# HELP vllm:num_requests_running Number of requests.", "# TYPE vllm:num_requests_running gauge"]
    for rank, count in enumerate(running):
        labels = f'engine="{rank}",model_name="a \\"b\\", {{c}}"'
        lines.append(f"vllm:num_requests_running{{{labels}}} {count}.0{stamp}")
        lines.append(f"vllm:kv_cache_usage_perc{{{labels}}} {count / 100}{stamp}")
        lines.append(f'vllm:num_requests_waiting_by_reason{{engine="{rank}",reason="capacity"}} 7.0')
    return "\n".join(lines) + "\n"


SEPARATORS = {
    "nothing": lambda second: "",
    "iso": lambda second: f"2026-05-28 12:53:{second:02d}\n",
    "marked": lambda second: f"=== 2026-05-28T12:53:{second:02d}+00:00 ===\n",
    "epoch": lambda second: f"# {1_780_000_000 + second}\n",
    "date": lambda second: f"Thu May 28 12:53:{second:02d} UTC 2026\n",
}


@pytest.mark.parametrize("kind", SEPARATORS)
def test_scrapes_are_told_apart_by_times_or_by_series_that_come_again(kind: str, read) -> None:
    text = "".join(SEPARATORS[kind](10 * index) + scrape(running) for index, running in enumerate(LOADS))
    trace = read(text)
    assert trace.meta.resolution == "sampled"
    assert trace.step_arrays().num_running.tolist() == LOADS
    if kind != "nothing":
        assert trace.step_arrays().start_ms.tolist() == [0, 10_000, 20_000]


def test_scrapes_in_json_lines_read_as_plain_ones(read) -> None:
    lines = [json.dumps({"ts": 1_780_000_000 + 5 * index, "body": scrape(row)}) for index, row in enumerate(LOADS)]
    steps = read("\n".join(lines)).step_arrays()
    assert steps.num_running.tolist() == LOADS
    assert steps.start_ms.tolist() == [0, 5000, 10_000]


def test_the_time_of_a_sample_counts_where_no_line_tells_one(read) -> None:
    text = "".join(scrape(row, stamp=f" {1_780_000_000_000 + 1000 * index}") for index, row in enumerate(LOADS))
    assert read(text).step_arrays().start_ms.tolist() == [0, 1000, 2000]


def test_a_series_that_is_not_there_is_unknown(read) -> None:
    text = scrape(LOADS[0]) + scrape(LOADS[1]).replace('vllm:num_requests_running{engine="2"', '# {engine="2"')
    assert np.isnan(read(text).step_arrays().num_running[1, 2])


def test_shares_become_tokens_with_the_blocks_that_the_server_tells(read) -> None:
    assert "kv_tokens" not in read(scrape(LOADS[0])).steps.columns
    assert read(scrape(LOADS[0]), kv_capacity=1000).step_arrays().kv_tokens.tolist() == [[80, 80, 80]]
    blocks = 'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0\n'
    assert read(scrape(LOADS[0]) + blocks).step_arrays().kv_tokens.tolist() == [[128, 128, 128]]


def test_a_cut_series_is_counted_and_not_used(read) -> None:
    trace = read(scrape(LOADS[0]) + 'vllm:num_requests_running{engine="3",mod')
    assert sum(trace.meta.excluded.values()) == 1
    assert trace.meta.dp_size == 3


def test_a_scrape_without_the_load_says_what_is_missing(read) -> None:
    with pytest.raises(InputError, match="without vllm:num_requests_running"):
        read("# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total 5\n")


def test_the_excerpt_from_the_field_reads_as_it_is(shared: Path) -> None:
    trace = read_trace(shared / "field/l04_vllm_prometheus_dp4_two_scrapes.txt")
    assert trace.step_arrays().num_running.tolist() == [[8, 8, 8, 8], [27, 5, 0, 0]]
    assert trace.steps.sort("step", "rank")["num_waiting"].to_list() == [0, 0, 0, 0, 0, None, None, None]
    assert "kv_tokens" not in trace.steps.columns

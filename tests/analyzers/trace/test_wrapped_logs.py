"""Whatever wraps the lines of a log, it reads as the bare log: every wrapper around every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forward_passes import record
from vllm_lines import STARTS, iteration, periodic, started
from wrapped_lines import WRAPPERS, Lines, moment

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import StepArrays, Trace

STEPS, RANKS = 12, 3
RUNNING = np.random.default_rng(4).integers(1, 60, (STEPS, RANKS))
APART_S = 2.0


def lines_of(line: Callable[[int, int, float], str], head: str = "") -> Lines:
    """What is said at the start, then a line a step and rank, in the order of their moments."""
    begin = [(0.0, text) for text in head.splitlines()]
    return begin + [
        (APART_S * step, text)
        for step in range(STEPS)
        for rank in range(RANKS)
        for text in line(step, rank, APART_S * step).splitlines()
    ]


def vllm_iterations(generation: str) -> Lines:
    def line(step: int, rank: int, second: float) -> str:
        clock = f"{moment(second):%m-%d %H:%M:%S}"
        return iteration(generation, rank, step, int(RUNNING[step, rank]), kv_percent=step + rank / 10, clock=clock)

    return lines_of(line, started(generation, RANKS))


def vllm_periodic(step: int, rank: int, second: float) -> str:
    return periodic(rank, int(RUNNING[step, rank]), rank, 10 + rank, f"{moment(second):%m-%d %H:%M:%S}")


def sglang(step: int, rank: int, second: float) -> str:
    count = int(RUNNING[step, rank])
    return (
        f"[{moment(second):%Y-%m-%d %H:%M:%S} DP{rank} TP{rank} EP{rank}] Decode batch [{step}], #running-req: {count}, "
        f"#token: {count * 100}, token usage: 0.41, cuda graph: True, gen throughput (token/s): 100.00, #queue-req: {rank}"
    )


def trtllm_log(step: int, rank: int, second: float) -> str:
    at, count = moment(second), int(RUNNING[step, rank])
    return (
        f"[{at:%m/%d/%Y-%H:%M:%S}] [TRT-LLM] [I] [_torch][RANK {rank}] iter = {step}, global_rank = {rank}, rank = {rank}, "
        f"num_scheduled_requests = {count}, kv_cache_util = 0.125, currank_total_requests = 3/24, host_step_time = "
        f"12.41ms, prev_device_step_time = 11.9ms, timestamp = {at:%Y-%m-%d %H:%M:%S}, states = {{'num_ctx_requests': 0, "
        f"'num_ctx_tokens': 0, 'num_generation_tokens': 64, 'cached_kv_tokens': {count * 100}}}, num_dummy = 0"
    )


def trtllm_metrics(step: int, rank: int, second: float) -> str:
    count = int(RUNNING[step, rank])
    batch = {"numGenRequests": count, "numScheduledRequests": count, "numGenKvTokens": 100 * count}
    named = {"iter": step, "attentionDpRank": rank, "timestamp": f"{moment(second):%m-%d-%Y %H:%M:%S.%f}"}
    return json.dumps({**named, "hostStepTimeMS": 12.5, "inflightBatchingStats": batch})


def lmdeploy(step: int, rank: int, second: float) -> str:
    return (
        f"[{moment(second):%Y-%m-%d %H:%M:%S} DP{rank}] Avg thr (in/out): 4618.5 / 2756.3 tokens/s, API server "
        f"(completed/routed/waiting): 1 / 50 / 50, Engine (running/waiting): {RUNNING[step, rank]} / 5, KV cache: 21.6%, "
    )


def dyntra_lb(step: int, rank: int, second: float) -> str:
    head = f"INFO {moment(second):%m-%d %H:%M:%S} [patch_dyntra_lb_core.py:88] "
    first = f"{head}[dyntra_lb] requests_by_rank (DP Workload Status):\n" if rank == 0 else ""
    blocks = ", ".join(["12"] * int(RUNNING[step, rank]))
    last = f"\n{head}schedule() | block size [scheduler=128, dyntra_lb=128]" if rank == RANKS - 1 else ""
    return f"{first}{head} DP{rank} | Run({RUNNING[step, rank]}): [{blocks}]   | Wait(1): [ 16]{last}"


def vllm_scrape(step: int, rank: int, second: float) -> str:
    labels = f'engine="{rank}",model_name="m"'
    return (
        f"vllm:num_requests_running{{{labels}}} {RUNNING[step, rank]}.0\n"
        f"vllm:kv_cache_usage_perc{{{labels}}} {RUNNING[step, rank] / 100}"
    )


def sglang_scrape(step: int, rank: int, second: float) -> str:
    labels = f'dp_rank="{rank}",model_name="m",tp_rank="{rank}"'
    return (
        f"sglang:num_running_reqs{{{labels}}} {RUNNING[step, rank]}.0\n"
        f"sglang:num_used_tokens{{{labels}}} {RUNNING[step, rank] * 100}.0"
    )


FORMATS: dict[str, Callable[[], Lines]] = {
    **{
        f"vllm-iterations {generation}": lambda generation=generation: vllm_iterations(generation)
        for generation in STARTS
    },
    "vllm-periodic": lambda: lines_of(vllm_periodic, started("C", RANKS)),
    "sglang": lambda: lines_of(sglang),
    "trtllm-log": lambda: lines_of(trtllm_log),
    "trtllm-metrics": lambda: lines_of(trtllm_metrics),
    "lmdeploy": lambda: lines_of(lmdeploy),
    "dyntra-lb": lambda: lines_of(dyntra_lb),
    "vllm-prometheus": lambda: lines_of(vllm_scrape),
    "sglang-prometheus": lambda: lines_of(sglang_scrape),
    "fpm": lambda: lines_of(lambda step, rank, _second: record(rank, step, int(RUNNING[step, rank]))),
}


def plainly(lines: Lines) -> str:
    return "".join(f"{line}\n" for _second, line in lines)


def read(path: Path, text: str) -> Trace:
    path.write_bytes(text.encode())
    return read_trace(path)


def loads(steps: StepArrays) -> dict[str, object]:
    """All that a trace says but the times of its clock."""
    return {
        name: None if values is None else np.nan_to_num(values, nan=-1.0).tolist()
        for name, values in vars(steps).items()
        if name != "start_ms"
    }


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_wrapped_log_reads_as_the_bare_one(name: str, wrapper: str, tmp_path: Path) -> None:
    lines = FORMATS[name]()
    bare = read(tmp_path / "bare.log", plainly(lines))
    wrapped = read(tmp_path / "wrapped.log", WRAPPERS[wrapper](lines))
    assert wrapped.meta.format == bare.meta.format == name.split()[0]
    assert bare.step_arrays().num_running.tolist() == RUNNING.tolist()
    assert loads(wrapped.step_arrays()) == loads(bare.step_arrays())
    assert (wrapped.meta.kv_capacity, wrapped.meta.engine_version) == (bare.meta.kv_capacity, bare.meta.engine_version)


def where_it_shows(name: str, line: str) -> tuple[int, int]:
    """Places in a line where a cut leaves a trace: not all of the message is lost, nor the last digits of a line alone."""
    first = max(line.find(mark) + len(mark) for mark in ("", "Iteration(", "Decode batch [4], #"))
    return max(first, 1), line.rindex(" ") if name.endswith("prometheus") else len(line)


def pieces(line: str, at: int, how: str) -> str:
    """A line that was cut, wrapped by a terminal, or that runs into the next one."""
    return {"cut": line[:at] + "\n", "wrapped": f"{line[:at]}\n{line[at:]}\n", "run into the next": line[:at]}[how]


@pytest.mark.parametrize("how", ["cut", "wrapped", "run into the next"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_line_gives_no_wrong_value(name: str, how: str, tmp_path: Path) -> None:
    lines = FORMATS[name]()
    begin = lines[0][1].count("Initializing") * 2 * RANKS
    bare = vars(read(tmp_path / "bare.log", plainly(lines)).step_arrays())
    broken = begin + 4 * (len(lines) - begin) // STEPS + 1
    line = lines[broken][1]
    counted = 0
    for at in range(*where_it_shows(name, line), 3):
        text = plainly(lines[:broken]) + pieces(line, at, how) + plainly(lines[broken + 1 :])
        trace = read(tmp_path / "x.log", text)
        counted += bool(trace.meta.excluded)
        for column, right in bare.items():  # the time of a step is the longest of its ranks
            seen = getattr(trace.step_arrays(), column)
            if column not in ("start_ms", "step", "step_ms") and right is not None and seen is not None:
                held = [right[[min(max(step + by, 0), STEPS - 1) for step in range(STEPS)]] for by in (0, -1, 1)]
                near = held if trace.meta.resolution == "sampled" else held[:1]  # of samples the one nearest in time
                assert seen.shape == right.shape, (at, column)
                assert np.any([np.isnan(seen), *(seen == values for values in near)], axis=0).all(), (at, column)
    assert counted

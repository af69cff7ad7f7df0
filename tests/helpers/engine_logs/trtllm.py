"""TensorRT-LLM: the iteration log of all generations, and rows of /metrics in every shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

from engine_logs.known_run import CAPACITY, KnownRun
from engine_logs.renderer import EXACT, Line, Renderer, Rounding
from lbal.analyzers.trace.formats import ReadOptions

HOST_MS = 0.7
"""By how much the host's time of a step is longer than the device's."""
BLOCK = 32
TIMES = "host_step_time = {host}, prev_device_step_time = {device}, timestamp = {at}, "
STATES = "'num_ctx_requests': 0, 'num_ctx_tokens': 0, 'num_generation_tokens': 256"
OLD = "iter = {i}, global_rank = {r}, rank = {r}, currank_total_requests = 3/24, "
NEW = (
    "iter = {i}, global_rank = {r}, rank = {r}, num_scheduled_requests = {n}, kv_cache_util = {u:.3f}, currank_total_requests = 3/24, "
    + TIMES
)
DUMMIES = ", num_active = 14, num_fetched = 3, num_dummy = {d}, num_unscheduled = 5"
GENERATIONS = {
    "elapsed": OLD + "elapsed_time = {seconds}s, timestamp = {at}, states = {{" + STATES + "}}",
    "elapsed and count": OLD + "elapsed_time = {seconds}s, timestamp = {at}, num_scheduled_requests: {n}, states = {{" + STATES + "}}",
    "device times": OLD + TIMES + "num_scheduled_requests: {n}, states = {{" + STATES + "}}",
    "KV use": NEW + "states = {{" + STATES + "}}",
    "KV tokens": NEW + "states = {{" + STATES + ", 'cached_kv_tokens': {k}}}",
    "dummies": NEW + "states = {{" + STATES + ", 'cached_kv_tokens': {k}}}" + DUMMIES,
    "pools": NEW.replace("currank", "kv_cache_gpu_pool_util = [0:0.900], currank")
    + "states = {{" + STATES + ", 'cached_kv_tokens': {k}, 'num_adp_dummy_ctx_tokens': 0, 'num_adp_dummy_gen_tokens': {d}}}" + DUMMIES,
}  # fmt: skip
"""Rows of the iteration log by what the generation brought; attention DP pads a rank without work in all of them."""


def iteration_log(generation: str, run: KnownRun, mpirun: bool = False) -> Iterator[Line]:
    """`print_iter_log: true` with `TLLM_PROFILE_LOG_RANKS=all`; the device time of a step is in the next row."""
    yield Line("[08/22/2026-09:59:00] [TRT-LLM] [I] PyTorch version 2.9.0 available.")
    for step in range(len(run)):
        for rank in range(run.dp_size):
            running = int(run.num_running[step, rank])
            body = GENERATIONS[generation].format(
                i=step,
                r=rank,
                n=max(running, 1),
                d=int(running == 0),
                k=int(run.kv_tokens[step, rank]),
                u=run.kv_tokens[step, rank] / run.kv_capacity,
                seconds=run.step_ms[step] / 1e3,
                host=f"{run.step_ms[step] + HOST_MS:.2f}ms",
                device=f"{run.step_ms[step - 1]:.2f}ms" if step else "N/A",
                at=run.at(step, "%Y-%m-%d %H:%M:%S"),
            )
            prefix = run.at(step, "[%m/%d/%Y-%H:%M:%S] [TRT-LLM] [I] ") + f"[_torch][RANK {rank}] "
            yield Line(f"{rank}: " * mpirun + prefix + body, step, rank)


def row(run: KnownRun, step: int, rank: int, rank_key: str, numbered: bool) -> dict[str, object]:
    """A row of /metrics; all times are rank 0's."""
    running, used = int(run.num_running[step, rank]), -(-int(run.kv_tokens[step, rank]) // BLOCK)
    blocks = run.kv_capacity // BLOCK
    return {
        **({"iter": step} if numbered else {}),
        rank_key: rank,
        "timestamp": run.at(step, "%m-%d-%Y %H:%M:%S.%6"),
        "iterLatencyMS": 2 * run.step_ms[step],
        "hostStepTimeMS": run.step_ms[step],
        "schedulerMode": "overlap",
        "numActiveRequests": running,
        "numQueuedRequests": 0,
        "maxNumActiveRequests": run.max_num_seqs,
        "kvCacheStats": {"maxNumBlocks": blocks, "freeNumBlocks": blocks - used, "usedNumBlocks": used, "tokensPerBlock": BLOCK},
        "inflightBatchingStats": {
            "numScheduledRequests": running,
            "numContextRequests": 0,
            "numCtxTokens": 0,
            "numCtxKvTokens": 0,
            "numGenRequests": running,
            "numGenKvTokens": int(run.kv_tokens[step, rank]),
            "numPausedRequests": 0,
        },
    }  # fmt: skip


def metrics(
    run: KnownRun, rank_key: str = "attentionDpRank", numbered: bool = True, listed: bool = False
) -> Iterator[Line]:
    """Answers of /metrics: rows as JSON lines, or one list a step."""
    for step in range(len(run)):
        rows = [row(run, step, rank, rank_key, numbered) for rank in range(run.dp_size)]
        if listed:
            yield Line(json.dumps(rows))
        else:
            yield from (Line(json.dumps(one), step, rank) for rank, one in enumerate(rows))


COUNTS = {"num_running": EXACT}
TOKENS = {"kv_tokens": EXACT}
ELAPSED, DEVICE = {"step_ms": EXACT}, {"step_ms": Rounding(absolute=0.005)}
USE = {"kv_tokens": Rounding(absolute=0.5, of_capacity=0.0005)}


def _log(name: str, tells: dict[str, Rounding], empty: str = "padded", **other: object) -> Renderer:
    late_ms = HOST_MS if tells.get("step_ms") is DEVICE["step_ms"] else 0.0
    mpirun = name == "dummies under mpirun"
    lines = partial(iteration_log, name.removesuffix(" under mpirun"), mpirun=mpirun)
    return Renderer(f"trtllm {name}", "trtllm-log", lines, tells, empty=empty, last_step_ms=late_ms, **other)  # type: ignore[arg-type]


RENDERERS = [
    _log("elapsed", {}, refused="rows without num_scheduled_requests"),
    _log("elapsed and count", {**COUNTS, **ELAPSED}),
    _log("device times", {**COUNTS, **DEVICE}),
    _log("KV use", {**COUNTS, **DEVICE, **USE}, options=ReadOptions(kv_capacity=CAPACITY)),
    _log("KV tokens", {**COUNTS, **DEVICE, **TOKENS}),
    _log("dummies", {**COUNTS, **DEVICE, **TOKENS}, "zero"),
    _log("pools", {**COUNTS, **DEVICE, **TOKENS}, "zero"),
    _log("dummies under mpirun", {**COUNTS, **DEVICE, **TOKENS}, "zero"),
    *(
        Renderer(
            f"trtllm metrics, {name}", "trtllm-metrics", partial(metrics, **shape), {**COUNTS, **TOKENS, **ELAPSED}
        )  # type: ignore[arg-type]
        for name, shape in {
            "by attentionDpRank": {},
            "by rank": {"rank_key": "rank"},
            "without iter": {"numbered": False},
            "lists": {"listed": True},
        }.items()
    ),
]

"""Dynamo's forward-pass metrics, LMDeploy's statistics and the tables of vllm-ascend's DyntraLB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import numpy as np
from forward_passes import NOTHING

from engine_logs.known_run import BEGIN, CAPACITY, KnownRun
from engine_logs.renderer import EXACT, Line, Renderer, Rounding
from lbal.analyzers.trace.formats import ReadOptions

LOOK_MS = 1_000.0
BLOCK = 128


def forward_passes(run: KnownRun, heartbeats: bool = False) -> Iterator[Line]:
    """A record of each rank and pass; a rank without work records a pass without requests, or only heartbeats."""
    for step in range(len(run)):
        for rank in range(run.dp_size):
            running = int(run.num_running[step, rank])
            scheduled = {
                **NOTHING,
                "num_decode_requests": running,
                "sum_decode_kv_tokens": int(run.kv_tokens[step, rank]),
            }
            metrics = {
                "version": 1,
                "worker_id": "7",
                "dp_rank": rank,
                "counter_id": step,
                "wall_time": 0.0 if heartbeats and not running else run.step_ms[step] / 1e3,
                "scheduled_requests": scheduled,
                "queued_requests": {**NOTHING, "num_prefill_requests": int(run.num_waiting[step, rank])},
            }
            received = int(BEGIN.timestamp()) * 10**9 + int(run.start_ms[step] * 1e6)
            yield Line(json.dumps({"received_at_ns": received, "metrics": metrics}), step, rank)


def lmdeploy(run: KnownRun) -> Iterator[Line]:
    """The statistics of all ranks, each second."""
    for look, step in enumerate(run.looks(LOOK_MS)):
        for rank in range(run.dp_size):
            running, waiting = int(run.num_running[step, rank]), int(run.num_waiting[step, rank])
            yield Line(
                f"[2026-08-22 10:{look // 60:02d}:{look % 60:02d} DP{rank}] Avg thr (in/out): 4618.5 / 2756.3 tokens/s, API server "
                f"(completed/routed/waiting): 1 / 50 / 50, Engine (running/waiting): {running} / {waiting}, KV cache: "
                f"{100 * run.kv_tokens[step, rank] / run.kv_capacity:.1f}%, ",
                int(step),
                rank,
            )


def dyntra_lb(run: KnownRun) -> Iterator[Line]:
    """The tables of the balancer, each second: blocks of each running request."""
    for look, step in enumerate(run.looks(LOOK_MS)):
        clock = f"INFO 08-22 10:{look // 60:02d}:{look % 60:02d} "
        yield Line(f"{clock}[patch_dyntra_lb_core.py:88] {'=' * 85}")
        yield Line(f"{clock}[patch_dyntra_lb_core.py:89] [dyntra_lb] requests_by_rank (DP Workload Status):")
        for rank in range(run.dp_size):
            running, waiting = int(run.num_running[step, rank]), int(run.num_waiting[step, rank])
            parts = np.diff(np.linspace(0, run.kv_tokens[step, rank], running + 1).astype(np.int64)) if running else []
            blocks = ", ".join(f"{-(-int(part) // BLOCK):3d}" for part in parts)
            queue = ", ".join([" 16"] * waiting)
            row = f" DP{rank} | Run({running}): [{blocks}]                 | Wait({waiting}): [{queue}]"
            yield Line(f"{clock}[patch_dyntra_lb_core.py:97] {row}", int(step), rank)
        yield Line(
            f"{clock}[dyntra_lb_scheduler.py:96] schedule() | scheduler req num: [3, 1, 1, 0, 0, 0] | blk num [752, 16, 16] | block "
            f"size [scheduler={BLOCK}, dyntra_lb={BLOCK}]"
        )


def _looks(run: KnownRun) -> np.ndarray:
    return run.looks(LOOK_MS)


LOADS = {"kv_tokens": EXACT, "num_running": EXACT, "num_waiting": EXACT}
PASSES = {**LOADS, "step_ms": EXACT}
PERCENT = {**LOADS, "kv_tokens": Rounding(absolute=0.5, of_capacity=0.0005)}
BLOCKS = {**LOADS, "kv_tokens": Rounding(per_request=BLOCK)}
RENDERERS = [
    Renderer("dynamo", "fpm", forward_passes, PASSES),
    Renderer("dynamo with heartbeats", "fpm", partial(forward_passes, heartbeats=True), PASSES, empty="unseen"),
    Renderer("lmdeploy", "lmdeploy", lmdeploy, PERCENT, "sampled", _looks, options=ReadOptions(kv_capacity=CAPACITY)),
    Renderer("dyntra-lb", "dyntra-lb", dyntra_lb, BLOCKS, "sampled", _looks),
]

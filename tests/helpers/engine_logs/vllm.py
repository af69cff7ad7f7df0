"""vLLM's logs: iteration lines of its three generations, statistics of every few seconds, and scrapes of /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import vllm_lines

from engine_logs.known_run import KnownRun
from engine_logs.renderer import EXACT, Line, Renderer, Rounding
from engine_logs.scraped import looks, scrapes

CLOCK = "%m-%d %H:%M:%S"
"""A look each second (VLLM_LOG_STATS_INTERVAL=1), so that a short run has many."""


def started(generation: str, run: KnownRun) -> Iterator[Line]:
    yield from map(Line, vllm_lines.started(generation, run.dp_size, run.kv_capacity).splitlines())


def iterations(generation: str, run: KnownRun, docker: bool = False) -> Iterator[Line]:
    """`--enable-logging-iteration-details`; a rank without work prints a dummy (B), or nothing (A, C)."""
    yield from started(generation, run)
    real = np.zeros(run.dp_size, np.int64)
    for step in range(len(run)):
        for rank in range(run.dp_size):
            running = int(run.num_running[step, rank])
            if not running and generation != "B":
                continue
            text = vllm_lines.iteration(
                generation,
                rank,
                int(real[rank]) if generation == "A" else step,
                running,
                kv_percent=100 * run.kv_tokens[step, rank] / run.kv_capacity,
                clock=run.at(step, CLOCK),
                elapsed_ms=run.step_ms[step],
                dummy=not running,
            ).rstrip("\n")
            real[rank] += 1
            yield Line(run.at(step, "%Y-%m-%dT%H:%M:%S.%9Z ", 0.1 * rank) + text if docker else text, step, rank)


def periodic(run: KnownRun) -> Iterator[Line]:
    """The statistics of all engines, each second."""
    yield from started("C", run)
    for look, step in enumerate(looks(run)):
        for rank in range(run.dp_size):
            running, waiting = int(run.num_running[step, rank]), int(run.num_waiting[step, rank])
            percent = 100 * run.kv_tokens[step, rank] / run.kv_capacity
            clock = f"08-22 10:{look // 60:02d}:{look % 60:02d}"
            yield Line(vllm_lines.periodic(rank, running, waiting, percent, clock).rstrip("\n"), int(step), rank)


def series(run: KnownRun, step: int) -> Iterator[Line]:
    """The series of a scrape; a line is one value of a rank."""
    for name, values in (
        ("num_requests_running", run.num_running),
        ("num_requests_waiting", run.num_waiting),
        ("kv_cache_usage_perc", np.round(run.kv_tokens / run.kv_capacity, 6)),
    ):
        yield Line(f"# HELP vllm:{name} as the engines say")
        yield Line(f"# TYPE vllm:{name} gauge")
        for rank in range(run.dp_size):
            yield Line(f'vllm:{name}{{engine="{rank}",model_name="m"}} {values[step, rank]}', step, rank)
    for rank in range(run.dp_size):
        labels = f'block_size="16",engine="{rank}",num_gpu_blocks="{run.kv_capacity // 16}"'
        yield Line(f"vllm:cache_config_info{{{labels}}} 1.0")


COUNTS = {"num_running": EXACT}
ELAPSED = {"step_ms": Rounding(absolute=0.005)}
USE = {"kv_tokens": Rounding(absolute=0.5, of_capacity=0.0005)}
SCRAPED = {**COUNTS, "num_waiting": EXACT, "kv_tokens": Rounding(absolute=0.5, of_capacity=5e-7)}
RENDERERS = [
    Renderer("vllm iterations A", "vllm-iterations", partial(iterations, "A"), COUNTS, "sampled", None, "unseen"),
    Renderer(
        "vllm iterations A in a container",
        "vllm-iterations",
        partial(iterations, "A", docker=True),
        {**COUNTS, **ELAPSED},
        empty="unseen",
    ),
    Renderer("vllm iterations B", "vllm-iterations", partial(iterations, "B"), {**COUNTS, **ELAPSED}),
    Renderer(
        "vllm iterations C", "vllm-iterations", partial(iterations, "C"), {**COUNTS, **ELAPSED, **USE}, empty="gap"
    ),
    Renderer(
        "vllm periodic",
        "vllm-periodic",
        periodic,
        {**COUNTS, "num_waiting": EXACT, **USE},
        "sampled",
        looks,
    ),
    *(
        Renderer(
            f"vllm scrapes, {wrapped}",
            "vllm-prometheus",
            partial(scrapes, series=series, wrapped=wrapped),
            SCRAPED,
            "sampled",
            looks,
        )
        for wrapped in ("timed", "bare", "json")
    ),
]

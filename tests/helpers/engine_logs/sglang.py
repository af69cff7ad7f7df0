"""SGLang's server log in every generation of its lines: of every pass, and of every 40th."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import numpy as np

from engine_logs.known_run import KnownRun
from engine_logs.renderer import EXACT, Line, Renderer, Rounding

GRAPH = "cuda graph: True, gen throughput (token/s): {t:.2f}, #queue-req: {w}"
GENERATIONS = {
    "0.4.3": "[{at} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: {u:.2f}, gen throughput (token/s): {t:.2f}, #queue-req: {w}",
    "0.4.4": "[{at} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: {u:.2f}, gen throughput (token/s): {t:.2f}, largest-len: 0, #queue-req: {w}, ",
    "0.5.2": "[{at} DP{r} TP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: {u:.2f}, " + GRAPH + ", ",
    "0.5.8": "[{at} EP{r} TP{r} DP{r}] Decode batch, #running-req: {n}, #token: {k}, token usage: {u:.2f}, " + GRAPH + ", ",
    "0.5.10": "[{at} DP{r} TP0] Decode batch, #running-req: {n}, #token: {k}, token usage: {u:.2f}, " + GRAPH,
    "0.5.23": "[{at} DP{r} TP{r} EP{r}] Decode batch, #running-req: {n}, #token: {k}, token usage: {u:.2f}, accept len: 1.00, accept rate: 0.47, "
    + GRAPH + ", fwd occupancy: 91.20%, fwd+idle occupancy: 93.40%",
    "pd": "[{at} DP{r} TP{r}] Decode batch, #running-req: {n}, #token: {k}, token usage: {u:.2f}, pre-allocated usage: 0.73, "
    "#prealloc-req: 21, #transfer-req: 12, #retracted-req: 0, " + GRAPH,
    "swa": "[{at} DP{r} TP{r}] Decode batch, #running-req: {n}, #full token: {k}, full token usage: {u:.2f}, #swa token: 7, "
    "swa token usage: 0.05, " + GRAPH + ", fwd occupancy: 91.20%",
    "mamba": "[{at} DP{r} TP{r}] Decode batch, #running-req: {n}, #full token: {k}, full token usage: {u:.2f}, mamba num: 33, mamba usage: 0.12, "
    + GRAPH,
    "hisparse": "[{at} DP{r} TP{r}] Decode batch, #running-req: {n}, #gpu token: {k}, gpu token usage: {u:.2f}, #cpu token: 99, cpu token usage: 0.12, "
    + GRAPH,
    "custom": "{at} INFO 3122{r} [DP{r} TP{r} EP{r} scheduler_metrics_mixin.py:222] Decode batch. #running-req: {n}, #token: {k}, "
    "token usage: {u:.2f}, " + GRAPH,
    "jax": "[{at} DP{r}] Decode batch. #running-req: {n}, #token: {k}, token usage: {u:.2f}, gen throughput (token/s): {t:.2f}, "
    "#queue-req: {w}, #cache_miss: 1",
}  # fmt: skip
"""Decode lines by version or kind of model: time, rank, requests, tokens, their share, tokens a second, waiting requests."""
NUMBERED = ("0.5.8", "0.5.10", "0.5.23", "pd", "swa", "mamba", "hisparse")
"""Those that number their passes with SGLANG_LOG_FORWARD_ITERS=1."""
INTERVAL = 40


def started(run: KnownRun) -> Iterator[Line]:
    """What the processes of a server say when it starts."""
    yield Line(
        f"[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', tp_size={run.dp_size}, dp_size={run.dp_size})"
    )
    for rank in range(run.dp_size):
        yield Line(
            f"[2026-08-22 09:59:40 DP{rank} TP{rank}] max_total_num_tokens={run.kv_capacity}, chunked_prefill_size=8192, "
            f"max_prefill_tokens=16384, max_running_requests={run.max_num_seqs}, context_len=131072"
        )


def decode(generation: str, run: KnownRun, step: int, rank: int, throughput: float, clock: str, numbered: bool) -> Line:
    """The line of a rank in a step."""
    tokens = int(run.kv_tokens[step, rank])
    text = GENERATIONS[generation].format(
        at=run.at(step, clock),
        r=rank,
        n=int(run.num_running[step, rank]),
        k=tokens,
        u=tokens / run.kv_capacity,
        t=throughput,
        w=int(run.num_waiting[step, rank]),
    )
    return Line(text.replace("batch,", f"batch [{3000 + step}],") if numbered else text, step, rank)


def every_pass(
    generation: str, run: KnownRun, clock: str = "%Y-%m-%d %H:%M:%S", numbered: bool = True
) -> Iterator[Line]:
    """`--decode-log-interval 1`: a line of each rank that has work, in each step."""
    yield from started(run)
    for step in range(len(run)):
        for rank in range(run.dp_size):
            if running := run.num_running[step, rank]:
                yield decode(generation, run, step, rank, running / run.step_ms[step] * 1e3, clock, numbered)


def every_40th(generation: str, run: KnownRun) -> Iterator[Line]:
    """The default: a line each 40 passes of a rank's own, with the throughput since its last one."""
    yield from started(run)
    passes = 7 * np.arange(run.dp_size)
    tokens, time_ms = np.zeros(run.dp_size), np.zeros(run.dp_size)
    for step in range(len(run)):
        time_ms += run.step_ms[step]
        for rank in range(run.dp_size):
            if running := run.num_running[step, rank]:
                tokens[rank] += running
                passes[rank] += 1
                if passes[rank] % INTERVAL == 0:
                    yield decode(
                        generation, run, step, rank, tokens[rank] / time_ms[rank] * 1e3, "%Y-%m-%d %H:%M:%S", False
                    )
                    tokens[rank] = time_ms[rank] = 0.0


LOOK_MS = 1000.0
COPIES = 2
"""Processes of a rank that export the same series."""


def answer(run: KnownRun, look: int, step: int) -> dict[str, object]:
    """What /v1/loads answers in a step."""
    second = f"2026-08-22T10:{look // 60:02d}:{look % 60:02d}.250000+00:00"
    loads = [
        {
            "dp_rank": rank,
            "num_running_reqs": int(run.num_running[step, rank]),
            "num_waiting_reqs": int(run.num_waiting[step, rank]),
            "num_used_tokens": int(run.kv_tokens[step, rank]),
            "num_total_tokens": int(run.kv_tokens[step, rank]) + 2048,
            "max_total_num_tokens": run.kv_capacity,
            "max_running_requests": run.max_num_seqs,
            "token_usage": round(float(run.kv_tokens[step, rank]) / run.kv_capacity, 4),
            "gen_throughput": round(float(run.num_running[step, rank] / run.step_ms[step] * 1e3), 2),
            "queues": {"waiting": 1, "grammar": 0},
        }
        for rank in range(run.dp_size)
    ]
    return {"timestamp": second, "version": "0.5.23", "accelerator": "NVIDIA H200", "loads": loads}


def polls(run: KnownRun, written: str = "lines") -> Iterator[Line]:
    """`curl /v1/loads` each second: an answer a line, in a list, over several lines, or with the line of `date` above."""
    answers = [answer(run, look, int(step)) for look, step in enumerate(run.looks(LOOK_MS))]
    if written == "list":
        yield Line(json.dumps(answers, indent=1))
    for each in answers if written != "list" else ():
        if written == "dated":
            yield Line(str(each.pop("timestamp")))
        yield Line(json.dumps(each, indent=2 if written == "pretty" else None))


def series(run: KnownRun, step: int) -> Iterator[Line]:
    """The text of /metrics in a step, each series by every process of the rank."""
    for name, values in (
        ("num_running_reqs", run.num_running),
        ("num_queue_reqs", run.num_waiting),
        ("num_used_tokens", run.kv_tokens),
        ("gen_throughput", run.num_running / run.step_ms[:, None] * 1e3),
    ):
        yield Line(f"# TYPE sglang:{name} gauge")
        for rank in range(run.dp_size):
            for copy in range(COPIES):
                labels = f'dp_rank="{rank}",engine_type="unified",model_name="m",tp_rank="{COPIES * rank + copy}"'
                yield Line(f"sglang:{name}{{{labels}}} {values[step, rank]:.2f}", step, rank)
    yield Line('sglang:num_running_reqs_total{model_name="m",tp_rank="0"} 99999.0')


def scrapes(run: KnownRun, wrapped: str = "timed") -> Iterator[Line]:
    """`curl /metrics` each second: with a line of time before each, without, or as texts in JSON lines."""
    for look, step in enumerate(run.looks(LOOK_MS)):
        clock = f"2026-08-22T10:{look // 60:02d}:{look % 60:02d}+00:00"
        lines = list(series(run, int(step)))
        if wrapped == "json":
            yield Line(json.dumps({"ts": clock, "metrics": "".join(f"{line.text}\n" for line in lines)}))
        else:
            yield from [Line(clock)] if wrapped == "timed" else []
            yield from lines


def looks(run: KnownRun) -> np.ndarray:
    """The steps at which polls and scrapes look."""
    return run.looks(LOOK_MS)


LOADS = {"kv_tokens": EXACT, "num_running": EXACT, "num_waiting": EXACT}
STEP_MS = Rounding(relative=0.005 / 20)
"""Throughput has two decimals, and a rank that decodes makes some 20 tokens a second at least."""
RENDERERS = [
    *(
        Renderer(
            f"sglang {name}, every pass",
            "sglang",
            partial(every_pass, name),
            {**LOADS, "step_ms": STEP_MS},
            empty="gap",
        )
        for name in NUMBERED
    ),
    Renderer(
        "sglang 0.5.10, every pass without its number",
        "sglang",
        partial(every_pass, "0.5.10", clock="%Y-%m-%d %H:%M:%S.%3", numbered=False),
        {**LOADS, "step_ms": STEP_MS},
        resolution="sampled",
        empty="unseen",
    ),
    *(
        Renderer(
            f"sglang {name}, every 40th", "sglang", partial(every_40th, name), LOADS, resolution="sampled", rows=None
        )
        for name in GENERATIONS
    ),
    *(
        Renderer(
            f"sglang loads, {written}",
            "sglang-loads",
            partial(polls, written=written),
            {**LOADS, "step_ms": STEP_MS},
            "sampled",
            looks,
        )
        for written in ("lines", "list", "pretty", "dated")
    ),
    *(
        Renderer(
            f"sglang scrapes, {wrapped}",
            "sglang-prometheus",
            partial(scrapes, wrapped=wrapped),
            {**LOADS, "step_ms": STEP_MS},
            "sampled",
            looks,
        )
        for wrapped in ("timed", "bare", "json")
    ),
]

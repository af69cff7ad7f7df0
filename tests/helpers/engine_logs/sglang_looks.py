"""SGLang's looks at its own load: polls of /v1/loads, and scrapes of /metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import numpy as np

from engine_logs.known_run import KnownRun
from engine_logs.renderer import EXACT, Line, Renderer, Rounding
from engine_logs.scraped import looks, scrapes

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
    answers = [answer(run, look, int(step)) for look, step in enumerate(looks(run))]
    if written == "list":
        yield from map(Line, json.dumps(answers, indent=1).splitlines())
    for each in answers if written != "list" else ():
        if written == "dated":
            yield Line(str(each.pop("timestamp")))
        yield from map(Line, json.dumps(each, indent=2 if written == "pretty" else None).splitlines())


def series(run: KnownRun, step: int) -> Iterator[Line]:
    """The text of /metrics in a step, each series by every process of the rank."""
    for name, values in (
        ("num_running_reqs", run.num_running),
        ("num_queue_reqs", run.num_waiting),
        ("num_used_tokens", run.kv_tokens),
        ("token_usage", np.round(run.kv_tokens / run.kv_capacity, 4)),
        ("gen_throughput", np.round(run.num_running / run.step_ms[:, None] * 1e3, 2)),
    ):
        yield Line(f"# TYPE sglang:{name} gauge")
        for rank in range(run.dp_size):
            for copy in range(COPIES):
                labels = f'dp_rank="{rank}",engine_type="unified",model_name="m",tp_rank="{COPIES * rank + copy}"'
                yield Line(f"sglang:{name}{{{labels}}} {float(values[step, rank])}", step, rank)
    yield Line('sglang:num_running_reqs_total{model_name="m",tp_rank="0"} 99999.0')


TELLS = {"kv_tokens": EXACT, "num_running": EXACT, "num_waiting": EXACT, "step_ms": Rounding(relative=0.005 / 20)}
"""Throughput has two decimals, and a rank that decodes makes some 20 tokens a second at least."""
RENDERERS = [
    *(
        Renderer(
            f"sglang loads, {written}",
            "sglang-loads",
            partial(polls, written=written),
            TELLS,
            "sampled",
            looks,
            over_lines=written in ("list", "pretty"),
        )
        for written in ("lines", "list", "pretty", "dated")
    ),
    *(
        Renderer(
            f"sglang scrapes, {wrapped}",
            "sglang-prometheus",
            partial(scrapes, series=series, wrapped=wrapped),
            TELLS,
            "sampled",
            looks,
        )
        for wrapped in ("timed", "bare", "json")
    ),
]

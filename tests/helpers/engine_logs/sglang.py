"""SGLang's server log in every generation of its lines: of every pass, and of every 40th."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from sglang_lines import BODIES, PREFIXES

from engine_logs.known_run import KnownRun
from engine_logs.renderer import EXACT, Line, Renderer, Rounding

NUMBERED = [name for name, body in BODIES.items() if body.startswith("{name},")]
"""Lines of versions that number their passes with SGLANG_LOG_FORWARD_ITERS=1."""
PLAIN_DP = ("plain DP", "DP alone")
"""Prefixes of copies of the server, which do not wait for one another."""
INTERVAL = 40
SECONDS, MS = "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%3"


def started(run: KnownRun) -> Iterator[Line]:
    """What the processes of a server say when it starts."""
    ranks = run.dp_size
    yield Line(f"[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', tp_size={ranks}, dp_size={ranks})")
    for rank in range(ranks):
        yield Line(
            f"[2026-08-22 09:59:40 DP{rank} TP{rank}] max_total_num_tokens={run.kv_capacity}, chunked_prefill_size=8192, "
            f"max_prefill_tokens=16384, max_running_requests={run.max_num_seqs}, context_len=131072"
        )


def decode(body: str, prefix: str, run: KnownRun, place: tuple[int, int], rate: float, number: str, clock: str) -> Line:
    """The line of a rank in a step, at so many tokens a second."""
    step, rank = place
    running, tokens, waiting = (int(loads[place]) for loads in (run.num_running, run.kv_tokens, run.num_waiting))
    values = {"name": f"Decode batch{number}", "n": running, "k": tokens, "q": waiting}
    text = BODIES[body].format(**values, t=f"{rate:.2f}", t25=f"{2.5 * rate:.2f}")
    return Line(PREFIXES[prefix].format(at=run.at(step, clock), rank=rank) + text, step, rank)


def every_pass(
    body: str, run: KnownRun, prefix: str = "attention DP", numbered: bool = True, clock: str = SECONDS
) -> Iterator[Line]:
    """`--decode-log-interval 1`: a line of each rank that has work, in each step."""
    yield from started(run)
    for step in range(len(run)):
        number = f" [{3000 + step}]" if numbered else ""
        for rank in range(run.dp_size):
            if running := run.num_running[step, rank]:
                yield decode(body, prefix, run, (step, rank), running / run.step_ms[step] * 1e3, number, clock)


def every_40th(body: str, run: KnownRun, prefix: str = "attention DP") -> Iterator[Line]:
    """The default: a line each 40 passes of a rank's own, with the throughput since its last one."""
    yield from started(run)
    passes = 7 * np.arange(run.dp_size)
    tokens, time_ms = np.zeros(run.dp_size), np.zeros(run.dp_size)
    for step in range(len(run)):
        time_ms += run.step_ms[step]
        for rank in np.flatnonzero(run.num_running[step]):
            tokens[rank] += run.num_running[step, rank]
            passes[rank] += 1
            if passes[rank] % INTERVAL == 0:
                yield decode(body, prefix, run, (step, int(rank)), tokens[rank] / time_ms[rank] * 1e3, "", SECONDS)
                tokens[rank] = time_ms[rank] = 0.0


LOADS = {"kv_tokens": EXACT, "num_running": EXACT, "num_waiting": EXACT}
STEPS = {**LOADS, "step_ms": Rounding(relative=0.005 / 20)}
"""Throughput has two decimals, and a rank that decodes makes some 20 tokens a second at least."""
RENDERERS = [
    *(Renderer(f"sglang {body}, every pass", "sglang", partial(every_pass, body), STEPS, empty="gap") for body in NUMBERED),
    *(
        Renderer(
            f"sglang {prefix}, every pass",
            "sglang",
            partial(every_pass, "0.5.10", prefix=prefix),
            STEPS,
            empty="gap",
            barrier=prefix not in PLAIN_DP,
        )
        for prefix in PREFIXES
    ),
    Renderer(
        "sglang 0.5.10, every pass without its number",
        "sglang",
        partial(every_pass, "0.5.10", numbered=False, clock=MS),
        STEPS,
        "sampled",
        empty="unseen",
    ),
    *(
        Renderer(f"sglang {body}, every 40th", "sglang", partial(every_40th, body), LOADS, "sampled", None)
        for body in BODIES
    ),
]  # fmt: skip

"""Batch lines as SGLang writes them, rendered from known loads, in every generation and with every prefix."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

AT = "2026-08-22 10:{minute:02d}:{second:02d}"

PREFIXES = {
    "attention DP": "[{at} DP{rank} TP{rank}] ",
    "with EP": "[{at} DP{rank} TP{rank} EP{rank}] ",
    "EP first": "[{at} EP{rank} TP{rank} DP{rank}] ",
    "all sizes": "[{at} DP{rank} PP1 ATTN_CP0 MOE_DP7 TP{rank} EP{rank}] ",
    "plain DP": "[{at} DP{rank} TP0] ",
    "DP alone": "[{at} DP{rank}] ",
    "milliseconds": "[{at}.250 DP{rank} TP{rank}] ",
    "logging's own": "{at} INFO 3122{rank} [DP{rank} TP{rank} EP{rank} scheduler_metrics_mixin.py:222] ",
    "pid outside": "{at} 3122{rank} [DP{rank} TP{rank}] ",
    "ray": "(SchedulerActor pid=77, ip=10.0.0.1) [{at} DP{rank} TP{rank}] ",
    "pod named DP": "[pod/sglang-DP-DP9/main] [{at} DP{rank} TP{rank}] ",
}
BODIES = {
    "0.4.3": "{name}. #running-req: {n}, #token: {k}, token usage: 0.12, gen throughput (token/s): {t}, #queue-req: {q}",
    "0.4.4": "{name}. #running-req: {n}, #token: {k}, token usage: 0.01, gen throughput (token/s): {t}, "
    "largest-len: 0, #queue-req: {q}, ",
    "0.5.2": "{name}. #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, "
    "gen throughput (token/s): {t}, #queue-req: {q}, ",
    "0.5.8": "{name}, #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, "
    "gen throughput (token/s): {t}, #queue-req: {q}, ",
    "0.5.10": "{name}, #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, "
    "gen throughput (token/s): {t}, #queue-req: {q}",
    "cached tokens": "{name}, #running-req: {n}, #cached-token: 71, #token: {k}, token usage: 0.41, cuda graph: False, "
    "gen throughput (token/s): {t}, #queue-req: {q}",
    "speculative": "{name}, #running-req: {n}, #token: {k}, token usage: 0.41, accept len: 2.50, accept rate: 0.47, "
    "cuda graph: True, gen throughput (token/s): {t25}, #queue-req: {q}",
    "PD decode": "{name}, #running-req: {n}, #token: {k}, token usage: 0.97, pre-allocated usage: 0.73, "
    "#prealloc-req: 21, #transfer-req: 12, #retracted-req: 0, cuda graph: True, gen throughput (token/s): {t}, "
    "#queue-req: {q}",
    "hybrid SWA": "{name}, #running-req: {n}, #full token: {k}, full token usage: 0.10, #swa token: 7, "
    "swa token usage: 0.05, cuda graph: True, gen throughput (token/s): {t}, #queue-req: {q}, fwd occupancy: 91.20%",
    "hybrid SSM": "{name}, #running-req: {n}, #full token: {k}, full token usage: 0.10, mamba num: 33, "
    "mamba usage: 0.12, npu graph: True, gen throughput (token/s): {t}, #queue-req: {q}",
    "SWA and SSM": "{name}, #running-req: {n}, #full token: {k}, full token usage: 0.10, #swa token: 7, "
    "swa token usage: 0.05, mamba num: 33, mamba usage: 0.12, cuda graph: True, gen throughput (token/s): {t}, "
    "#queue-req: {q}",
    "hisparse": "{name}, #running-req: {n}, #gpu token: {k}, gpu token usage: 0.10, #cpu token: 70000, "
    "cpu token usage: 0.12, cpu graph: True, gen throughput (token/s): {t}, #queue-req: {q}",
    "0.5.23": "{name}, #running-req: {n}, #token: {k}, token usage: 0.41, cuda graph: True, "
    "gen throughput (token/s): {t}, #queue-req: {q}, est. decode TFLOPS/s (per GPU): 1.20, est. read BW (GB/s per GPU): "
    "3.40, est. write BW (GB/s per GPU): 0.10, fwd occupancy: 91.20%, fwd+idle occupancy: 93.40%",
    "jax": "{name}. #running-req: {n}, #token: {k}, token usage: 0.00, gen throughput (token/s): {t}, #queue-req: {q}, "
    "#cache_miss: 1",
}
PREFILL_BODIES = {
    "0.4": "{name}. #new-seq: 3, #new-token: {new}, #cached-token: 60, token usage: 0.01, #running-req: {n}, "
    "#queue-req: {q}, ",
    "0.5.0 PD": "{name}. #new-seq: 3, #new-token: {new}, #cached-token: 0, token usage: 0.01, #unbootstrapped-req: 0, "
    "#queue-req: {q}, #transferring-req: 1, input throughput (token/s): 1367.19, ",
    "0.5.10": "{name}, #new-seq: 3, #new-token: {new}, #cached-token: 0, token usage: 0.08, #running-req: {n}, "
    "#queue-req: {q}, cuda graph: True, input throughput (token/s): 559.53",
    "0.5.23": "{name}, #new-seq: 3, #new-token: {new}, #cached-token: 1024, full token usage: 0.10, "
    "swa token usage: 0.10, #running-req: {n}, #queue-req: {q}, #pending-token: 12288, #bootstrap-req: 1, "
    "#inflight-req: 2, cuda graph: False, input throughput (token/s): 45012.10",
}


def decode(
    rank: int,
    running: int,
    kv_tokens: int,
    *,
    second: int = 0,
    iteration: int | None = None,
    body: str = "0.5.10",
    prefix: str = "attention DP",
    step_ms: float = 25.0,
    waiting: int = 2,
) -> str:
    """One decode line, with its line end; `iteration` with SGLANG_LOG_FORWARD_ITERS=1."""
    at = AT.format(minute=second // 60, second=second % 60)
    name = "Decode batch" + (f" [{iteration}]" if iteration is not None else "")
    rate = running / step_ms * 1e3
    values = {"name": name, "n": running, "k": kv_tokens, "t": rate, "t25": 2.5 * rate, "q": waiting}
    return PREFIXES[prefix].format(at=at, rank=rank) + BODIES[body].format(**values) + "\n"


def prefill(
    rank: int,
    new_tokens: int,
    *,
    running: int = 0,
    second: int = 0,
    iteration: int | None = None,
    body: str = "0.5.10",
    prefix: str = "attention DP",
) -> str:
    """One prefill line, with its line end."""
    at = AT.format(minute=second // 60, second=second % 60)
    name = "Prefill batch" + (f" [{iteration}]" if iteration is not None else "")
    return (
        PREFIXES[prefix].format(at=at, rank=rank)
        + PREFILL_BODIES[body].format(name=name, new=new_tokens, n=running, q=4)
        + "\n"
    )


def passes(running: Sequence[Sequence[int]], kv_tokens: Sequence[Sequence[int]], *, first: int = 3000) -> list[str]:
    """The lines of every pass, by step and rank, as a server without prefill writes them: none of a rank without work.

    An empty text stands for the line that a rank without work does not write.
    """
    return [
        decode(rank, count, tokens, second=step // 40, iteration=first + step) if count else ""
        for step, row in enumerate(zip(running, kv_tokens, strict=True))
        for rank, (count, tokens) in enumerate(zip(*row, strict=True))
    ]


def text(lines: Iterable[str]) -> str:
    """A log of these lines."""
    return "".join(lines)

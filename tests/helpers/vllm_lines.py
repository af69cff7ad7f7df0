"""Lines as vLLM writes them, rendered from known loads: iteration lines of each generation, and periodic ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

STARTS = {"A": "0.22.1", "B": "0.25.1", "C": "0.33.0"}


def iteration(
    generation: str,
    rank: int,
    index: int,
    running: int,
    *,
    kv_percent: float = 0.0,
    clock: str = "08-22 10:00:01",
    context: tuple[int, int] = (0, 0),
    elapsed_ms: float = 20.0,
    dummy: bool = False,
) -> str:
    """One iteration line of a generation, with its prefix."""
    body = (
        f"Iteration({index}): {context[0]} context requests, {context[1]} context tokens, {running} generation requests, "
        f"{running} generation tokens, iteration elapsed time: {elapsed_ms:.2f} ms{' (dummy)' * dummy}"
    )
    if generation == "C":
        usage = f", GPU KV cache usage: {kv_percent:.1f}%"
        return f"(APIServer pid=42) INFO {clock} [loggers.py:199] Engine {rank:03d}: {body}{usage}\n"
    return f"(EngineCore_DP{rank} pid={90 + rank}) INFO {clock} [core.py:452] {body}\n"


def started(generation: str, ranks: int, capacity: int = 100_000) -> str:
    """What the processes of a server say when it starts."""
    return "".join(
        f"(EngineCore_DP{rank} pid={90 + rank}) INFO 08-22 09:59:00 [core.py:77] Initializing a V1 LLM engine "
        f"(v{STARTS[generation]}) with config: model='m', data_parallel_size={ranks}, max_num_seqs=64\n"
        f"(EngineCore_DP{rank} pid={90 + rank}) INFO 08-22 09:59:30 [kv_cache_utils.py:1319] GPU KV cache size: "
        f"{capacity:,} tokens\n"
        for rank in range(ranks)
    )


def iterations(generation: str, running: Sequence[Sequence[int]], kv_percent: Sequence[Sequence[float]]) -> str:
    """The log of a run: loads by step and rank; a rank without requests does what it does in that generation."""
    lines = []
    real = [0] * len(running[0])
    for step, (counts, shares) in enumerate(zip(running, kv_percent, strict=True)):
        minutes, seconds = divmod(2 * step, 60)
        clock = f"08-22 {10 + minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}"
        for rank, (count, share) in enumerate(zip(counts, shares, strict=True)):
            if not count and generation != "B":
                continue
            index = real[rank] if generation == "A" else step
            real[rank] += 1
            lines.append(iteration(generation, rank, index, count, kv_percent=share, clock=clock, dummy=not count))
    return "".join(lines)


def periodic(rank: int | None, running: int, waiting: int, kv_percent: float, clock: str = "08-22 10:00:00") -> str:
    """One line of the statistics that vLLM writes every 10 s."""
    engine = "" if rank is None else f"Engine {rank:03d}: "
    return (
        f"(APIServer pid=42) INFO {clock} [loggers.py:271] {engine}Avg prompt throughput: 0.0 tokens/s, Avg generation "
        f"throughput: 741.4 tokens/s, Running: {running} reqs, Waiting: {waiting} reqs, GPU KV cache usage: "
        f"{kv_percent:.1f}%, Prefix cache hit rate: 0.0%\n"
    )


def seconds(clocks: Iterable[int]) -> list[str]:
    """Seconds after 10:00 as vLLM's clock."""
    return [f"08-22 {10 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}" for second in clocks]

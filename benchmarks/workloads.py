"""What is replayed and read: lengths, arrivals and files, the same in every run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays, Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_native, write_parquet
from lbal.replay.scenario.workload import Workload

ROOT = Path(__file__).resolve().parents[1]
REAL = ROOT.parent / "shared" / "traces"
"""Where real traces lie, if they do."""
SEED = 20250601
RANKS_OF_STEPS = 64


def lengths() -> tuple[str, IntArray]:
    """Where they come from, and (N, 2) prompt and output tokens."""
    real = REAL / "burstgpt_lengths_8000.csv"
    if real.is_file():
        return "BurstGPT lengths, 8,000 tiled", pl.read_csv(real).to_numpy()
    random = np.random.default_rng(SEED)
    prompts = np.clip(random.lognormal(5.2, 1.2, 8_000), 1, 14_000)
    outputs = np.clip(random.lognormal(3.3, 1.2, 8_000), 1, 3_200)
    return "generated lengths, 8,000 tiled", np.stack([prompts, outputs], axis=1).astype(np.int64)


def tiled(count: int, arrival_ms: FloatArray | None = None) -> Workload:
    """The lengths, over and over."""
    source, pairs = lengths()
    prompts, outputs = np.resize(pairs, (count, 2)).T
    return Workload(
        source=source,
        request_id=pl.Series("request_id", np.arange(count)),
        prompt_tokens=np.ascontiguousarray(prompts),
        output_tokens=np.ascontiguousarray(outputs),
        arrival_ms=arrival_ms,
        recorded_rank=None,
    )


def shuffled(count: int, seed: int = SEED) -> Workload:
    """The lengths, drawn with replacement: no order is met twice."""
    source, pairs = lengths()
    prompts, outputs = pairs[np.random.default_rng(seed).integers(0, len(pairs), count)].T
    ids = pl.Series("request_id", np.arange(count))
    return Workload(source, ids, np.ascontiguousarray(prompts), np.ascontiguousarray(outputs), None, None)


def poisson(count: int, per_second: float) -> Workload:
    """The lengths, over and over, with exponential gaps between arrivals."""
    gaps = np.random.default_rng(SEED).exponential(1e3 / per_second, count)
    return replace(tiled(count), arrival_ms=np.cumsum(gaps))


def drawn(workload: Workload, count: int) -> Workload:
    """Its requests, drawn with replacement; arrival times are its own, over and over, one turn after the other."""
    rows = np.random.default_rng(SEED).integers(0, len(workload), count)
    arrival_ms = workload.arrival_ms
    if arrival_ms is not None:
        since = arrival_ms - arrival_ms[0]
        turn, place = np.divmod(np.arange(count), len(since))
        arrival_ms = since[place] + turn * since[-1] * len(since) / (len(since) - 1)
    ids = pl.Series("request_id", np.arange(count))
    return Workload(workload.source, ids, workload.prompt_tokens[rows], workload.output_tokens[rows], arrival_ms, None)


def azure(folder: Path) -> tuple[str, Path]:
    """The Azure conversation trace, or one made in its format and size."""
    real = REAL / "AzureLLMInferenceTrace_conv.csv"
    if real.is_file():
        return "Azure conversation trace, 19,366 requests", real
    count, random = 19_366, np.random.default_rng(SEED)
    made = folder / "azure.csv"
    seconds = np.sort(random.uniform(0, 3_500, count))
    prompts, outputs = (np.clip(random.lognormal(mean, 0.9, count), 1, 4_000).astype(int) for mean in (6.7, 5.0))
    with made.open("w") as out:
        out.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for second, prompt, output in zip(seconds, prompts, outputs, strict=True):
            out.write(f"2023-11-16 18:{int(second // 60):02d}:{second % 60:010.7f},{prompt},{output}\n")
    return "generated Azure-format trace, 19,366 requests", made


def write_burstgpt(count: int, path: Path) -> None:
    """A BurstGPT log of that many requests."""
    workload = poisson(count, 10.0)
    prompts, outputs = workload.prompt_tokens, workload.output_tokens
    assert workload.arrival_ms is not None
    columns = {
        "Timestamp": (workload.arrival_ms / 1e3).round(3),
        "Model": np.where(np.arange(count) % 3 == 0, "GPT-4", "ChatGPT"),
        "Request tokens": prompts,
        "Response tokens": outputs,
        "Total tokens": prompts + outputs,
        "Log Type": np.full(count, "Conversation log"),
    }
    pl.DataFrame(columns).write_csv(path)


def write_mooncake(count: int, path: Path) -> None:
    """A Mooncake log of that many requests, ids of prefix blocks and all: the real one over and over, or a made one."""
    real = REAL / "mooncake_conversation_trace.jsonl"
    if real.is_file():
        lines = [msgspec.json.decode(line) for line in real.read_bytes().splitlines()]
    else:
        lines = [
            {"timestamp": row * 300, "input_length": int(p) * 10, "output_length": int(o),
             "hash_ids": list(range(row * 24, row * 24 + int(p) * 10 // 512 + 1))}
            for row, (p, o) in enumerate(lengths()[1])
        ]  # fmt: skip
    span = lines[-1]["timestamp"] + 1
    encoder = msgspec.json.Encoder()
    with path.open("wb") as out:
        for start in range(0, count, len(lines)):
            part = lines[: count - start]
            shift = start // len(lines) * span
            out.write(encoder.encode_lines([{**line, "timestamp": line["timestamp"] + shift} for line in part]))


def write_steps(rank_steps: int, *paths: Path) -> None:
    """A recorded trace of 64 ranks with measured rank times, as Parquet (a directory) or JSON Lines by the suffix."""
    count, random = rank_steps // RANKS_OF_STEPS, np.random.default_rng(SEED)
    shape = (count, RANKS_OF_STEPS)
    running = random.integers(40, 73, shape).astype(np.float64)
    tokens = np.floor(running * random.uniform(800, 1_200, shape))
    compute_ms = np.round((23e-6 * tokens + 0.23 * running) * random.uniform(0.95, 1.05, shape), 3)
    step_ms = np.round(27.0 + compute_ms.max(axis=1), 3)
    start_ms = np.concatenate([[0.0], np.cumsum(step_ms)[:-1]]).round(3)
    steps = StepArrays(np.arange(count), tokens, running, compute_ms, step_ms, start_ms)
    meta = TraceMeta(
        source="generated", format="native", dp_size=RANKS_OF_STEPS, max_num_seqs=72, time_unit="ms", seed=SEED
    )
    trace = Trace.of(meta, steps=steps.frame())
    for path in paths:
        (write_parquet if path.suffix == ".parquet" else write_native)(trace, path)

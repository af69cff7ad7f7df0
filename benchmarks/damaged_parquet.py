"""Thousands of damaged Parquet tables: how each ends. Run as `python -m benchmarks.damaged_parquet [FILES] [SEED]`.

Each file is read twice: as lbal's own, with its digest, and as one of another program, without. Counted is how many
are refused in one line, how many are read all the same with the numbers that were written, and how many with other
numbers; a crash of this process would end the count. With digests the last count must be 0.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_parquet

FILES, SEED = 1000, 1
STEPS = pl.DataFrame(
    {
        "step": np.repeat(np.arange(40), 2),
        "rank": np.tile([0, 1], 40),
        "kv_tokens": np.linspace(1.0, 900.0, 80),
        "num_running": np.arange(80) % 7,
    }
)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Some bytes changed, a stretch lost, or the end cut off."""
    kind = random.integers(3)
    if kind == 0:
        changed = np.frombuffer(data, np.uint8).copy()
        places = random.integers(len(data), size=random.integers(1, 4))
        changed[places] ^= random.integers(1, 256, size=len(places)).astype(np.uint8)
        return changed.tobytes()
    start = int(random.integers(len(data)))
    return data[:start] if kind == 1 else data[:start] + data[start + int(random.integers(1, 30)) :]


def outcome(folder: Path, steps: pl.DataFrame) -> str:
    try:
        trace = read_trace(str(folder))
    except InputError as error:
        return "refused in one line" if "\n" not in str(error) else "refused in several lines"
    same = trace.steps is not None and trace.steps.equals(steps)
    return "read, as written" if same else "read, OTHER NUMBERS"


def main(files: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    found = {name: Counter[str]() for name in ("with digests", "without digests")}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = Trace.of(TraceMeta("benchmark", "replay"), None, STEPS)
        assert trace.steps is not None
        write_parquet(trace, folder)
        table, meta = folder / "steps.parquet", folder / "meta.json"
        data, header = table.read_bytes(), meta.read_text()
        bare = json.dumps({key: value for key, value in json.loads(header).items() if key != "digests"})
        start_s = time.perf_counter()
        for _ in range(files):
            table.write_bytes(damaged(data, random))
            for way, text in (("with digests", header), ("without digests", bare)):
                meta.write_text(text)
                found[way][outcome(folder, trace.steps)] += 1
        taken_s = time.perf_counter() - start_s
    print(f"{files:,} damaged files, seed {seed}, {taken_s:.0f} s")
    for way, counts in found.items():
        print(f"{way}: " + ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())))


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*[*numbers, *(FILES, SEED)[len(numbers) :]])

"""LMDeploy's statistics: one line per DP rank every few seconds (`Avg thr (in/out): …`)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import numpy as np

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.log_lines import plain
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder, numbers
from lbal.analyzers.trace.reading.vllm_log import MANGLED
from lbal.analyzers.trace.source import Source

LOOKS_LIKE_ONE = re.compile(rb"Avg thr \(in/out\): ")
LINE = re.compile(
    rb"\[(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?: DP(\d{1,4}))?\] Avg thr \(in/out\): [^\n]{0,200}?"
    rb"Engine \(running/waiting\): (\d{1,9}) / (\d{1,9}), KV cache: (\d{1,3}\.\d{1,4})%"
)


class LmdeployReader(LogReader):
    """LMDeploy's statistics (`Avg thr (in/out): …`): running and waiting requests and KV use of each DP rank."""

    name = "lmdeploy"
    time_unit = "s"
    engine = "lmdeploy"
    title = "an LMDeploy log"
    signature = LOOKS_LIKE_ONE
    alignment = "time"
    resolution = "sampled"

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The samples of all ranks that write to this log."""
        for block in source.blocks(text=False):
            data = plain(block.data)
            found = LINE.findall(data)
            records.skip(MANGLED, len(LOOKS_LIKE_ONE.findall(data)) - len(found))
            if not found:
                continue
            day, clock, rank, running, waiting, kv = zip(*found, strict=True)
            records.extend(
                {
                    "time_ms": [_ms(date + b"T" + time) for date, time in zip(day, clock, strict=True)],
                    "rank": numbers(rank),
                    "num_running": numbers(running),
                    "num_waiting": numbers(waiting),
                    "kv_fraction": numbers(kv) / 100,
                }
            )
        records.note("LMDeploy's statistics are looks at the load every few seconds: no claim on single steps")
        if not options.kv_capacity:
            records.note("KV use is told in per cent: tokens are n/a without --kv-capacity")


def _ms(text: bytes) -> float:
    try:
        return datetime.fromisoformat(text.decode()).replace(tzinfo=UTC).timestamp() * 1e3
    except ValueError:
        return float(np.nan)

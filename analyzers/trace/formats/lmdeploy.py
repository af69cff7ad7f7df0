"""LMDeploy's statistics: one line per DP rank every few seconds (`Avg thr (in/out): …`)."""

from __future__ import annotations

import re

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.line_clock import LineClock, moments
from lbal.analyzers.trace.reading.log_lines import MANGLED, mangled, plain_blocks
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder, numbers
from lbal.analyzers.trace.source import Source

LOOKS_LIKE_ONE = re.compile(rb"Avg thr \(in/out\): ")
MARKS = (b"Avg thr (in/out): ", b"Engine (running/waiting): ")
LINE = re.compile(
    rb"^([^\n]*?\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?: DP(\d{1,4}))?\] )Avg thr \(in/out\): [^\n\[]{0,200}?"
    rb"Engine \(running/waiting\): (\d{1,9}) / (\d{1,9}), KV cache: (\d{1,3}\.\d{1,4})%",
    re.MULTILINE,
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
        clock = LineClock()
        for data in plain_blocks(source):
            found = [groups for groups in LINE.findall(data) if MARKS[0] not in groups[0]]
            records.skip(MANGLED, mangled(data, MARKS, len(found)))
            if not found:
                continue
            heads, rank, running, waiting, kv = zip(*found, strict=True)
            time_ms, kinds = moments(clock, heads)
            records.extend(
                {
                    "time_ms": time_ms,
                    "clock": kinds,
                    "rank": numbers(rank),
                    "num_running": numbers(running),
                    "num_waiting": numbers(waiting),
                    "kv_fraction": numbers(kv) / 100,
                }
            )
        records.note("LMDeploy's statistics are looks at the load every few seconds: no claim on single steps")
        if not options.kv_capacity:
            records.note("KV use is told in per cent: tokens are n/a without --kv-capacity")

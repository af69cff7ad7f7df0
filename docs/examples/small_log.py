"""A reader for a log that mixes lines such as `12.25 [DP3] step 41: running=32 kv=157952` with others."""

from __future__ import annotations

import re

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder, numbers
from lbal.analyzers.trace.source import Source

LINE = re.compile(rb"^([\d.]{1,20}) \[DP(\d{1,4})\] step (\d{1,15}): running=(\d{1,9}) kv=(\d{1,15})\r?$", re.MULTILINE)
LOOKS_LIKE_ONE = re.compile(rb"\] step ")
CAPACITY = re.compile(rb"KV cache holds (\d{1,15}) tokens")


class SmallLogReader(LogReader):
    """Lines of time in seconds, rank, step, running requests and KV tokens."""

    name = "small-log"
    time_unit = "s"
    engine = "small engine"
    title = "a log of the small engine"
    signature = re.compile(rb"\[DP\d+\] step \d+: running=")
    alignment = "step"
    resolution = "step"

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The records of all ranks that write to this log; a cut line is counted."""
        for block in source.blocks(text=False):
            if capacity := CAPACITY.search(block.data):
                records.facts.kv_capacity_tokens[None] = int(capacity[1])
            found = LINE.findall(block.data)
            records.skip("lines that are cut or mangled", len(LOOKS_LIKE_ONE.findall(block.data)) - len(found))
            if found:
                time_s, rank, step, running, kv_tokens = map(numbers, zip(*found, strict=True))
                columns = {"time_ms": time_s * 1e3, "rank": rank, "step": step}
                records.extend({**columns, "num_running": running, "kv_tokens": kv_tokens})

"""What vllm-ascend's DyntraLB says of all DP ranks when it balances (`enable_diagnostics`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.log_lines import MANGLED
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.vllm_log import WITH_PREFILL, VllmLog
from lbal.analyzers.trace.source import Source

TOKEN = re.compile(
    rb"(?P<table>\[dyntra_lb\] requests_by_rank)"
    rb"|^(?P<head>[^\n]{0,400}?)\bDP(?P<rank>\d{1,4}) \| Run\((?P<running>\d{1,7})\): *\[(?P<blocks>[\d, ]*)\] *"
    rb"\| Wait\((?P<waiting>\d{1,7})\): *\[[\d, ]*\]"
    rb"|\| block size \[scheduler=\d{1,7}, dyntra_lb=(?P<size>\d{1,7})\]",
    re.MULTILINE,
)
BLOCKS = re.compile(rb" *\d{1,9} *")
LOOKS_LIKE_ONE = re.compile(rb"\bDP\d{1,4} \| Run\(")


class DyntraLbReader(LogReader):
    """vllm-ascend's DyntraLB diagnostics (`dyntra_lb_config.enable_diagnostics`): KV blocks of each request and rank.

    One table of all ranks each time the balancer looks: samples, not all steps.
    """

    name = "dyntra-lb"
    time_unit = "s"
    engine = "vllm-ascend"
    title = "a vllm-ascend log with DyntraLB diagnostics"
    signature = re.compile(rb"\[dyntra_lb\] requests_by_rank")
    alignment = "step"
    resolution = "sampled"
    precedence = 3

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The tables, numbered as they come; blocks become tokens with the block size of the scheduler's line."""
        log = VllmLog(records)
        table, tokens_per_block = -1, None
        seen: set[int] = set()
        rows: list[tuple[int, int, int, int, int]] = []
        heads: list[bytes] = []
        for data in log.parts(source):
            log.learn(data, 0)
            rows_before = len(rows)
            for match in TOKEN.finditer(data):
                if match["table"]:
                    table, seen = table + 1, set()
                elif match["size"]:
                    tokens_per_block = int(match["size"]) or None
                else:
                    blocks = list(_whole(match["blocks"]))
                    number = int(match["rank"])
                    if number in seen:  # the head of a table is lost
                        table, seen = table + 1, set()
                    seen.add(number)
                    if table < 0 or len(blocks) != int(match["running"]):
                        records.skip("rows of a DyntraLB table without its head, or with other counts than it lists")
                        continue
                    heads.append(match["head"])
                    rows.append((table, number, sum(blocks), len(blocks), int(match["waiting"])))
            records.skip(MANGLED, max(0, len(LOOKS_LIKE_ONE.findall(data)) - (len(rows) - rows_before)))
        if rows:
            step, rank, sums, running, waiting = (list(column) for column in zip(*rows, strict=True))
            tokens = {"kv_tokens": [tokens_per_block * count for count in sums]} if tokens_per_block else {}
            records.extend(
                {
                    **log.places(heads),
                    "step": step,
                    "rank": rank,
                    "num_running": running,
                    "num_waiting": waiting,
                    **tokens,
                }
            )
        if tokens_per_block is None:
            records.note("no line tells the block size (`block size [scheduler=…, dyntra_lb=…]`): KV tokens are n/a")
        records.note(WITH_PREFILL)
        records.note("DyntraLB writes its table when it balances: load over time, no claim on single steps")


def _whole(text: bytes) -> Iterator[int]:
    for item in text.split(b","):
        if BLOCKS.fullmatch(item):
            yield int(item)

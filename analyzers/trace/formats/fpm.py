"""Dynamo's forward-pass metrics (FPM): one JSON line per rank and forward pass, of vLLM, SGLang or TensorRT-LLM."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec
import numpy as np

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.jsonlines import Count
from lbal.analyzers.trace.reading.log_lines import json_of, plain
from lbal.analyzers.trace.reading.own_counts import numbers_agree, passes_by_time
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
COLUMNS = (
    "rank",
    "step",
    "time_ms",
    "idle_before",
    "kv_tokens",
    "num_running",
    "num_waiting",
    "prefill_tokens",
    "step_ms",
)
BLOCK_BYTES = 1 << 20
"""Of text at a time: its records take some five times as much memory, and stay in the cache."""
MANGLED = "lines that are no forward-pass record"
HEARTBEATS = "heartbeats of an idle rank"
BY_CLOCK = (
    "the counters of ranks (counter_id) do not stand for the same passes, as each rank counts its own records and "
    "heartbeats: passes are put side by side by the time at which they were received; a rank that sent heartbeats "
    "between two passes had no work there"
)


class _Scheduled(msgspec.Struct, gc=False):
    num_prefill_requests: Count
    sum_prefill_tokens: Count
    num_decode_requests: Count
    sum_decode_kv_tokens: Count


class _Queued(msgspec.Struct, gc=False):
    num_prefill_requests: Count
    num_decode_requests: Count


class _Metrics(msgspec.Struct, gc=False):
    dp_rank: Count
    counter_id: Count
    wall_time: float
    scheduled_requests: _Scheduled
    queued_requests: _Queued


class _Line(msgspec.Struct, gc=False):
    metrics: _Metrics
    received_at_ns: Nanoseconds | None = None


class FpmReader(LogReader):
    """Dynamo forward-pass metrics (`recv_forward_pass_metrics --output`): decode KV tokens of each rank and pass.

    `wall_time` holds the wait at the barrier too, so it gives the time of the step, not of the rank. A heartbeat
    (no time, no work) is no pass. Each rank counts its own records, heartbeats included.
    """

    name = "fpm"
    time_unit = "s"
    engine = "dynamo"
    title = "a log of Dynamo forward-pass metrics"
    signature = re.compile(rb'"counter_id"\s*:\s*\d.{0,400}?"scheduled_requests"\s*:', re.DOTALL)
    alignment = "step"
    resolution = "step"

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """Each line that is a record of a pass."""
        decoder, dry, tables = msgspec.json.Decoder(_Line), set[int](), []
        for block in source.blocks(BLOCK_BYTES, text=False):
            try:
                lines = decoder.decode_lines(block.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                lines = _one_by_one(decoder, plain(block.data).split(b"\n"), records)
            rows = [row for line in lines if (row := _row(line, dry)) is not None]
            records.skip(HEARTBEATS, len(lines) - len(rows))
            tables.append(np.array(rows, dtype=np.float64).reshape(len(rows), len(COLUMNS)))
        columns = dict(zip(COLUMNS, np.concatenate(tables).T, strict=True)) if tables else {}
        if not columns or not len(columns["rank"]):
            return
        if not numbers_agree(columns["rank"], columns["step"], columns["time_ms"]):
            columns["step"] = passes_by_time(columns["rank"], columns["time_ms"])
            records.gaps_are_idle = True
            records.note(BY_CLOCK)
        records.extend(columns)


def _one_by_one(decoder: msgspec.json.Decoder[_Line], lines: Iterable[bytes], records: RankStepsBuilder) -> list[_Line]:
    found = []
    for text in lines:
        body = json_of(text)
        try:
            if body or text.strip():
                found.append(decoder.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            records.skip(MANGLED)
    return found


def _row(line: _Line, dry: set[int]) -> tuple[float, ...] | None:
    """The values of `COLUMNS`; None for a heartbeat, whose rank is then among the `dry` ones until its next pass."""
    metrics, scheduled, queued = line.metrics, line.metrics.scheduled_requests, line.metrics.queued_requests
    rank = metrics.dp_rank
    if metrics.wall_time == 0 and scheduled.num_decode_requests == scheduled.num_prefill_requests == 0:
        dry.add(rank)
        return None
    idle_before = rank in dry
    dry.discard(rank)
    return (
        rank,
        metrics.counter_id,
        np.nan if line.received_at_ns is None else line.received_at_ns / 1e6,
        idle_before,
        scheduled.sum_decode_kv_tokens,
        scheduled.num_decode_requests,
        queued.num_prefill_requests + queued.num_decode_requests,
        scheduled.sum_prefill_tokens,
        metrics.wall_time * 1e3,
    )

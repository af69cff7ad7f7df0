"""Dynamo's forward-pass metrics (FPM): one JSON line per rank and forward pass, of vLLM, SGLang or TensorRT-LLM."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

import msgspec

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.jsonlines import Count
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
MANGLED = "lines that are no forward-pass record"
HEARTBEATS = "heartbeats of an idle rank"


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
    (no time, no work) is no pass.
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
        decoder = msgspec.json.Decoder(_Line)
        for block in source.blocks(text=False):
            try:
                lines = decoder.decode_lines(block.data)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                lines = _one_by_one(decoder, block.lines(), records)
            _add([line for line in lines if not _is_heartbeat(line, records)], records)


def _one_by_one(
    decoder: msgspec.json.Decoder[_Line], lines: Iterable[tuple[int, bytes]], records: RankStepsBuilder
) -> list[_Line]:
    found = []
    for _number, text in lines:
        try:
            found.append(decoder.decode(text))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            records.skip(MANGLED)
    return found


def _is_heartbeat(line: _Line, records: RankStepsBuilder) -> bool:
    scheduled = line.metrics.scheduled_requests
    is_one = line.metrics.wall_time == 0 and scheduled.num_decode_requests == scheduled.num_prefill_requests == 0
    records.skip(HEARTBEATS, int(is_one))
    return is_one


def _add(lines: list[_Line], records: RankStepsBuilder) -> None:
    if not lines:
        return
    metrics = [line.metrics for line in lines]
    scheduled = [item.scheduled_requests for item in metrics]
    queued = [item.queued_requests for item in metrics]
    records.extend(
        {
            "rank": [item.dp_rank for item in metrics],
            "step": [item.counter_id for item in metrics],
            "time_ms": [None if line.received_at_ns is None else line.received_at_ns / 1e6 for line in lines],
            "kv_tokens": [item.sum_decode_kv_tokens for item in scheduled],
            "num_running": [item.num_decode_requests for item in scheduled],
            "num_waiting": [item.num_prefill_requests + item.num_decode_requests for item in queued],
            "prefill_tokens": [item.sum_prefill_tokens for item in scheduled],
            "step_ms": [item.wall_time * 1e3 for item in metrics],
        }
    )

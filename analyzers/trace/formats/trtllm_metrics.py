"""Rows of TensorRT-LLM's `/metrics` (`enable_iter_perf_stats`): one per rank and iteration, as JSON lines or lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.jsonlines import Count
from lbal.analyzers.trace.reading.line_clock import LineClock, moments
from lbal.analyzers.trace.reading.log_lines import json_of, plain_blocks
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source

MANGLED = "lines that are no row of /metrics"
WITHOUT_ITER = "rows without iter among rows with one"
RANK_0_TIMES = (
    "the times in the rows of all ranks are rank 0's (TensorRT-LLM copies them): they give the time of the step, not "
    "of a rank, and idle is modelled from the loads"
)
ONE_RANK = (
    "only one rank is in the rows: with attention DP, TensorRT-LLM with PR 13649 writes a row per attentionDpRank, and "
    "TLLM_METRICS_ALL_RANKS=1 (PR 13221) a row per rank"
)
BY_ORDER = "the rows have no iter: a step begins where a rank comes again, or a lower one than before"


class _Batch(msgspec.Struct, gc=False):
    numScheduledRequests: Count | None = None
    numContextRequests: Count | None = None
    numGenRequests: Count | None = None
    numCtxTokens: Count | None = None
    numGenKvTokens: Count | None = None


class _Cache(msgspec.Struct, gc=False):
    maxNumBlocks: Count | None = None
    usedNumBlocks: Count | None = None
    tokensPerBlock: Count | None = None


class _Row(msgspec.Struct, gc=False):
    inflightBatchingStats: _Batch
    iter: Count | None = None
    attentionDpRank: Count | None = None
    rank: Count | None = None
    timestamp: str | None = None
    iterLatencyMS: float | None = None
    hostStepTimeMS: float | None = None
    schedulerMode: str | None = None
    numQueuedRequests: Count | None = None
    maxNumActiveRequests: Count | None = None
    kvCacheStats: _Cache | None = None

    @property
    def number(self) -> int:
        """The rank."""
        return next((rank for rank in (self.attentionDpRank, self.rank) if rank is not None), 0)

    @property
    def num_running(self) -> int | None:
        """Requests in generation."""
        batch = self.inflightBatchingStats
        if batch.numGenRequests is not None or batch.numScheduledRequests is None:
            return batch.numGenRequests
        return max(batch.numScheduledRequests - (batch.numContextRequests or 0), 0)

    @property
    def step_ms(self) -> float | None:
        """Time of the host loop. In overlap mode the latency of an iteration spans two loops, and is no step."""
        if self.hostStepTimeMS is not None:
            return self.hostStepTimeMS
        return None if self.schedulerMode == "overlap" else self.iterLatencyMS

    @property
    def kv_fraction(self) -> float | None:
        """Used share of the KV blocks."""
        cache = self.kvCacheStats
        if cache is None or not cache.maxNumBlocks or cache.usedNumBlocks is None:
            return None
        return cache.usedNumBlocks / cache.maxNumBlocks


class TrtllmMetricsReader(LogReader):
    """Rows of TensorRT-LLM's `/metrics` (`enable_iter_perf_stats: true`): requests and KV tokens by rank and step."""

    name = "trtllm-metrics"
    time_unit = "ms"
    engine = "tensorrt-llm"
    title = "a file of TensorRT-LLM's /metrics"
    signature = re.compile(rb'"inflightBatchingStats"\s*:\s*\{')
    alignment = "step"
    resolution = "step"

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """All rows; those of one `iter` are one step."""
        rows: list[_Row] = []
        for data in plain_blocks(source):
            rows += _rows(data.split(b"\n"), records)
        if not rows:
            return
        steps = _steps(rows, records)
        kept = [(row, step) for row, step in zip(rows, steps, strict=True) if step is not None]
        _add([row for row, _step in kept], [step for _row, step in kept], records)


def _rows(lines: Iterable[bytes], records: RankStepsBuilder) -> Iterator[_Row]:
    one, many = msgspec.json.Decoder(_Row), msgspec.json.Decoder(list[_Row])
    for text in lines:
        body = json_of(text)
        if not body:
            continue
        try:
            yield from many.decode(body) if body.startswith(b"[") else (one.decode(body),)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            records.skip(MANGLED)


def _steps(rows: list[_Row], records: RankStepsBuilder) -> list[int | None]:
    """The step of each row: its `iter`; where most rows have none, one more each time that the ranks begin anew."""
    numbered = sum(row.iter is not None for row in rows)
    if 2 * numbered >= len(rows):
        records.skip(WITHOUT_ITER, len(rows) - numbered)
        return [row.iter for row in rows]
    records.note(BY_ORDER)
    steps: list[int | None] = []
    step, before = 0, -1
    for row in rows:
        step, before = step + (row.number <= before), row.number
        steps.append(step)
    return steps


def _add(rows: list[_Row], steps: list[int | None], records: RankStepsBuilder) -> None:
    ranks = {row.number for row in rows}
    several = len(ranks) > 1
    times, kinds = moments(LineClock(), [(row.timestamp or "").encode() for row in rows])
    records.extend(
        {
            "rank": [row.number for row in rows],
            "step": steps,
            "time_ms": times,
            "clock": kinds,
            "num_running": [row.num_running for row in rows],
            "num_waiting": [None if several and row.number else row.numQueuedRequests for row in rows],
            "prefill_tokens": [row.inflightBatchingStats.numCtxTokens for row in rows],
            "kv_tokens": [row.inflightBatchingStats.numGenKvTokens for row in rows],
            "kv_fraction": [row.kv_fraction for row in rows],
            "step_ms": [row.step_ms for row in rows],
        }
    )
    for row in rows[: len(ranks)]:
        cache = row.kvCacheStats
        if cache is not None and cache.maxNumBlocks and cache.tokensPerBlock:
            records.facts.kv_capacity_tokens[row.number] = cache.maxNumBlocks * cache.tokensPerBlock
        records.facts.max_num_seqs = records.facts.max_num_seqs or row.maxNumActiveRequests or None
    records.note(RANK_0_TIMES if several else ONE_RANK)
    if several and any(row.numQueuedRequests for row in rows):
        records.note("the queue is common to all ranks and told by rank 0: num_waiting of the other ranks is n/a")

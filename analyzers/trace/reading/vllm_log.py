"""What all logs of vLLM have in common: prefixes that tell time and rank, and lines that tell of the server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from lbal.analyzers.trace.reading.log_lines import LineClock, plain
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import FloatArray

NO_YEAR = 1972
"""Stands for the year that vLLM's clock does not tell; a leap year, so that it has every day."""
HALF_A_YEAR_MS = 183 * 86_400_000.0
YEAR_MS = 366 * 86_400_000.0
MANGLED = "lines that are cut or mangled"

_RANK = re.compile(rb"(?:EngineCore_DP|APIServer_DP(?:Rank_)?)(\d{1,4})\b")
_CLOCK = re.compile(rb"\b(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\b")
_NAME = re.compile(rb"\(([A-Za-z]\w{0,40}) pid=\d+\)")
_START = re.compile(rb"Initializing an? (?:V1 )?LLM engine \(v?([^\s,)]{1,60})")
_API_VERSION = re.compile(rb"API server version:? v?(\d[^\s,)]{1,60})")
_CAPACITY = re.compile(rb"KV cache size: ([\d,]{1,20}) tokens")
_DP_SIZE = re.compile(rb"data_parallel_size['\"]?\s*[=:]\s*(\d{1,4})\b")
_SLOTS = re.compile(rb"max_num_seqs['\"]?\s*[=:]\s*(\d{1,7})\b")
_EXPERTS = (b"FusedMoE", b"MoE backend", b"EPLB")
_EXPERT_PARALLEL = re.compile(rb"enable_expert_parallel['\"]?\s*[=:]\s*True")
_ENGINE = re.compile(rb"Engine (\d{1,4}): $")

BARRIER_DEPENDS = (
    "whether ranks wait for each other depends on the model: MoE models do, dense models run their ranks without a "
    "barrier since vLLM PR 30739, and barrier idle does not apply to them; the log does not tell which it is"
)
NO_BARRIER = (
    "the ranks number their iterations apart from each other at the same time, so they run without a barrier, as dense "
    "models do since vLLM PR 30739: barrier idle does not apply"
)


class VllmLog:
    """What is learned of a log on the way: its lines may come in several blocks."""

    def __init__(self, records: RankStepsBuilder) -> None:
        self.records = records
        self.has_experts = False
        self._started: set[bytes] = set()
        self._heads: dict[bytes, tuple[float, float]] = {}
        self._clock = LineClock()
        self._latest_ms = -np.inf
        self._years_ms = 0.0

    def parts(self, source: Source) -> Iterator[bytes]:
        """The log in pieces of whole lines without what wraps them, each of one run; facts are noted on the way."""
        for block in source.blocks(text=False):
            data = plain(block.data)
            self._learn(data)
            begin = 0
            for start in _START.finditer(data):
                if self._is_restart(head_of(data, start.start())):
                    line = data.rfind(b"\n", 0, start.start()) + 1
                    yield data[begin:line]
                    begin = line
                    self.records.new_run()
            yield data[begin:]

    def places(self, data: bytes, starts: list[int]) -> tuple[FloatArray, FloatArray]:
        """Rank and time in ms since 1970 of the messages that begin at the positions; NaN where nothing tells them.

        The rank is the index of the engine that stands before the message, else that of the process that wrote it.
        """
        places = [self._place(head_of(data, start)) for start in starts]
        table = np.array(places, dtype=np.float64).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def _place(self, head: bytes) -> tuple[float, float]:
        known = self._heads.get(head)
        if known is None:
            if len(self._heads) > 1 << 12:
                self._heads.clear()
            rank = _ENGINE.search(head) or _RANK.search(head)
            known = (float(rank[1]) if rank else np.nan, self._time_ms(head))
            self._heads[head] = known
        return known

    def _time_ms(self, head: bytes) -> float:
        """The first full time of the line, which a container's runtime puts there; else vLLM's, without a year."""
        if np.isfinite(full := self._clock.time_ms(head)):
            return full
        try:
            if clock := _CLOCK.search(head):
                month, day, hour, minute, second = map(int, clock.groups())
                moment = datetime(NO_YEAR, month, day, hour, minute, second, tzinfo=UTC).timestamp() * 1e3
                if moment + self._years_ms < self._latest_ms - HALF_A_YEAR_MS:
                    self._years_ms += YEAR_MS
                    self._heads.clear()
                self._latest_ms = max(self._latest_ms, moment + self._years_ms)
                return moment + self._years_ms
        except ValueError:
            pass
        return float(np.nan)

    def _is_restart(self, head: bytes) -> bool:
        """Whether this process was started before in this run: each rank of one start says so once."""
        name = _NAME.search(head)
        process = name[1] if name else b""
        again = process in self._started
        if again:
            self._started.clear()
        self._started.add(process)
        return again

    def _learn(self, data: bytes) -> None:
        facts = self.records.facts
        for found in _CAPACITY.finditer(data):
            rank = _RANK.search(head_of(data, found.start()))
            tokens = int(found[1].replace(b",", b"") or b"0")
            if tokens:
                facts.kv_capacity_tokens[int(rank[1]) if rank else None] = tokens
        if version := _START.search(data) or _API_VERSION.search(data):
            facts.engine_version = version[1].decode(errors="replace")
        if sizes := _DP_SIZE.findall(data):
            facts.dp_size = max(facts.dp_size or 1, *map(int, sizes))
        if slots := _SLOTS.search(data):
            facts.max_num_seqs = int(slots[1]) or None
        if not self.has_experts:
            self.has_experts = any(word in data for word in _EXPERTS) or _EXPERT_PARALLEL.search(data) is not None


def head_of(data: bytes, position: int) -> bytes:
    """What stands before the position in its line."""
    return data[data.rfind(b"\n", 0, position) + 1 : position][-300:]

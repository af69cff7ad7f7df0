"""What all logs of vLLM have in common: prefixes that tell time and rank, and lines that tell of the server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.reading.line_form import PLACE, Place
from lbal.analyzers.trace.reading.log_lines import plain_blocks
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import FloatArray

_RANK = re.compile(rb"(?:EngineCore_DP|APIServer_DP(?:Rank_)?)(\d{1,4})\b")
_NAME = re.compile(rb"\(([A-Za-z]\w{0,40}) pid=\d+\)")
_POD = re.compile(rb"\[pod/[^\]\n]{1,300}\]|^[\w.-]{1,80} +\|")
_START = re.compile(rb"Initializing an? (?:V1 )?LLM engine \(v?([^\s,)]{1,60})")
_STARTS = b"Initializing a"
_API_VERSION = re.compile(rb"API server version:? v?(\d[^\s,)]{1,60})")
_CAPACITY = re.compile(rb"KV cache size: ([\d,]{1,20}) tokens")
_DP_SIZE = re.compile(rb"data_parallel_size['\"]?\s*[=:]\s*(\d{1,4})\b")
_SLOTS = re.compile(rb"max_num_seqs['\"]?\s*[=:]\s*(\d{1,7})\b")
_EXPERTS = (b"FusedMoE", b"MoE backend", b"EPLB")
_EXPERT_PARALLEL = re.compile(rb"enable_expert_parallel['\"]?\s*[=:]\s*True")
_ENGINE = re.compile(rb"Engine (\d{1,4}): $")
_CACHED = 1 << 14

BARRIER_DEPENDS = (
    "whether ranks wait for each other depends on the model: MoE models do, dense models run their ranks without a "
    "barrier since vLLM PR 30739, and barrier idle does not apply to them; the log does not tell which it is"
)
WITH_PREFILL = "running requests are those in prefill too: they are not told apart from those that decode"
ON_THEIR_OWN = (
    "the ranks number their iterations apart from each other at the same time, so they run without a barrier, as dense "
    "models do since vLLM PR 30739: barrier idle does not apply"
)


class VllmLog:
    """What is learned of a log on the way: its lines may come in several blocks."""

    def __init__(self, records: RankStepsBuilder) -> None:
        self.records = records
        self.has_experts = False
        self._started: set[tuple[bytes, bytes]] = set()
        self._ranks: dict[bytes, float] = {}
        self._known: dict[bytes, tuple[float, float, float]] = {}
        self._clock = LineClock()

    def parts(self, source: Source) -> Iterator[bytes]:
        """The log in pieces of whole lines without what wraps them, each of one run."""
        for data in plain_blocks(source):
            begin = 0
            for start in _START.finditer(data) if _STARTS in data else ():
                self.records.begins_with_start |= self.records.is_empty
                if self._is_restart(head_of(data, start.start())):
                    line = data.rfind(b"\n", 0, start.start()) + 1
                    if begin < line:
                        yield data[begin:line]
                    begin = line
                    self.records.new_run()
            if begin < len(data):
                yield data[begin:]

    def places(self, heads: Sequence[bytes]) -> dict[str, FloatArray]:
        """`rank`, `time_ms` and `clock` of messages by what stands before them in their lines; NaN where it tells none.

        The rank is the index of the engine that stands before the message, else that of the process that wrote it.
        """
        table = np.array([self._known.get(head) or self.place(head) for head in heads], dtype=np.float64)
        return dict(zip(PLACE, table.reshape(-1, 3).T, strict=True))

    def place(self, head: bytes) -> Place:
        """Rank, time and kind of clock. Lines of one second begin alike, those with fractions of one do not."""
        with_fractions = head.startswith(b"20")
        rest = head.partition(b" ")[2] if with_fractions else head
        rank = self._ranks.get(rest)
        if rank is None:
            engine, processes = _ENGINE.search(rest), _RANK.findall(rest)
            told = engine[1] if engine else processes[-1] if processes else b"nan"
            rank = self._ranks[rest] = float(told)
        place = (rank, *self._clock.moment(head))
        if len(self._ranks) > _CACHED:
            self._ranks.clear()
            self._known.clear()
        if not with_fractions:
            self._known[head] = place
        return place

    def _is_restart(self, head: bytes) -> bool:
        """Whether this process was started before in this run: each rank of one start says so once."""
        name, pod = _NAME.search(head), _POD.search(head)
        process = (pod[0] if pod else b"", name[1] if name else b"")
        again = process in self._started
        if again:
            self._started.clear()
        self._started.add(process)
        return again

    def learn(self, data: bytes, loads: int) -> None:
        """Take what the lines of a piece tell of the server, where it has more lines than those with loads."""
        if data.count(b"\n") <= loads:
            return
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

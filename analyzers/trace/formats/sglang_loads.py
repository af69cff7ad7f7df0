"""Polls of SGLang's /v1/loads: one or many JSON answers, as lines, pretty-printed, in a list or end to end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypedDict

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.json_values import json_values
from lbal.analyzers.trace.reading.prometheus import moment_ms
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.sglang_log import EVERY_STEP
from lbal.analyzers.trace.source import Source

MANGLED = "polls that cannot be read"
LOADLESS = "loads without running requests and used tokens"
SAMPLES = f"a poll is one look at the load: load over time, no claim on single steps; every step: {EVERY_STEP}"
MOMENTS = (
    "step times are those of decode_moments: mean times of the decode passes between two polls, which contain the wait "
    "for the other ranks"
)
THROUGHPUT = (
    "step times are running requests * accept length / gen_throughput: about right while the batch stays the same, "
    "as the throughput is that of the passes before the poll"
)
OLD = (
    "{count:,} of {all:,} looks at a rank are more than {limit:g} s older than their poll, as ranks renew them now and "
    "then only"
)
STALE_MS = 5000.0
LARGEST = 1e15


class _Passes(NamedTuple):
    """Decode passes of a rank since its start, and the time that they took."""

    number: float
    total_us: float


class SglangLoadsReader(LogReader):
    """Polls of SGLang's `/v1/loads` (`{"loads": [{"dp_rank": 3, "num_running_reqs": 33, …}]}`): a look at each rank."""

    name = "sglang-loads"
    time_unit = "s"
    engine = "sglang"
    title = "a file of polls of SGLang's /v1/loads"
    signature = re.compile(rb'"loads"\s*:\s*\[\s*\{[^\[\]{}]{0,4000}?"num_(?:running_reqs|used_tokens)"\s*:')
    alignment = "step"
    resolution = "sampled"
    numbers_steps = EVERY_STEP

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """A poll that tells of no rank, or of what is not load."""
        if re.search(rb'^\s*\{[^\n]{0,400}"loads"\s*:\s*\[', source.wide_head):
            return (
                "is a poll of SGLang's /v1/loads without num_running_reqs of a rank: ask for all sections "
                "(no `include`, or include=core), while the server runs"
            )
        return None

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """Each poll is a step of all ranks that it has."""
        before: dict[int | None, _Passes] = {}
        ranks: set[int | None] = set()
        polls = looks = old = timed = 0
        for poll, time_ms in _polls(source, records):
            for load in filter(_is_object, poll["loads"]):
                rank, values = _rank(load), _values(load)
                if not values:
                    records.skip(LOADLESS)
                    continue
                step_ms = _step_ms(load, values["num_running"], before, rank, records)
                records.add(rank=rank, step=polls, time_ms=time_ms, step_ms=step_ms, **values)
                _learn(load, rank, records)
                ranks.add(rank)
                looks += 1
                old += _is_old(load, time_ms)
            timed += time_ms is not None
            polls += 1
            version = poll.get("version")
            records.facts.engine_version = version if isinstance(version, str) else records.facts.engine_version
        records.note(SAMPLES)
        if old:
            records.note(OLD.format(count=old, all=looks, limit=STALE_MS / 1e3))
        if len(ranks) == 1 and timed == polls:
            records.alignment = "time"  # other ranks may be in other files, whose polls are not numbered alike


def _polls(source: Source, records: RankStepsBuilder) -> Iterator[tuple[Mapping[str, Any], float | None]]:
    """The answers, each with its time: its own, that of what wraps it, or that of the line above."""
    line_ms: float | None = None
    for value in json_values(source):
        if isinstance(value, str):
            moment = moment_ms(value)
            line_ms = moment if moment is not None else line_ms
            records.skip(MANGLED, int(moment is None and '"loads"' in value))
            continue
        poll = next((part for part in (value, *value.values()) if _is_poll(part)), None)
        if poll is None:
            records.skip(MANGLED, int("loads" in value))
            continue
        yield poll, next((ms for ms in map(_time_ms, (poll, value)) if ms is not None), line_ms)


def _is_poll(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("loads"), list)


def _time_ms(record: Mapping[str, Any]) -> float | None:
    moment = next((record[key] for key in ("timestamp", "time", "ts", "@timestamp") if key in record), None)
    return moment_ms(str(moment)) if isinstance(moment, str | int | float) else None


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


class _Values(TypedDict):
    num_running: float | None
    kv_tokens: float | None
    num_waiting: float | None


def _values(load: Mapping[str, Any]) -> _Values | None:
    """The load of a rank; None where neither its requests nor its tokens are there."""
    running, tokens = _number(load.get("num_running_reqs")), _number(load.get("num_used_tokens"))
    if running is None and tokens is None:
        return None
    waiting = _number(load.get("num_waiting_reqs"))
    return {"num_running": running, "kv_tokens": tokens, "num_waiting": waiting}


def _step_ms(
    load: Mapping[str, Any],
    running: float | None,
    before: dict[int | None, _Passes],
    rank: int | None,
    records: RankStepsBuilder,
) -> float | None:
    """The mean time of the passes since the rank's last look, where the answer tells it."""
    moments = load.get("decode_moments")
    if isinstance(moments, list) and len(moments) >= 3:
        count, total_us = _number(moments[0]), _number(moments[2])
        if count is None or total_us is None:
            return None
        last, before[rank] = before.get(rank, _Passes(0.0, 0.0)), _Passes(count, total_us)
        if count < last.number:  # the server was started anew
            last = _Passes(0.0, 0.0)
        if count <= last.number or total_us <= last.total_us:
            return None
        records.note(MOMENTS)
        return (total_us - last.total_us) / (count - last.number) / 1e3
    throughput = _number(load.get("gen_throughput"))
    speculative = load.get("speculative")
    accepted = _number(speculative.get("accept_length")) if isinstance(speculative, dict) else None
    if not throughput or not running:
        return None
    records.note(THROUGHPUT)
    return running * (accepted or 1.0) / throughput * 1e3


def _learn(load: Mapping[str, Any], rank: int | None, records: RankStepsBuilder) -> None:
    capacity, slots = _number(load.get("max_total_num_tokens")), _number(load.get("max_running_requests"))
    if capacity:
        records.facts.kv_capacity_tokens[rank] = int(capacity)
    if slots:
        records.facts.max_num_seqs = int(slots)


def _rank(load: Mapping[str, Any]) -> int | None:
    rank = _number(load.get("dp_rank"))
    return None if rank is None else int(rank)


def _is_old(load: Mapping[str, Any], time_ms: float | None) -> bool:
    own = _number(load.get("timestamp"))
    return own is not None and time_ms is not None and time_ms - own * 1e3 > STALE_MS


def _number(value: Any) -> float | None:
    """A number that can be one of load; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < LARGEST else None

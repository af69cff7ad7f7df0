"""vLLM's line per iteration (`--enable-logging-iteration-details`), in the three generations that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.line_form import PLACE, Field, Fields
from lbal.analyzers.trace.reading.line_shapes import LineShapes
from lbal.analyzers.trace.reading.log_lines import MANGLED
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.vllm_log import BARRIER_DEPENDS, ON_THEIR_OWN, VllmLog
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import NO_BARRIER, FloatArray

MARKS = (b"Iteration(", b" context requests, ", b"iteration elapsed time: ")
LINE = re.compile(
    rb"^([^\n]*?)Iteration\((\d{1,15})\): (\d{1,9}) context requests, (\d{1,12}) context tokens, "
    rb"(\d{1,9}) generation requests, \d{1,12} generation tokens, iteration elapsed time: (\d{1,9}\.\d{1,6}) ms"
    rb"( \(dummy\))?(?:, \w{1,16} KV cache usage: (\d{1,3}\.\d{1,4})%)?",
    re.MULTILINE,
)
FIELDS = ("step", "context", "prefill_tokens", "generation", "step_ms", "dummy", "kv_percent")
OF_ENGINE = re.compile(rb"Engine \d{1,4}: Iteration\(")
GENERATIONS = {"A": "0.14.1 to 0.22.1", "B": "0.23.0 to 0.25.1", "C": "0.26.0 or later"}
WAITS = (
    "`iteration elapsed time` already contains the wait at the barrier, and under async scheduling only what is left "
    "of the step: idle is modelled from the loads of the ranks"
)
NO_TOKENS = "iteration lines tell no KV tokens{}; {} gives KV use"
LEAST_UNMATCHED = 8
"""So many iterations of no number of the first rank, and none of one, tell that ranks count on their own."""
APART_MS = 5_000.0
"""Iterations of one number on two ranks further apart than this are not one step."""


class VllmIterationsReader(LogReader):
    """vLLM's iteration lines (`--enable-logging-iteration-details`, 0.14.1 or later): requests of each rank and step.

    `num_running` counts the requests in generation; those in context are told by their tokens, `prefill_tokens`.
    """

    name = "vllm-iterations"
    time_unit = "ms"
    engine = "vllm"
    title = "a vLLM log with iteration lines"
    signature = re.compile(rb"Iteration\(\d{1,15}\): \d{1,9} context requests, ")
    alignment = "step"
    resolution = "step"
    numbers_steps = "vLLM 0.23.0 or later"
    precedence = 2

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The iterations of all ranks that write to this log; which generation it is decides what aligns them."""
        log, seen = VllmLog(records), _Seen()
        lines = LineShapes(MARKS, iteration_fields, log.place, len(FIELDS))
        for data in log.parts(source):
            found = lines.read(data)
            log.learn(data, len(found.row))
            if broken := found.mangled():
                records.skip(MANGLED, broken)
                records.damaged_near += _steps_at_damage(data)
            if not len(found.row):
                continue
            values = dict(zip(FIELDS, found.values.T, strict=True))
            columns = {**dict(zip(PLACE, found.places.T, strict=True)), "step": values["step"]}
            has_kv = bool(np.isfinite(values["kv_percent"]).any())
            seen.add(
                columns,
                engine=seen.has_engine or OF_ENGINE.search(data) is not None,
                kv=has_kv,
                dummy=(values["dummy"] == 1).any(),
            )
            columns |= {
                "num_running": values["generation"],
                "prefill_tokens": values["prefill_tokens"],
                "step_ms": values["step_ms"],
            }
            columns |= {"kv_fraction": values["kv_percent"] / 100} if has_kv else {}
            records.extend(columns)
        _conclude(records, log, seen, options)


def iteration_fields(line: bytes) -> Fields | None:
    """Where an iteration line tells its `FIELDS`; None for any other line."""
    found = LINE.match(line)
    if found is None or MARKS[0] in found[1]:
        return None
    return Fields(found.end(1), tuple(Field(*found.span(group)) for group in range(2, 2 + len(FIELDS))))


class _Seen:
    """What tells the generation of the lines, and whether their numbers are of one step on all ranks."""

    def __init__(self) -> None:
        self.has_engine = self.has_kv = self.has_dummies = False
        self.ranks: set[float] = set()
        self.apart = self.together = self.unmatched = 0
        self._first_ms: dict[float, float] = {}
        self._last_ms: dict[float, float] = {}
        self._times: dict[float, float] = {}

    def add(self, columns: dict[str, FloatArray], *, engine: bool, kv: bool, dummy: bool) -> None:
        self.has_engine |= engine
        self.has_kv |= kv
        self.has_dummies |= dummy
        self.ranks |= {rank for rank in np.unique(columns["rank"]) if not np.isnan(rank)}
        for rank in self.ranks:
            times = columns["time_ms"][columns["rank"] == rank]
            self._first_ms[rank] = float(np.fmin.reduce(times, initial=self._first_ms.get(rank, np.inf)))
            self._last_ms[rank] = float(np.fmax.reduce(times, initial=self._last_ms.get(rank, -np.inf)))
        if len(self.ranks) < 2:
            self._times.update(_by_step(columns, slice(None)))
            return
        own = columns["rank"] != min(self.ranks)
        self._times.update(_by_step(columns, ~own))
        first = np.array([self._times.get(step, np.nan) for step in columns["step"][own].tolist()])
        gap = np.abs(first - columns["time_ms"][own])
        self.apart += int((gap > APART_MS).sum())
        self.together += int((gap <= APART_MS).sum())
        self.unmatched += int(np.isnan(gap).sum())
        if len(self._times) > 1 << 18:
            self._times.clear()

    @property
    def on_their_own(self) -> bool:
        """Whether ranks that log at the same time are not at the same numbers, or share none."""
        if self.apart or self.together:
            return self.apart > self.together
        overlap_ms = min(self._last_ms.values(), default=0.0) - max(self._first_ms.values(), default=0.0)
        return self.unmatched >= LEAST_UNMATCHED and overlap_ms > 0

    @property
    def generation(self) -> str:
        """A, B or C; A where nothing tells A from B, as it claims least."""
        return "C" if self.has_engine or self.has_kv else "B" if self.has_dummies else "A"


def _by_step(columns: dict[str, FloatArray], rows: Any) -> Iterator[tuple[float, float]]:
    """Step and time of some records."""
    return zip(columns["step"][rows].tolist(), columns["time_ms"][rows].tolist(), strict=True)


def _steps_at_damage(data: bytes) -> Iterator[float]:
    """For each line with a part of an iteration, the number of the whole one before it, else of the one behind it."""
    step, waiting = np.nan, 0
    for line in data.split(b"\n"):
        if whole := iteration_fields(line):
            step = whole.fields[0].value(line)
            yield from [step] * (waiting + (line.count(MARKS[0]) > 1))
            waiting = 0
        elif any(mark in line for mark in MARKS) and np.isnan(step):
            waiting += 1
        elif any(mark in line for mark in MARKS):
            yield step


def _conclude(records: RankStepsBuilder, log: VllmLog, seen: _Seen, options: ReadOptions) -> None:
    generation = seen.generation
    version = records.facts.engine_version
    if generation == "A" and version and (minor := re.match(r"0\.(\d+)", version)) and 23 <= int(minor[1]) <= 25:
        generation = "B"
    records.facts.config["iteration_lines"] = f"generation {generation}, vLLM {GENERATIONS[generation]}"
    records.facts.engine_version = version or GENERATIONS[generation]
    records.note(WAITS)
    several = len(seen.ranks) > 1 or (records.facts.dp_size or 1) > 1
    if generation == "A":
        records.alignment = "time"
        if several:
            records.note(
                "generation A of vLLM's iteration lines (0.14.1 to 0.22.1): each rank numbers its own iterations, so "
                "ranks are joined by the clock, and steps without work are not logged: idle of ranks without work "
                "is unseen; vLLM 0.23.0 or later numbers steps alike on all ranks"
            )
    elif seen.on_their_own:
        records.alignment, records.resolution = "time", "sampled"
        records.note(ON_THEIR_OWN)
        records.facts.config[NO_BARRIER] = "the ranks number their iterations apart, as those of dense models do"
        several = False
    elif generation == "C":
        records.gaps_are_idle = not seen.has_dummies
    if several and not (log.has_experts or seen.has_dummies):
        records.note(BARRIER_DEPENDS)
    if not seen.has_kv:
        records.note(NO_TOKENS.format("", "vLLM 0.26.0 or later"))
    elif not (records.facts.kv_capacity_tokens or options.kv_capacity):
        why = ", and the log not what fits on a rank"
        records.note(NO_TOKENS.format(why, "the server's start in the log (`GPU KV cache size`) or --kv-capacity"))

"""The records of one log: what ranks did in steps, as columns; collected by a reader, put together by the joiner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.trace.reading.lost_lines import BoolArray, idle_away_from
from lbal.analyzers.trace.trace import FloatArray, Resolution

Alignment = Literal["step", "time"]
Column = Sequence[float | None] | FloatArray | float | None

PLACES = ("line", "run", "rank", "step", "time_ms", "clock", "idle_before")
"""Where a record stands: input line, run of the log (restarts), rank, step number, wall clock in ms and the kind of
that clock (`line_clock.py`). `idle_before` is 1 where the step numbers that are missing since the rank's last record
are steps without work, 0 where they are unknown: only of use with `gaps_are_idle`, and of logs where it is not the same
for all gaps."""
VALUES = (
    "kv_tokens",
    "kv_fraction",
    "num_running",
    "num_waiting",
    "prefill_tokens",
    "compute_ms",
    "wait_ms",
    "step_ms",
)
"""What a record may say. Loads are those that enter the step; `kv_fraction` is the used share (0..1) of a rank's KV
space, `compute_ms` the rank's own time before the barrier, `wait_ms` its measured wait there, `step_ms` the wall time
of the step."""
WHOLE = ("line", "run", "rank", "step", "num_running", "num_waiting", "prefill_tokens")
COLUMNS = PLACES + VALUES
ROWS_AT_ONCE = 1 << 16
MOST_RANKS = 1 << 12
LARGEST = float(1 << 53)
EXACT_IN_FLOAT32, MOST_IN_INT32 = float(1 << 24), float((1 << 31) - 1)
IMPOSSIBLE = "records with a rank or a step that cannot be"
IMPOSSIBLE_VALUES = "values that cannot be (negative, not finite or no whole number)"


@dataclass
class LogFacts:
    """What a log tells of the system beside its records. None is unknown."""

    engine: str | None = None
    """The engine, where it is not the one that the reader stands for."""
    engine_version: str | None = None
    """Version, or what is known of it: `0.23.0 to 0.25.1`."""
    dp_size: int | None = None
    max_num_seqs: int | None = None
    kv_capacity_tokens: dict[int | None, int] = field(default_factory=dict)
    """KV tokens that fit: rank -> tokens; under None what holds for all other ranks of the source."""
    time_origin: str | None = None
    """What the log calls the moment that is 0 ms, where `time_ms` has no date."""
    config: dict[str, Any] = field(default_factory=dict)
    """What else is worth keeping with the trace."""


@dataclass(frozen=True)
class RankSteps:
    """The records of one source, in its order: a table of the `COLUMNS` of which anything is known."""

    frame: pl.DataFrame
    facts: LogFacts
    alignment: Alignment
    resolution: Resolution
    gaps_are_idle: bool
    begins_with_start: bool
    times_hold_pauses: bool
    skipped: Mapping[str, int]
    """Lines that were not used: reason -> count."""
    notes: tuple[str, ...]


class RankStepsBuilder:
    """Collects the records of one source. A reader sets what it learns of the log as a whole as attributes."""

    def __init__(self, alignment: Alignment, resolution: Resolution) -> None:
        self.alignment: Alignment = alignment
        """As declared by the reader, unless this log turns out to be different."""
        self.resolution: Resolution = resolution
        self.gaps_are_idle = False
        """Whether a step number that is missing between two records of a rank is a step in which it had no work."""
        self.times_hold_pauses = False
        """Whether `step_ms` of a rank may be off, by a pause of its own: then the lower median of a step counts."""
        self.begins_with_start = False
        """Whether the server is started before the first record of the source."""
        self.damaged_near: list[float] = []
        """Of each damaged line the step number that the log was at: what ranks did around it is unknown, not idle."""
        self.facts = LogFacts()
        self.skipped: Counter[str] = Counter()
        self._notes: list[str] = []
        self._run = 0
        self._rows: list[tuple[float | None, ...]] = []
        self._parts: list[dict[str, NDArray[Any]]] = []
        self._lengths: list[int] = []

    def add(
        self,
        *,
        line: int | None = None,
        rank: int | None = None,
        step: int | None = None,
        time_ms: float | None = None,
        kv_tokens: float | None = None,
        kv_fraction: float | None = None,
        num_running: float | None = None,
        num_waiting: float | None = None,
        prefill_tokens: float | None = None,
        compute_ms: float | None = None,
        wait_ms: float | None = None,
        step_ms: float | None = None,
    ) -> None:
        """One record. What the line does not say is left out, never 0."""
        values = (kv_tokens, kv_fraction, num_running, num_waiting, prefill_tokens, compute_ms, wait_ms, step_ms)
        self._rows.append((line, self._run, rank, step, time_ms, None, None, *values))
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def extend(self, columns: Mapping[str, Column]) -> None:
        """Many records at once: columns of one length, or one value for all. NaN and None are unknown."""
        self._flush()
        arrays = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
        if unknown := arrays.keys() - set(COLUMNS):
            raise ValueError(f"a record has no {', '.join(sorted(unknown))}")
        length = max((len(array) for array in arrays.values() if array.ndim), default=1)
        part = {name: np.broadcast_to(array, length) for name, array in arrays.items()}
        part.setdefault("run", np.broadcast_to(np.float64(self._run), length))
        self._keep(part)

    @property
    def is_empty(self) -> bool:
        """Whether there is no record yet."""
        return not (self._rows or self._parts)

    def new_run(self) -> None:
        """The server was started anew: later records belong to another run."""
        self._run += 1

    def skip(self, reason: str, count: int = 1) -> None:
        """Count lines that look like data and are not used."""
        if count:
            self.skipped[reason] += count

    def note(self, text: str) -> None:
        """Something that whoever reads the figures must know; said once."""
        if text not in self._notes:
            self._notes.append(text)

    def build(self) -> RankSteps:
        """All records, without those and without values that cannot be, which are counted."""
        self._flush()
        keep = self._possible()
        columns = {}
        for name in COLUMNS:
            array = self._column(name)
            for part in self._parts:
                part.pop(name, None)
            if array is None:
                continue
            array = self._without_broken(name, array if keep.all() else array[keep])
            if not np.isnan(array).all():
                columns[name] = _series(name, array)
        if self.gaps_are_idle:
            columns |= self._unknown_at_damage(columns)
        return RankSteps(
            frame=pl.DataFrame(columns),
            facts=self.facts,
            alignment=self.alignment,
            resolution=self.resolution,
            gaps_are_idle=self.gaps_are_idle,
            begins_with_start=self.begins_with_start,
            times_hold_pauses=self.times_hold_pauses,
            skipped=dict(self.skipped),
            notes=tuple(self._notes),
        )

    def _unknown_at_damage(self, columns: dict[str, pl.Series]) -> dict[str, pl.Series]:
        """`idle_before` where lines are damaged, or have lost their rank while others have one."""
        if not {"run", "rank", "step"} <= columns.keys():
            return {}
        lost_rank = columns["rank"].is_null().to_numpy()
        if not (self.damaged_near or lost_rank.any()) or lost_rank.all():
            return {}
        places = (columns[name] for name in ("run", "rank", "step"))
        run, rank, step = (place.cast(pl.Float64).fill_null(np.nan).to_numpy() for place in places)
        damaged = np.concatenate([np.array(self.damaged_near), step[lost_rank]])
        idle = idle_away_from(damaged, run, rank, step)
        if "idle_before" in columns:
            idle = np.fmin(idle, columns["idle_before"].fill_null(np.nan).to_numpy())
        return {"idle_before": _series("idle_before", idle)}

    def _flush(self) -> None:
        if self._rows:
            table = np.array(self._rows, dtype=np.float64)
            self._rows = []
            self._keep({name: table[:, index] for index, name in enumerate(COLUMNS)})

    def _keep(self, part: Mapping[str, FloatArray]) -> None:
        """Take the columns of some records, each in as few bytes as hold it."""
        self._lengths.append(len(part["run"]))
        self._parts.append({name: compact(column) for name, column in part.items()})

    def _column(self, name: str) -> FloatArray | None:
        """A column of all records, NaN where a part does not have it; None where no part has it."""
        if not any(name in part for part in self._parts):
            return None
        array, begin = np.full(sum(self._lengths), np.nan), 0
        for part, length in zip(self._parts, self._lengths, strict=True):
            if name in part:
                array[begin : begin + length] = part[name]
            begin += length
        return array

    def _possible(self) -> BoolArray:
        """Which records may be: the others are counted."""
        keep = np.ones(sum(self._lengths), np.bool_)
        for name, largest in (("rank", MOST_RANKS - 1), ("step", LARGEST), ("time_ms", np.inf)):
            array = self._column(name)
            if array is not None and name == "time_ms":
                keep &= ~np.isinf(array)
            elif array is not None:
                keep &= np.isnan(array) | _can_be(array, whole=True, largest=largest)
        self.skip(IMPOSSIBLE, int((~keep).sum()))
        return keep

    def _without_broken(self, name: str, array: FloatArray) -> FloatArray:
        """The values with NaN for those that cannot be, which are counted."""
        if name not in VALUES:
            return array
        largest = 1.0 if name == "kv_fraction" else LARGEST
        broken = ~(np.isnan(array) | _can_be(array, whole=name in WHOLE, largest=largest))
        self.skip(IMPOSSIBLE_VALUES, int(broken.sum()))
        return np.where(broken, np.nan, array)


def compact(array: FloatArray) -> NDArray[Any]:
    """The same numbers in as few bytes as hold them exactly; a copy, which keeps nothing else in memory."""
    if not len(array):
        return array
    same = array == array[0] if not np.isnan(array[0]) else np.isnan(array)
    if same.all():
        return np.broadcast_to(np.float64(array[0]), len(array))
    least, most = np.fmin.reduce(array), np.fmax.reduce(array)
    for kind in (np.int16, np.int32):
        limits = np.iinfo(kind)
        if limits.min <= least <= most <= limits.max and (array == np.floor(array)).all():
            return array.astype(kind)
    if -EXACT_IN_FLOAT32 <= least <= most <= EXACT_IN_FLOAT32 and (np.isnan(array) | (array == np.floor(array))).all():
        return array.astype(np.float32)
    return np.array(array)


def numbers(texts: Iterable[bytes]) -> FloatArray:
    """Numbers from what a pattern found; an empty text, a group that is not there, is NaN."""
    texts = texts if isinstance(texts, tuple | list) else list(texts)
    if all(texts):
        return np.array(list(map(float, texts)), dtype=np.float64)
    if not any(texts):
        return np.full(len(texts), np.nan)
    return np.array([float(text) if text else np.nan for text in texts], dtype=np.float64)


def _can_be(array: FloatArray, *, whole: bool, largest: float) -> Any:
    possible = (array >= 0) & (array <= largest)
    return possible & (array == np.floor(array)) if whole else possible


def _series(name: str, array: FloatArray) -> pl.Series:
    series = pl.Series(name, array, nan_to_null=True)
    if name == "clock":
        return series.cast(pl.Int8)
    if name not in WHOLE:
        return series
    return series.cast(pl.Int32 if np.fmax.reduce(array) <= MOST_IN_INT32 else pl.Int64)

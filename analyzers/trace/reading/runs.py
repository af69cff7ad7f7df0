"""Which start of the server each record of a log is of, and which step numbers are wrong.

Step numbers of a rank that go back mark a restart, unless one number alone is out of line, or the other ranks go on at
that time. A restart is one of all ranks: the clock tells which runs a rank is in that is silent in a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lbal.analyzers.trace.trace import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
WRONG_STEP = "lines whose step number is mangled (it fits neither the line before nor the one behind)"
FAR = 4.0
"""A number is wrong if it is so many times as far from its neighbours as they are from each other."""
LEAST_RISES = 8
"""So many rises of the numbers tell what is usual; of fewer it is taken to be 1."""
MOST_PARTS = 1 << 12
NEAR_GAPS = 2.0
"""Neighbours that are so many usual gaps apart follow each other."""


@dataclass(frozen=True)
class Numbered:
    """The records of one log in its order, or of several one after the other: columns of one length, unknown is NaN."""

    run: FloatArray
    """Starts of the server that the reader saw before the record."""
    rank: FloatArray
    step: FloatArray
    time_ms: FloatArray

    def part(self, rows: IntArray | BoolArray) -> Numbered:
        """The chosen records."""
        if rows.dtype == np.bool_ and rows.all():
            return self
        return replace(self, **{name: column[rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class Runs:
    """What the step numbers say of each record."""

    run: IntArray
    """From 0, in the order of time."""
    is_wrong: BoolArray
    """Whether its step number cannot be right."""
    follows_wrong: BoolArray
    """Whether the rank's record before it is a wrong one: what it did in the numbers between is unknown."""


@dataclass(frozen=True)
class _Restart:
    """A rank starts anew: the place of its first record and the times on both sides of it."""

    rank: float
    row: int
    ends_ms: float
    begins_ms: float
    is_sure: bool

    def holds(self, moment_ms: float) -> bool:
        """Whether all ranks may have started anew at this moment."""
        return self.ends_ms < moment_ms <= self.begins_ms


def runs_of(records: Numbered, late_steps: int = 0) -> Runs:
    """The run of each record. A number may be lower by `late_steps` than the one before it without a restart."""
    if _only_rises(records, late_steps):
        nothing = np.zeros(len(records.run), np.bool_)
        return Runs(np.zeros(len(records.run), np.int64), nothing, nothing)
    order = np.argsort(_whole(records.rank), kind="stable")
    by_rank = records.part(order)
    numbered = ~np.isnan(by_rank.step)
    wrong = np.zeros(len(order), np.bool_)
    wrong[numbered] = _out_of_line(by_rank.part(numbered), late_steps)
    right = _filled(by_rank.part(~wrong))
    found, none = _numbers(right, _restarts(right, late_steps), late_steps)
    run = np.zeros(len(order), np.int64)
    run[~wrong] = found
    run[wrong] = run[np.flatnonzero(wrong) - 1]
    wrong[np.flatnonzero(~wrong)[_alone(right, none, late_steps)]] = True
    behind = np.concatenate([[False], wrong[:-1]])[: len(order)] & _same_rank(by_rank)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return Runs(run[back], wrong[back], behind[back])


def _only_rises(records: Numbered, late_steps: int) -> bool:
    """Whether no number is lower than one before it, in all records or in each of ranks that log one after the other.

    It is so of most logs, and soon told: then no rank starts anew, and no number is wrong.
    """
    step, run, rank = records.step, records.run, records.rank
    if not len(step):
        return True
    if (run != run[0]).any():
        return False
    changes = np.flatnonzero(rank[1:] != rank[:-1]) + 1
    begins = [0, *changes.tolist()] if len(changes) < MOST_PARTS else [0]
    if len(np.unique(rank[begins])) < len(begins):
        begins = [0]
    parts = (step[begin:end] for begin, end in zip(begins, [*begins[1:], len(step)], strict=True))
    return all((part >= np.maximum.accumulate(part) - late_steps).all() for part in parts)  # not so with NaN


def _whole(rank: FloatArray) -> IntArray:
    """Ranks as small whole numbers, which are sorted fast; -1 where there is none."""
    known = np.where(np.isnan(rank), -1.0, rank)
    return known.astype(np.int16 if known.max(initial=0) < 1 << 15 else np.int64)


def _same_rank(records: Numbered) -> BoolArray:
    """For each record, whether the one before it is of the same rank."""
    rank = _whole(records.rank)
    return np.concatenate([[False], rank[1:] == rank[:-1]]) if len(rank) else np.zeros(0, np.bool_)


def _filled(records: Numbered) -> Numbered:
    """The records with the last number of the rank where one has none."""
    if not np.isnan(records.step).any():
        return records
    known = ~np.isnan(records.step) | ~_same_rank(records)
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
    return replace(records, step=records.step[last])


def _usual_rise(step: FloatArray) -> float:
    rises = np.diff(step)
    rises = rises[rises > 0]
    return float(np.median(rises)) if rises.size >= LEAST_RISES else 1.0


def _out_of_line(records: Numbered, late_steps: int) -> BoolArray:
    """Single numbers that fit neither neighbour, while the neighbours follow each other."""
    wrong, step = np.zeros(len(records.step), np.bool_), records.step
    if len(step) < 3:
        return wrong
    same = _same_rank(records) & (np.diff(records.run, prepend=np.nan) == 0)
    before, this, behind = step[:-2], step[1:-1], step[2:]
    apart = behind - before
    away = np.minimum(np.abs(this - before), np.abs(this - behind))
    outside = (this > behind + late_steps) | (this < before - late_steps)
    near = (np.abs(apart) <= NEAR_GAPS * _usual_rise(step)) | (FAR * np.abs(apart) <= away)
    wrong[1:-1] = same[1:-1] & same[2:] & outside & near & (apart > -late_steps)
    wrong[1:] &= ~wrong[:-1]
    return wrong


def _restarts(records: Numbered, late_steps: int) -> list[_Restart]:
    """Where a rank's numbers go back, or the reader saw a start."""
    same = _same_rank(records)
    started = same & (np.diff(records.run, prepend=np.nan) != 0)
    found = started | (same & (np.diff(records.step, prepend=np.nan) < -late_steps))
    restarts = []
    for row in np.flatnonzero(found).tolist():
        ends, begins = float(records.time_ms[row - 1]), float(records.time_ms[row])
        begins = max(begins, float(np.nextafter(ends, np.inf)))
        restarts.append(_Restart(float(records.rank[row]), row, ends, begins, bool(started[row])))
    return restarts


def _numbers(records: Numbered, restarts: list[_Restart], late_steps: int) -> tuple[IntArray, list[_Restart]]:
    """The run of each record, and the restarts of one rank at which the others go on, so that they are none."""
    ranks = np.unique(records.rank[~np.isnan(records.rank)])
    cuts = _moments(restarts) if restarts and len(ranks) > 1 else None
    if cuts is None:
        return _counted_by_rank(records, restarts), []
    agreed = [cut for cut in cuts if _is_agreed(records, restarts, cut, late_steps)]
    refused = [cut for cut in cuts if cut not in agreed]
    if refused and len({sum(restart.rank == rank for restart in restarts) for rank in ranks}) == 1:
        return _counted_by_rank(records, restarts), []  # ranks whose clocks differ start anew as often as each other
    none = [one for one in restarts if any(map(one.holds, refused)) and not any(map(one.holds, agreed))]
    return _counted_by_time(records, restarts, agreed), none


def _counted_by_rank(records: Numbered, restarts: list[_Restart]) -> IntArray:
    """The runs of each rank counted alone, from the one of the starts seen by the reader in which it first logs."""
    if not len(records.run):
        return np.zeros(0, np.int64)
    seen = np.searchsorted(np.unique(records.run), records.run)
    more = np.zeros(len(seen), np.int64)
    for restart in restarts:
        more[restart.row] = max(int(seen[restart.row] - seen[restart.row - 1]), 1)
    begins = np.flatnonzero(~_same_rank(records))
    total = np.cumsum(more)
    group = np.searchsorted(begins, np.arange(len(seen)), side="right") - 1
    return np.asarray(seen[begins][group] + total - total[begins][group])


def _moments(restarts: list[_Restart]) -> list[float] | None:
    """The fewest moments such that each restart of a rank may be at one of them; None where the clock does not tell."""
    cuts: list[float] = []
    for restart in sorted(restarts, key=lambda one: one.begins_ms):
        if np.isnan(restart.ends_ms) or np.isnan(restart.begins_ms):
            return None
        if not cuts or restart.ends_ms >= cuts[-1]:
            cuts.append(restart.begins_ms)
    for cut in cuts:
        at_cut = [restart.rank for restart in restarts if restart.holds(cut)]
        if len(at_cut) > len(set(at_cut)):
            return None
    return cuts


def _is_agreed(records: Numbered, restarts: list[_Restart], cut: float, late_steps: int) -> bool:
    """Whether more ranks start anew at a moment than go on there with the next numbers."""
    here = [restart for restart in restarts if restart.holds(cut)]
    if any(restart.is_sure for restart in here):
        return True
    anew, goes_on = {restart.rank for restart in here}, 0
    for rank in set(records.rank[~np.isnan(records.rank)].tolist()) - anew:
        own = records.rank == rank
        step, behind = records.step[own], records.time_ms[own] >= cut
        first = int(np.argmax(behind))
        if behind.any() and first > 0:
            goes_on += -late_steps < step[first] - step[first - 1] <= NEAR_GAPS * _usual_rise(step)
    return len(anew) > goes_on


def _counted_by_time(records: Numbered, restarts: list[_Restart], cuts: list[float]) -> IntArray:
    """How many of the moments are before each record; by its own restart where its rank has one there."""
    run, count = np.zeros(len(records.rank), np.int64), len(records.rank)
    begins = np.append(np.flatnonzero(~_same_rank(records)), count)
    for begin, end in zip(begins[:-1].tolist(), begins[1:].tolist(), strict=True):
        own = [restart for restart in restarts if begin <= restart.row < end]
        latest = np.fmax.accumulate(records.time_ms[begin:end])
        for cut in cuts:
            rows = [restart.row for restart in own if restart.holds(cut)]
            run[rows[0] if rows else begin + int(np.searchsorted(latest, cut)) : end] += 1
    return run


def _alone(records: Numbered, none: list[_Restart], late_steps: int) -> list[int]:
    """Where the numbers of one rank go back though there is no restart: the single number that does not fit."""
    step, found, count = records.step, set[int](), len(records.step)
    for row, rank in ((restart.row, restart.rank) for restart in none):
        if row + 1 < count and records.rank[row + 1] == rank and step[row + 1] > step[row - 1] - late_steps:
            found.add(row)
        elif row >= 2 and records.rank[row - 2] == rank and step[row] > step[row - 2] - late_steps:
            found.add(row - 1)
    return sorted(found)

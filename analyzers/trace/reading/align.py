"""Records of ranks, side by side: those of one step number, or those of one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.rank_steps import VALUES
from lbal.analyzers.trace.trace import FloatArray, IntArray, Resolution

TWICE = "second records of a rank in one step"
NO_TIME = "records without a time"
NO_PARTNER = "records with no step of the other ranks near in time"
RANKS_SHOWN = 8
PER_STEP = "step_ms"
SECOND_MS = 1000.0
MOST_SPARSE = 4
"""Step numbers of a log lie in a range that is at most so many times as long as there are records, if it is usual."""
COARSE_CLOCK = 1.5
"""Records of a rank per reading of the clock from which the clock is too coarse to tell steps apart."""


@dataclass(frozen=True)
class Aligned:
    """S steps of G ranks: columns of shape (S, G), `step_ms` and `start_ms` of shape (S,). Unknown is NaN."""

    step: IntArray
    columns: Mapping[str, FloatArray]
    resolution: Resolution
    left_out: Mapping[str, int]
    warnings: tuple[str, ...]
    dp_size: int


def by_step(records: pl.DataFrame, dp_size: int, *, gaps_are_idle: bool, with_pauses: bool = False) -> Aligned:
    """Records of one step number side by side; a rank without a record of a step is null there.

    With `gaps_are_idle` a number that is missing between two records of a rank is a step in which it had no work,
    unless the later record says that it is not (`idle_before` is 0).
    Of two records of a rank and step the later one counts, value by value. The time of a step is the longest of its
    ranks, or the lower median of those with pauses (`with_pauses`).
    """
    unnumbered = records["step"].null_count()
    known = records.filter(pl.col("step").is_not_null()) if unnumbered else records
    step, row = _numbered(known["step"].to_numpy())
    columns = _matrices(known, row, len(step), dp_size, with_pauses)
    if gaps_are_idle:
        _fill_gaps(columns, row, known, len(step), dp_size)
    twice = known.height - int(_logged(row, known["rank"].to_numpy(), len(step), dp_size).sum())
    left_out = {TWICE: twice, "records without a step number": unnumbered}
    return Aligned(step.astype(np.int64), columns, "step", left_out, (), dp_size)


def _numbered(step: IntArray) -> tuple[IntArray, IntArray]:
    """The step numbers that there are, in order, and for each record the place of its own among them."""
    if not len(step) or int(step.max()) - int(step.min()) > MOST_SPARSE * len(step):
        return np.unique(step, return_inverse=True)
    offset = step - step.min()
    is_there = np.zeros(int(offset.max()) + 1, np.bool_)
    is_there[offset] = True
    return np.flatnonzero(is_there) + int(step.min()), (np.cumsum(is_there) - 1)[offset]


def by_time(
    records: pl.DataFrame, dp_size: int, *, sampled: bool, source: str, with_pauses: bool = False, remedy: str = ""
) -> Aligned:
    """Records of one moment side by side. The rank with the most records gives the moments.

    Steps: of each other rank the nearest record within half the usual gap, each record once. Samples: the nearest
    record within one usual gap of that rank, a record may serve twice. A clock that reads the same in several steps
    makes samples of steps, as does one of whole seconds where steps are shorter; samples of a rank at one reading of
    the clock are spread evenly until the next reading.
    `remedy` is what makes the engine number its steps, for the message on ranks that are far from all others in time.
    Raises `InputError` where no record has a time.
    """
    if "time_ms" not in records.columns:
        records = records.with_columns(pl.lit(None, pl.Float64).alias("time_ms"))
    known = records.filter(pl.col("time_ms").is_not_null()).sort("time_ms", maintain_order=True)
    if known.is_empty():
        raise InputError(source, "no record has a time or a step number", expected="a log with times")
    left_out = {NO_TIME: records.height - known.height}
    warnings: list[str] = []
    if not sampled and dp_size > 1 and _is_coarse(known):
        sampled = True
        warnings.append("the clock of the log is too coarse to tell steps apart: its records are taken as samples")
    if sampled:
        known = _spread(known)
    reference = known.group_by("rank").len().sort(["len", "rank"], descending=[True, False])["rank"][0]
    parts, far = [], list[_Far]()
    moments = known.filter(pl.col("rank") == reference)["time_ms"].to_numpy()
    for rank in known["rank"].unique().sort():
        own = known.filter(pl.col("rank") == rank)
        if rank == reference:
            parts.append(own.with_columns(pl.Series("row", np.arange(len(moments)))))
        else:
            parts.append(_held(own, moments) if sampled else _matched(own, moments))
            count = _far(own, moments) if sampled else own.height - parts[-1].height
            far += [_Far(rank, count, _least_apart(own, moments), parts[-1].is_empty())] if count else []
    left_out[NO_PARTNER] = sum(each.left_out for each in far)
    warnings += _far_in_words(far, int(reference), remedy)
    joined = pl.concat(parts)
    columns = _matrices(joined, joined["row"].to_numpy(), len(moments), dp_size, with_pauses)
    columns["start_ms"] = moments - moments[0]
    resolution: Resolution = "sampled" if sampled else "step"
    return Aligned(np.arange(len(moments)), columns, resolution, left_out, tuple(warnings), dp_size)


class _Far(NamedTuple):
    """Records of a rank that are far in time from every look at the rank with the most."""

    rank: int
    left_out: int
    nearest_ms: float
    is_all: bool


def _is_coarse(records: pl.DataFrame) -> bool:
    """Whether a clock cannot tell steps apart: it reads the same in several, or steps are shorter than its seconds."""
    if records.height > COARSE_CLOCK * records.select("rank", "time_ms").n_unique():
        return True
    if PER_STEP not in records.columns or not _counts_seconds(records):
        return False
    usual_ms: Any = records[PER_STEP].median()
    return usual_ms is not None and usual_ms < SECOND_MS


def _counts_seconds(records: pl.DataFrame) -> bool:
    return bool((records["time_ms"] % SECOND_MS == 0).all())


def _least_apart(own: pl.DataFrame, moments: FloatArray) -> float:
    times = own["time_ms"].to_numpy()
    return float(np.abs(moments[_nearest(moments, times)] - times).min())


def _far_in_words(far: Sequence[_Far], reference: int, remedy: str) -> list[str]:
    """Why records could not be used, and what would join them: a warning, if there are any."""
    if not far:
        return []
    shown = ", ".join(str(each.rank) for each in far[:RANKS_SHOWN]) + (", …" if len(far) > RANKS_SHOWN else "")
    ranks = f"rank{'s' * (len(far) > 1)} {shown}"
    text = (
        f"{sum(each.left_out for each in far):,} records of {ranks} are too far in time from the nearest record of "
        f"rank {reference}, which has the most, to be of one moment with it"
    )
    if gone := [each for each in far if each.is_all]:
        nearest_ms = min(each.nearest_ms for each in gone)
        dropped = ", ".join(str(each.rank) for each in gone[:RANKS_SHOWN])
        text += (
            f" (of rank{'s' * (len(gone) > 1)} {dropped}, all are: {_duration(nearest_ms)} away at least; the clocks "
            "of hosts may differ, or the files are of other times)"
        )
    return [f"{text}{f'; {remedy} joins ranks by number, without a clock' if remedy else ''}"]


def _duration(ms: float) -> str:
    """A time in the largest unit of which it has one."""
    for unit, size_ms in (("days", 86.4e6), ("hours", 3.6e6), ("s", 1e3)):
        if ms >= size_ms:
            return f"{ms / size_ms:,.3g} {unit}"
    return f"{ms:,.3g} ms"


def _spread(records: pl.DataFrame) -> pl.DataFrame:
    """Records in order of time, those of a rank with one time spread over the unit in which the clock counts."""
    tick_ms = SECOND_MS if _counts_seconds(records) else 1.0
    here = pl.col("time_ms").cum_count().over("rank", "time_ms") - 1
    share = here / pl.len().over("rank", "time_ms")
    return records.with_columns(pl.col("time_ms") + share * tick_ms).sort("time_ms", maintain_order=True)


def _nearest(times: FloatArray, moments: FloatArray) -> IntArray:
    """For each moment the index of the time nearest to it; the earlier of equals."""
    after = np.clip(np.searchsorted(times, moments), 1, max(len(times) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    return np.asarray(np.where(moments - times[before] <= times[after] - moments, before, after))


def _usual_gap(times: FloatArray) -> float:
    gaps = np.diff(times)
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if gaps.size else np.inf


def _held(own: pl.DataFrame, moments: FloatArray) -> pl.DataFrame:
    """Samples of a rank at the moments: the nearest one, unless it is further away than a usual gap."""
    times = own["time_ms"].to_numpy()
    nearest = _nearest(times, moments)
    rows = np.flatnonzero(np.abs(times[nearest] - moments) <= _reach(times, moments))
    return own[nearest[rows]].with_columns(pl.Series("row", rows))


def _far(own: pl.DataFrame, moments: FloatArray) -> int:
    """How many samples of a rank are too far from every moment to be held at one."""
    times = own["time_ms"].to_numpy()
    return int((np.abs(moments[_nearest(moments, times)] - times) > _reach(times, moments)).sum())


def _reach(times: FloatArray, moments: FloatArray) -> float:
    """How far a sample of a rank may be from a moment: the larger of the usual gaps."""
    return max(_usual_gap(times), _usual_gap(moments)) if len(times) > 1 else _usual_gap(moments)


def _matched(own: pl.DataFrame, moments: FloatArray) -> pl.DataFrame:
    """Steps of a rank at the moments: the record and the moment that are nearest to each other."""
    times = own["time_ms"].to_numpy()
    row_of, time_of = _nearest(moments, times), _nearest(times, moments)
    mutual = time_of[row_of] == np.arange(len(times))
    near = np.abs(moments[row_of] - times) <= _usual_gap(moments) / 2
    keep = np.flatnonzero(mutual & near)
    return own[keep].with_columns(pl.Series("row", row_of[keep]))


def _matrices(
    records: pl.DataFrame, row: IntArray, count: int, dp_size: int, with_pauses: bool
) -> dict[str, FloatArray]:
    """The values by step and rank; `step_ms` is the longest of a step, or the lower median; `start_ms` is the first."""
    rank = records["rank"].to_numpy()
    columns = {}
    for name in VALUES:
        if name not in records.columns or records[name].null_count() == records.height:
            continue
        matrix = np.full((count, dp_size), np.nan)
        known = slice(None) if not records[name].null_count() else records[name].is_not_null().to_numpy()
        matrix[row[known], rank[known]] = records[name].to_numpy()[known]
        columns[name] = matrix
    if PER_STEP in columns:
        times = np.where(columns[PER_STEP] > 0, columns[PER_STEP], np.nan)
        columns[PER_STEP] = _lower_median(times) if with_pauses else np.fmax.reduce(times, axis=1)
    if "time_ms" in records.columns and records["time_ms"].null_count() == 0:
        start = np.full(count, np.inf)
        np.minimum.at(start, row, records["time_ms"].to_numpy())
        columns["start_ms"] = start - start[0]
    return columns


def _lower_median(times: FloatArray) -> FloatArray:
    """The middle time of the ranks of each step, of an even number the lower one; NaN where there is none."""
    known = np.maximum((~np.isnan(times)).sum(axis=1), 1)
    return np.asarray(np.take_along_axis(np.sort(times, axis=1), ((known - 1) // 2)[:, None], axis=1)[:, 0])


def _fill_gaps(columns: dict[str, FloatArray], row: IntArray, records: pl.DataFrame, count: int, dp_size: int) -> None:
    """No work in the steps that a rank did not log between its first and its last record."""
    rank = records["rank"].to_numpy()
    logged = _logged(row, rank, count, dp_size)
    begun = np.maximum.accumulate(logged, axis=0)
    ended = np.maximum.accumulate(logged[::-1], axis=0)[::-1]
    gap = begun & ended & ~logged
    if "idle_before" in records.columns:
        gap &= _idle_until_next(row, rank, records["idle_before"].to_numpy(), count, dp_size)
    for name in ("kv_tokens", "kv_fraction", "num_running", "prefill_tokens"):
        if name in columns:
            columns[name][gap] = 0.0


def _logged(row: IntArray, rank: IntArray, count: int, dp_size: int) -> Any:
    """(S, G) where there is a record."""
    logged = np.zeros((count, dp_size), np.bool_)
    logged[row, rank] = True
    return logged


def _idle_until_next(row: IntArray, rank: IntArray, idle_before: FloatArray, count: int, dp_size: int) -> Any:
    """(S, G) whether the next record of the rank, from each step on, says that it had no work before."""
    said = np.full((count, dp_size), np.nan)
    said[row, rank] = idle_before
    next_row = np.where(np.isnan(said), count, np.arange(count)[:, None])
    next_row = np.minimum.accumulate(next_row[::-1], axis=0)[::-1]
    return np.take_along_axis(said, np.minimum(next_row, count - 1), axis=0) == 1

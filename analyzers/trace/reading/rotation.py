"""Files of one log that was rotated, by size or by the hour: read one after the other, as one log."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from lbal.analyzers.errors import InputError, Parameter
from lbal.analyzers.trace.reading.line_clock import DAY_MS, LEAP_YEAR_MS, NO_YEAR
from lbal.analyzers.trace.reading.rank_steps import LogFacts, RankSteps
from lbal.analyzers.trace.sources import SourceName

_PACKED = re.compile(r"\.(?:gz|zst|zstd)$", re.IGNORECASE)
_NUMBER = re.compile(r"\.\d{1,4}$")
_DATE = re.compile(r"[-._]?(?:19|20)\d\d[-_.]?\d\d[-_.]?\d\d(?:[-_.T]?\d\d(?:[-_.:]?\d\d){0,2})?(?!\d)")
HALF_A_YEAR_MS = 183 * DAY_MS


@dataclass(frozen=True)
class LogPart:
    """What one source gave."""

    source: SourceName
    sha256: str
    records: RankSteps


@dataclass(frozen=True)
class RotatedLog:
    """The records of one file, or of several that follow one another, in their order."""

    names: tuple[str, ...]
    frame: pl.DataFrame
    facts: LogFacts


def rotated_stems(names: Sequence[str]) -> list[str]:
    """For each file the name of the log that it is a piece of: `server.log` for `server.log.2.gz`.

    A number at the end counts only beside the file without one: else it may be a rank.
    """
    bases = [_DATE.sub("", _PACKED.sub("", name)) for name in names]
    return [stem if (stem := _NUMBER.sub("", base)) in bases else base for base in map(os.path.normpath, bases)]


def rotated_logs(framed: Iterable[tuple[LogPart, pl.DataFrame]]) -> list[RotatedLog]:
    """The logs of all ranks: files with a rank in common are one log if they follow one another.

    That is told from the times of that rank, or from its step numbers where there are no times. Raises `InputError`
    with both names where they do not.
    """
    groups: list[list[tuple[LogPart, pl.DataFrame]]] = []
    for item in framed:
        ranks = set(item[1]["rank"].unique())
        same = [group for group in groups if any(ranks & set(frame["rank"].unique()) for _part, frame in group)]
        groups = [group for group in groups if group not in same] + [[one for group in same for one in group] + [item]]
    return [_joined(_in_order(group)) for group in groups]


def _in_order(group: list[tuple[LogPart, pl.DataFrame]]) -> list[tuple[LogPart, pl.DataFrame]]:
    if len(group) == 1:
        return group
    by = "time_ms" if all(_is_told(frame, "time_ms") for _part, frame in group) else "step"
    group = sorted(group, key=lambda item: (_least(item[1], by), _most(item[1], by)))
    if by == "time_ms" and all(_is_yearless(frame) for _part, frame in group):
        group = _from_the_old_year(group)
    for index, (part, frame) in enumerate(group):
        for other, later in group[index + 1 :]:
            rank = _overlap(frame, later, by)
            if rank is not None:
                raise InputError(
                    other.source.name,
                    f"has rank {rank}, which {part.source.name} has too",
                    expected=[
                        "files that follow one another in time, or one file a rank (",
                        Parameter("rank_regex"),
                        " reads ranks from names)",
                    ],
                )
    return group


def _is_told(frame: pl.DataFrame, column: str) -> bool:
    return column in frame.columns and frame[column].null_count() < frame.height


def _least(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].min() or 0.0) if _is_told(frame, column) else 0.0  # type: ignore[arg-type]


def _most(frame: pl.DataFrame, column: str) -> float:
    return float(frame[column].max() or 0.0) if _is_told(frame, column) else 0.0  # type: ignore[arg-type]


def _is_yearless(frame: pl.DataFrame) -> bool:
    return "clock" in frame.columns and bool((frame["clock"].drop_nulls() == NO_YEAR).all())


def _from_the_old_year(group: list[tuple[LogPart, pl.DataFrame]]) -> list[tuple[LogPart, pl.DataFrame]]:
    """Files over a new year that their clock does not tell: those behind the longest pause are the older ones."""
    for index, ((_part, frame), (_other, later)) in enumerate(pairwise(group), 1):
        if _least(later, "time_ms") - _most(frame, "time_ms") > HALF_A_YEAR_MS:
            return group[index:] + group[:index]
    return group


def _overlap(frame: pl.DataFrame, later: pl.DataFrame, by: str) -> int | None:
    """A rank whose records in the first file do not end before those in the later one.

    A clock of whole seconds may read the same in the last record and in the first.
    """
    for rank in sorted(set(frame["rank"].unique()) & set(later["rank"].unique())):
        before, behind = (one.filter(pl.col("rank") == rank) for one in (frame, later))
        if not (_is_told(before, by) and _is_told(behind, by)):
            return int(rank)
        ends, begins = _most(before, by), _least(behind, by)
        if _is_yearless(frame) and by == "time_ms" and ends - begins > HALF_A_YEAR_MS:
            begins += LEAP_YEAR_MS
        touches = ends == begins and by == "time_ms" and _least(before, by) < _most(behind, by)
        if touches and _is_told(before, "step") and _is_told(behind, "step"):
            touches = _most(before, "step") < _least(behind, "step")
        if not (ends < begins or touches):
            return int(rank)
    return None


def _joined(group: list[tuple[LogPart, pl.DataFrame]]) -> RotatedLog:
    """Records one after the other. Runs go on over the files, unless a file begins with the start of a server.

    Looks at the load that a reader numbers itself are numbered on.
    """
    frames: list[pl.DataFrame] = []
    for part, frame in group:
        if frames:
            run = _most(frames[-1], "run") + part.records.begins_with_start
            frame = frame.with_columns((pl.col("run") + int(run)).alias("run"))
            if part.records.resolution == "sampled" and part.records.alignment == "step" and "step" in frame.columns:
                frame = frame.with_columns(pl.col("step").cast(pl.Int64) + int(_most(frames[-1], "step")) + 1)
        frames.append(frame)
    names = tuple(part.source.name for part, _frame in group)
    return RotatedLog(
        names, pl.concat(frames, how="diagonal_relaxed"), _merged([part.records.facts for part, _frame in group])
    )


def _merged(facts: Sequence[LogFacts]) -> LogFacts:
    """What the files tell together; the first one that tells something counts, as it has the start of the server."""
    merged = LogFacts()
    for fact in facts:
        for name in ("engine", "engine_version", "dp_size", "max_num_seqs", "time_origin"):
            if getattr(merged, name) is None:
                setattr(merged, name, getattr(fact, name))
        merged.kv_capacity_tokens |= fact.kv_capacity_tokens
        merged.config = {**fact.config, **merged.config}
    return merged

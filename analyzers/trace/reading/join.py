"""The logs of ranks become one trace: whose records they are, which run, and which of them are of one step.

In this order, each step of the way counted in the metadata: every record gets a rank (`told_ranks`); records of one
rank in two files are refused, unless one goes on where the other ends (`rotation.py`); of a log with restarts one run
is kept; records of one step are put side by side, by the number of the step or by the clock (`align.py`); what a rank
did not log is null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError, Parameter, UsageError
from lbal.analyzers.trace.reading.align import Aligned, by_step, by_time
from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.line_clock import one_clock
from lbal.analyzers.trace.reading.own_counts import numbers_agree
from lbal.analyzers.trace.reading.rank_steps import Alignment
from lbal.analyzers.trace.reading.rotation import LogPart, RotatedLog, rotated_logs, rotated_stems
from lbal.analyzers.trace.reading.runs import WRONG_STEP, Numbered, runs_of
from lbal.analyzers.trace.trace import LOADS, NO_BARRIER, FloatArray, Resolution, StepArrays, Trace, TraceMeta

FILES_SHOWN = 16
NO_RANK = "records without a rank"
ASSUMED = "the log does not tell the number of ranks: {} {} assumed, as no rank is above {}; --dp-size G tells another"
OTHER_RUNS = "records of other runs"
RESOLUTIONS: tuple[Resolution, ...] = ("step", "sampled", "interval")


class _Report:
    """What is said of the joining: counts of what was left out, and warnings."""

    def __init__(self) -> None:
        self.excluded: Counter[str] = Counter()
        self.warnings: list[str] = []

    def leave_out(self, reason: str, count: int) -> None:
        if count:
            self.excluded[reason] += count

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def join_logs(reader: type[LogReader], parts: list[LogPart], label: str, options: ReadOptions) -> Trace:
    """One trace of what the sources gave; `label` is what messages call all of them.

    The list of parts is emptied: what they hold is let go as it is put together, or there would be twice as much.

    Raises `InputError` where nothing is left, or a rank stands in two sources, and `UsageError` for a run that is
    not there.
    """
    report = _Report()
    for part in parts:
        for reason, count in part.records.skipped.items():
            report.leave_out(reason, count)
        for note in part.records.notes:
            report.warn(note)
    filled = [part for part in parts if not part.records.frame.is_empty()]
    if not filled:
        raise InputError(label, f"is {reader.title} but has no records{_counted(report.excluded)}", expected="some")
    parts.clear()
    framed = _told_ranks(filled, report)
    told = [_Told.of(part, frame) for part, frame in framed]
    logs = rotated_logs(framed)
    del framed, filled
    records = pl.concat(_let_go(logs, report, options), how="diagonal_relaxed")
    if records.is_empty():
        raise InputError(label, f"has no records of a known rank{_counted(report.excluded)}", expected="some")
    records = _one_run(records, reader, options, report)
    alignment, resolution = _weakest(told)
    if alignment == "step" and _count_on_their_own(told, records):
        alignment, resolution = "time", "sampled"
    dp_size = _dp_size(told, records, options, report)
    with_pauses = any(each.part.records.times_hold_pauses for each in told)
    if alignment == "step":
        idle = all(each.part.records.gaps_are_idle for each in told)
        aligned = by_step(records, dp_size, gaps_are_idle=idle, with_pauses=with_pauses)
    else:
        aligned = by_time(
            records,
            dp_size,
            sampled=resolution != "step",
            source=label,
            with_pauses=with_pauses,
            remedy=reader.numbers_steps,
        )
        resolution = aligned.resolution
    del records
    for reason, count in aligned.left_out.items():
        report.leave_out(reason, count)
    report.warnings += aligned.warnings
    meta = _meta(reader, told, logs, label, report, dp_size, options)
    meta = TraceMeta(**{**vars(meta), "alignment": alignment, "resolution": resolution})
    steps = _frame(aligned)
    del aligned
    return Trace.of(meta, steps=steps, strict=options.strict)


@dataclass(frozen=True)
class _Told:
    """What is said of the records of one source when they are no longer there: its part without them."""

    part: LogPart
    ranks: list[int]
    has_steps: bool
    most_running: int

    @classmethod
    def of(cls, part: LogPart, frame: pl.DataFrame) -> _Told:
        most: Any = frame["num_running"].max() if "num_running" in frame.columns else None
        ranks = frame["rank"].unique().sort().to_list()
        empty = replace(part, records=replace(part.records, frame=pl.DataFrame()))
        return cls(empty, ranks, "step" in frame.columns, most or 0)


def _let_go(logs: list[RotatedLog], report: _Report, options: ReadOptions) -> list[pl.DataFrame]:
    """The records of the logs, which no longer hold them, on clocks that go on and with KV tokens."""
    frames = []
    for index, log in enumerate(logs):
        logs[index] = replace(log, frame=pl.DataFrame())
        frames.append(_with_kv_tokens(_on_one_clock(log.frame, report), log.facts.kv_capacity_tokens, options))
    return frames


def _on_one_clock(frame: pl.DataFrame, report: _Report) -> pl.DataFrame:
    frame, left_out, notes = one_clock(frame)
    for reason, count in left_out.items():
        report.leave_out(reason, count)
    for note in notes:
        report.warn(note)
    return frame


def _counted(excluded: Counter[str]) -> str:
    return f" ({_listed(excluded)})" if excluded else ""


def _listed(excluded: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in excluded.items())


def _told_ranks(parts: Sequence[LogPart], report: _Report) -> list[tuple[LogPart, pl.DataFrame]]:
    """Every part with a rank on each record.

    What the records say counts; where they say nothing, the name of the file; where `--rank-regex` says how to read
    the name, that counts first, as a log may number its own ranks from 0. Files without either are ranks 0, 1, …
    in their order; the pieces of a rotated log are one of them.
    """
    framed = []
    stems = rotated_stems([part.source.name for part in parts])
    logs = list(dict.fromkeys(stems))
    nameless = [part for part in parts if part.source.rank is None and "rank" not in part.records.frame.columns]
    if nameless and len(parts) > 1:
        if len(nameless) < len(parts):
            problem = "tells no rank, neither in its lines nor in its name, unlike the other files"
            raise InputError(
                nameless[0].source.name, problem, expected=["a name that ", Parameter("rank_regex"), " finds a rank in"]
            )
        if len(logs) > 1:
            kind = "files" if len(logs) == len(parts) else "logs"
            report.warn(
                f"no line and no name tells a rank: the {len(logs)} {kind} are taken for ranks 0 to {len(logs) - 1}"
            )
    for part, stem in zip(parts, stems, strict=True):
        frame, rank = part.records.frame, part.source.rank
        if part in nameless:
            rank = logs.index(stem)
        if "rank" not in frame.columns:
            frame = frame.with_columns(pl.lit(rank, pl.Int64).alias("rank"))
        elif part.source.rank_is_given and rank is not None:
            if frame["rank"].drop_nulls().n_unique() > 1:
                problem = f"--rank-regex takes it for rank {rank}, but its lines are of several ranks"
                raise InputError(part.source.name, problem, expected="one rank a file")
            frame = frame.with_columns(pl.lit(rank, pl.Int64).alias("rank"))
        elif rank is not None and frame["rank"].drop_nulls().is_empty():
            frame = frame.with_columns(pl.col("rank").fill_null(rank))
        known = frame.filter(pl.col("rank").is_not_null())
        report.leave_out(NO_RANK, frame.height - known.height)
        framed.append((part, known))
    return framed


def _with_kv_tokens(frame: pl.DataFrame, capacity: Mapping[int | None, int], options: ReadOptions) -> pl.DataFrame:
    """KV tokens from the used share of the KV space, where its size is known and the log has no tokens itself."""
    if "kv_fraction" not in frame.columns or "kv_tokens" in frame.columns:
        return frame
    size: pl.Expr = pl.lit(options.kv_capacity or capacity.get(None), pl.Float64)
    if options.kv_capacity is None:
        for rank, tokens in capacity.items():
            if rank is not None:
                size = pl.when(pl.col("rank") == rank).then(float(tokens)).otherwise(size)
    frame = frame.with_columns((pl.col("kv_fraction") * size).round(0).alias("kv_tokens"))
    return frame.drop("kv_tokens") if frame["kv_tokens"].null_count() == frame.height else frame


def _one_run(records: pl.DataFrame, reader: type[LogReader], options: ReadOptions, report: _Report) -> pl.DataFrame:
    """The records of one run (`runs.py` says which there are), without those whose step number is wrong."""
    names = ("run", "rank", "step", "time_ms")
    numbered = Numbered(**{name: _floats(records, name) for name in names})
    runs = runs_of(numbered, reader.late_steps)
    if runs.run.any():
        run = pl.Series("run", np.unique(runs.run, return_inverse=True)[1], pl.Int64)
    else:
        run = pl.zeros(records.height, pl.Int32, eager=True).alias("run")
    records = records.with_columns(run)
    if runs.is_wrong.any():
        idle = _floats(records, "idle_before") if "idle_before" in records.columns else np.ones(records.height)
        unknown = pl.Series("idle_before", np.where(runs.follows_wrong, 0.0, idle), nan_to_null=True)
        records = records.with_columns(unknown).filter(~runs.is_wrong)
        report.leave_out(WRONG_STEP, int(runs.is_wrong.sum()))
    counts = records.group_by("run").len().sort("run")["len"].to_list()
    index = int(np.argmax(counts)) if options.run_index is None else options.run_index
    if not -len(counts) <= index < len(counts):
        last = f"0 to {len(counts) - 1}" if len(counts) > 1 else "0, as there are no restarts"
        raise UsageError(f"there is no run {index}, expected {last}", parameter="run_index")
    index %= len(counts)
    if len(counts) > 1:
        why = "the longest" if options.run_index is None else "as asked"
        others = "; --run-index reads another" if options.run_index is None else ""
        report.warn(
            f"the log has {len(counts)} runs (the server was started anew): run {index} is read, {why}, with "
            f"{counts[index]:,} of {sum(counts):,} records{others}"
        )
        report.leave_out(OTHER_RUNS, sum(counts) - counts[index])
    return records.filter(pl.col("run") == index) if len(counts) > 1 else records


def _floats(records: pl.DataFrame, name: str) -> FloatArray:
    """A column with NaN for what is not known, also where there is no such column."""
    if name not in records.columns:
        return np.full(records.height, np.nan)
    return records[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _weakest(told: Iterable[_Told]) -> tuple[Alignment, Resolution]:
    """What holds for all sources: numbers of steps only where all have them, steps only where all log each one."""
    alignment: Alignment = "step"
    resolution: Resolution = "step"
    for each in told:
        if each.part.records.alignment == "time" or not each.has_steps:
            alignment = "time"
        resolution = max(resolution, each.part.records.resolution, key=RESOLUTIONS.index)
    return alignment, resolution


def _count_on_their_own(told: Iterable[_Told], records: pl.DataFrame) -> bool:
    """Whether ranks that do not wait for one another number steps of their own, as the clock shows."""
    if not any(NO_BARRIER in each.part.records.facts.config for each in told):
        return False
    return not numbers_agree(*(_floats(records, name) for name in ("rank", "step", "time_ms")))


def _dp_size(sources: Iterable[_Told], records: pl.DataFrame, options: ReadOptions, report: _Report) -> int:
    """The number of ranks: what the logs tell, else what the options say, else as many as the largest rank asks for.

    Raises `UsageError` where the options contradict the logs or their ranks.
    """
    told: int = max(each.part.records.facts.dp_size or 0 for each in sources)
    largest: Any = records["rank"].max()
    seen, size = int(largest) + 1, options.dp_size
    if size is None:
        if not told:
            report.warn(ASSUMED.format(seen, "are" if seen > 1 else "is", largest))
        return max(told, seen)
    if size < seen:
        raise UsageError(f"{size} does not fit, expected at least {seen}: rank {largest} is there", parameter="dp_size")
    if told and told != size:
        raise UsageError(f"{size} does not fit, expected {told}: the log tells dp_size={told}", parameter="dp_size")
    return size


def _meta(
    reader: type[LogReader],
    told: Sequence[_Told],
    logs: Sequence[RotatedLog],
    label: str,
    report: _Report,
    dp_size: int,
    options: ReadOptions,
) -> TraceMeta:
    facts = [log.facts for log in logs]
    unseen = sorted(set(range(dp_size)) - {rank for each in told for rank in each.ranks})
    if unseen:
        listing = ", ".join(map(str, unseen[:8])) + (", …" if len(unseen) > 8 else "")
        are = "are" if len(unseen) > 1 else "is"
        report.warn(f"of {dp_size} ranks, {len(unseen)} {are} not in the log (rank{'s' * (len(unseen) > 1)} {listing})")
    if report.excluded:
        report.warn(f"left out: {_listed(report.excluded)}")
    if len(told) > 1:
        report.warn(f"ranks by file: {_ranks_by_file(told)}")
    for names in (log.names for log in logs if len(log.names) > 1):
        listing = ", ".join(names[:FILES_SHOWN]) + (f", … ({len(names)} files)" if len(names) > FILES_SHOWN else "")
        report.warn(f"files with the same ranks that follow one another are read as one log: {listing}")
    slots = _agreed([fact.max_num_seqs for fact in facts], "max_num_seqs", report)
    largest = max(each.most_running for each in told)
    if slots is not None and largest > slots:
        report.warn(
            f"a rank runs {largest} requests, more than the max_num_seqs {slots} that the log tells: it is not used"
        )
        slots = None
    capacities = {size for fact in facts for size in fact.kv_capacity_tokens.values()}
    alone = told[0].part if len(told) == 1 else None
    return TraceMeta(
        source=label,
        format=reader.name,
        engine=_agreed([fact.engine for fact in facts], "engine", report) or reader.engine,
        engine_version=_agreed([fact.engine_version for fact in facts], "version", report),
        dp_size=dp_size,
        max_num_seqs=slots,
        kv_capacity=options.kv_capacity or (capacities.pop() if len(capacities) == 1 else None),
        time_unit=reader.time_unit,
        time_origin=_agreed([fact.time_origin for fact in facts], "time origin", report),
        sha256=None if alone is None else alone.sha256,
        config={key: value for fact in facts for key, value in fact.config.items()},
        excluded=dict(report.excluded),
        warnings=tuple(report.warnings),
        sources=tuple(
            {"name": each.part.source.name, "sha256": each.part.sha256, "ranks": each.ranks} for each in told
        ),
    )


def _ranks_by_file(told: Sequence[_Told]) -> str:
    texts = [f"{each.part.source.name} {', '.join(map(str, each.ranks)) or 'none'}" for each in told[:FILES_SHOWN]]
    return "; ".join(texts) + (f"; … ({len(told)} files)" if len(told) > FILES_SHOWN else "")


def _agreed(values: Sequence[Any], what: str, report: _Report) -> Any:
    """The one value that the logs tell; None, with a warning, where they tell several."""
    known = list(dict.fromkeys(value for value in values if value is not None))
    if len(known) > 1:
        report.warn(f"the logs tell several values of {what} ({', '.join(map(str, known[:4]))}): none is used")
    return known[0] if len(known) == 1 else None


def _frame(aligned: Aligned) -> pl.DataFrame:
    shape = (len(aligned.step), aligned.dp_size)
    unknown = [name for name in LOADS if name not in aligned.columns]
    columns: dict[str, Any] = {**aligned.columns, **{name: np.full(shape, np.nan) for name in unknown}}
    frame = StepArrays(step=aligned.step, **columns).frame()
    if len(unknown) == len(LOADS) and "prefill_tokens" in columns:
        unknown = ["kv_tokens"]  # steps have a load, and of a log of prefill alone it is unknown
    return frame.drop(unknown)

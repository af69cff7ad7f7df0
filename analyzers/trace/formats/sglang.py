"""SGLang's server log: `Decode batch` and `Prefill batch` lines of all versions, fields by their names in any order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.log_lines import MANGLED, PIECE_BYTES, plain
from lbal.analyzers.trace.reading.lost_lines import BoolArray, RankLines, missing_numbers
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder, compact
from lbal.analyzers.trace.reading.runs import WRONG_STEP, Numbered, runs_of
from lbal.analyzers.trace.reading.sglang_log import COLUMNS, EVERY_STEP, RANK, BatchLines, is_plain_dp, with_accepted
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import NO_BARRIER, FloatArray

START = re.compile(rb"\bserver_args=(?:ServerArgs\()?")
CAPACITY = re.compile(rb"\bmax_total_num_tokens=(\d{1,15}),[^\n]{0,200}?\bmax_running_requests=(\d{1,9}),")
DP_SIZE = re.compile(rb"\bdp_size=(\d{1,4})\b")
SGLANG = re.compile(rb"server_args=ServerArgs\(|sglang(?![:_\w])|max_total_num_tokens=\d")
NAMES = (*COLUMNS, "run")
PREFILLS = "prefill lines beside sampled decode lines (they have no decode load)"
SAMPLES = (
    "SGLang prints a decode line every 40 decode passes of a rank (--decode-log-interval), and ranks count their own: "
    f"load over time, no claim on single steps; every step: start the server with {EVERY_STEP}"
)
THROUGHPUT = (
    "step times are running requests * accept len / gen throughput: means over the passes since the rank's last line, "
    "with its pauses; of several ranks the lower median counts"
)
ONLY_PREFILL = (
    "the log has prefill lines alone, so nothing is known of decode: its lines are in the log of the decode server, or "
    "were filtered out"
)
PER_SECOND = "new tokens are added up by rank and second, as the lines do not number the passes"
PLAIN_DP = (
    "no rank prints a TP of its own, as under DP attention: under plain data parallelism ranks are copies of the "
    "server that do not wait for one another, and barrier idle does not apply to them"
)
COPIES = "under plain data parallelism ranks are copies of the server, which do not wait for one another"
LOST = (
    "{lost:,} numbers of passes are missing on ranks that go on behind them with the requests that they had: lines are "
    "lost there, and what these ranks did in these passes is unknown"
)
LATE_STEPS = 4
NEXT_LINES, MOST_OF_USUAL = 5, 3.0
"""A rank's first step time, if it is more than so many times the median of its next ones, is no step time."""


class SglangReader(LogReader):
    """SGLang's server log (`[… DP3 TP3] Decode batch, #running-req: 33, #token: 64500, …`): requests and KV tokens.

    Lines that number every pass are steps; those of every 40th pass are samples.
    """

    name = "sglang"
    time_unit = "s"
    engine = "sglang"
    title = "an SGLang server log"
    signature = re.compile(rb"\b(?:Decode|Prefill) batch\b[^\n]{0,40}#(?:running-req|new-seq)")
    alignment = "time"
    resolution = "sampled"
    numbers_steps = EVERY_STEP
    precedence = 1
    late_steps = LATE_STEPS  # a line of prefill is written when it is scheduled, one of decode when its result is there

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """A log of SGLang without batch lines."""
        if SGLANG.search(source.wide_head):
            return (
                "is an SGLang log without a Decode batch or Prefill batch line: take the log of the scheduler "
                f"processes at --log-level info; for every step start the server with {EVERY_STEP}"
            )
        return None

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The rows of all ranks. Whether they are steps is known at the end, so they are kept until then."""
        if is_plain_dp(plain(source.wide_head)):
            records.note(PLAIN_DP)
            records.facts.config[NO_BARRIER] = COPIES
        lines, starts, mangled, tables = BatchLines(), 0, 0, []
        for block in source.blocks(PIECE_BYTES, text=False):
            data = plain(block.data)
            starts_here = list(START.finditer(data)) if b"server_args=" in data else []
            _learn(data, starts_here[:1], records)
            begin = 0
            for end in [*(start.start() for start in starts_here), len(data)]:
                table, unread = lines.read(data[begin:end])
                mangled += unread
                if len(table):
                    run = np.full(len(table), float(max(starts - 1, 0)))
                    tables.append({name: compact(column) for name, column in zip(NAMES, [*table.T, run], strict=True)})
                begin = end
                starts += end < len(data)
                records.begins_with_start |= starts > 0 and not tables
        records.skip(MANGLED, mangled)
        if tables:
            _hand_over(with_accepted(_columns(tables)), records, mangled)


def _columns(tables: list[dict[str, NDArray[Any]]]) -> dict[str, FloatArray]:
    """The columns of all tables, which let go of them: a large log would take twice the memory with both."""
    return {name: np.concatenate([table.pop(name) for table in tables], dtype=np.float64) for name in NAMES}


def _hand_over(columns: dict[str, FloatArray], records: RankStepsBuilder, mangled: int) -> None:
    damaged, prefill = columns["is_damaged"] > 0, ~np.isnan(columns["prefill_tokens"])
    whole = _only(columns, ~damaged)
    if prefill[~damaged].all():
        _prefill_alone(whole, records)
    elif _every_pass(whole):
        _passes(columns, records, mangled)
    else:
        records.note(SAMPLES)
        records.skip(PREFILLS, int(prefill.sum()))
        # A rank prints by its own count of passes: the clock puts samples side by side, if there is one.
        _extend(_only(columns, ~damaged & ~prefill), records, without=("step",))


def _passes(columns: dict[str, FloatArray], records: RankStepsBuilder, mangled: int) -> None:
    """Every pass of each rank: what a rank did in a pass of a damaged line, or of a lost one, is unknown."""
    records.alignment = records.resolution = "step"
    records.gaps_are_idle = True
    damaged = columns["is_damaged"] > 0
    known = ~np.isnan(columns["step"]) & (~damaged | np.isin(columns["rank"], columns["rank"][~damaged]))
    placed = int((known & damaged).sum())
    columns = _only(columns, known)
    runs = runs_of(Numbered(**{name: columns[name] for name in ("run", "rank", "step", "time_ms")}), LATE_STEPS)
    records.skip(WRONG_STEP, int(runs.is_wrong.sum()))
    columns = _only({**columns, "run": runs.run.astype(np.float64)}, ~runs.is_wrong)
    prefill = ~np.isnan(columns["prefill_tokens"])
    lines = RankLines(
        **{name: columns[name] for name in ("run", "rank", "step", "num_running", "kv_tokens", "tokens_per_request")},
        is_prefill=prefill,
        is_damaged=columns["is_damaged"] > 0,
    )
    found = missing_numbers(lines, others_damaged=mangled > placed)
    if found.lost:
        records.note(LOST.format(lost=found.lost))
    columns["idle_before"] = found.idle_before.astype(np.float64)
    columns["step_ms"] = np.where(found.follows_decode, columns["step_ms"], np.nan)  # else it holds other passes too
    columns["num_running"] = np.where(prefill, np.nan, columns["num_running"])  # of them no one decodes in a prefill
    _extend(columns, records)


def _prefill_alone(columns: dict[str, FloatArray], records: RankStepsBuilder) -> None:
    """New tokens by rank and pass, or by rank and second where passes have no numbers."""
    records.note(ONLY_PREFILL)
    if not len(columns["rank"]):
        return
    records.gaps_are_idle = True
    if not np.isnan(columns["step"]).any():
        records.alignment = records.resolution = "step"
    elif not np.isnan(columns["time_ms"]).any():
        records.alignment, records.resolution = "step", "interval"
        records.note(PER_SECOND)
        columns["step"] = np.floor(columns["time_ms"] / 1e3)
    names = ("run", "rank", "step", "time_ms", "prefill_tokens")
    frame = pl.DataFrame({name: columns[name] for name in names}, nan_to_null=True)
    keys, sums = ["run", "rank", "step"], [pl.col("time_ms").min(), pl.col("prefill_tokens").sum()]
    if records.alignment == "step":
        frame = frame.group_by(keys, maintain_order=True).agg(sums)
    records.extend({name: frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in names})


def _extend(columns: dict[str, FloatArray], records: RankStepsBuilder, without: tuple[str, ...] = ()) -> None:
    columns["step_ms"] = _without_start(columns)
    if np.isfinite(columns["step_ms"]).any():
        records.note(THROUGHPUT)
        records.times_hold_pauses = True
    for name in ("tokens_per_request", "is_damaged", *without):
        del columns[name]
    if len(columns["rank"]):
        records.extend(columns)
        columns.clear()


def _without_start(columns: dict[str, FloatArray]) -> FloatArray:
    """Step times without the first one of a rank where it holds the time since the start of the server."""
    keys = ("run", "rank", "step_ms")
    frame = pl.DataFrame({name: columns[name] for name in keys}, nan_to_null=True).with_row_index()
    timed = frame.drop_nulls("step_ms")
    usual = pl.col("step_ms").slice(1, NEXT_LINES).median()
    first = timed.group_by("run", "rank").agg(pl.col("index").first(), pl.col("step_ms").first().alias("took"), usual)
    too_long = first.filter(pl.col("took") > MOST_OF_USUAL * pl.col("step_ms"))["index"].to_numpy()
    step_ms = columns["step_ms"].copy()
    step_ms[too_long] = np.nan
    return step_ms


def _only(columns: dict[str, FloatArray], keep: BoolArray) -> dict[str, FloatArray]:
    return columns if keep.all() else {name: column[keep] for name, column in columns.items()}


def _every_pass(columns: dict[str, FloatArray]) -> bool:
    """Whether each pass has its line: a rank's numbers mostly rise by 1, or all ranks show one and the same pass."""
    step, rank, decode = columns["step"], columns["rank"], np.isnan(columns["prefill_tokens"])
    if np.isnan(step[decode]).any():
        return False
    numbered = ~np.isnan(step)
    gaps = np.concatenate(
        [np.diff(step[numbered & ((rank == one) | (np.isnan(rank) & np.isnan(one)))]) for one in np.unique(rank)]
    )
    gaps = gaps[gaps > 0]
    return bool(np.median(gaps) == 1) if gaps.size else len(np.unique(step[decode])) == 1


def _learn(data: bytes, starts: Sequence[re.Match[bytes]], records: RankStepsBuilder) -> None:
    for found in CAPACITY.finditer(data) if b"max_total_num_tokens=" in data else ():
        line = data.rfind(b"\n", 0, found.start()) + 1
        rank = RANK.search(data, line, found.start())
        records.facts.kv_capacity_tokens[int(rank[1]) if rank else None] = int(found[1])
        records.facts.max_num_seqs = int(found[2]) or None
    for start in starts:
        end = data.find(b"\n", start.start())
        if size := DP_SIZE.search(data, start.start(), end if end >= 0 else len(data)):
            records.facts.dp_size = int(size[1]) or None

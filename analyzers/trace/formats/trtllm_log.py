"""TensorRT-LLM's iteration log (`print_iter_log: true`), of all generations: fields by their names, in any order."""

from __future__ import annotations

import re

import numpy as np

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.reading.line_form import ABSENT, Field, Fields, Place
from lbal.analyzers.trace.reading.line_shapes import LineShapes
from lbal.analyzers.trace.reading.log_lines import MANGLED, plain_blocks
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.runs import WRONG_STEP, Numbered, runs_of
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import FloatArray

LINE = re.compile(
    rb"(?P<head>[^\n]*?)\biter = (?P<iter>\d{1,15}), global_rank = (?P<global_rank>\d{1,6}), "
    rb"(?P<body>[^\n]{0,2000}\}[^\n]{0,500})"
)
LOOKS_LIKE_ONE = re.compile(rb"\biter = \d{1,15}, global_rank = ")
MARKS = (b"iter = ", b"global_rank = ", b"currank_total_requests = ")
VERSION = re.compile(rb"TensorRT[- ]LLM version: (\d[\w.+-]{1,40})")
FIELD = re.compile(
    rb"\b(?P<name>rank|num_scheduled_requests|kv_cache_util|host_step_time|prev_device_step_time|elapsed_time|num_ctx_requests"
    rb"|num_ctx_tokens|cached_kv_tokens|num_dummy|num_unscheduled|timestamp)'?\s*[=:]\s*"
    rb"(?:(?P<number>\d{1,15}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)(?P<unit>ms|s)?(?=[,}\s])"
    rb"|(?P<written>\d[\d-]{7,9} \d\d:\d\d:\d\d)|N/A)"
)
OF_TIME = {b"ms": 1.0, b"s": 1e3}
WITHOUT_COUNT = "rows without num_scheduled_requests (their num_generation_tokens holds padding)"
RANK_0_ONLY = (
    "only rank {} is in the log: TensorRT-LLM prints rank 0 alone unless TLLM_PROFILE_LOG_RANKS=all is set (or a list "
    "such as 0,3), so nothing can be said of balance"
)
WAITS = (
    "step times of the log (prev_device_step_time of the next row, else host_step_time) contain the wait for the other "
    "ranks: idle is modelled from the loads"
)
NO_TOKENS = (
    "the rows have no cached_kv_tokens: tokens are n/a without a later version of TensorRT-LLM (PR 14734), or "
    "--kv-capacity where the rows have kv_cache_util"
)
PADDED = (
    "with attention DP, TensorRT-LLM pads a rank without work with a dummy request, and rows without num_dummy (before "
    "PR 16323) count it: 1 request may be none"
)
WITH_CONTEXT = "the rows have no num_ctx_requests: requests in context are not told apart from those that decode"
FIELDS = (
    b"iter",
    b"global_rank",
    b"rank",
    b"num_scheduled_requests",
    b"num_dummy",
    b"num_ctx_requests",
    b"num_ctx_tokens",
    b"cached_kv_tokens",
    b"kv_cache_util",
    b"prev_device_step_time",
    b"host_step_time",
    b"elapsed_time",
)


class TrtllmLogReader(LogReader):
    """TensorRT-LLM's iteration log (`print_iter_log: true`): scheduled requests, KV use and KV tokens of each rank.

    `num_running` is `num_scheduled_requests` less those in context and the dummies that pad a rank without work.
    """

    name = "trtllm-log"
    time_unit = "ms"
    engine = "tensorrt-llm"
    title = "a TensorRT-LLM iteration log"
    signature = LOOKS_LIKE_ONE
    alignment = "step"
    resolution = "step"
    precedence = 1

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """A log of TensorRT-LLM without iterations."""
        if b"[TRT-LLM]" in source.wide_head:
            advice = "set print_iter_log: true in the LLM API options and TLLM_PROFILE_LOG_RANKS=all for every rank"
            return f"is a TensorRT-LLM log without iteration lines: {advice}"
        return None

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The rows of all ranks. A device time stands one row late: it goes to the row before, of the same rank."""
        rows, tables = _Rows(), []
        lines = LineShapes(MARKS, rows.fields, rows.place, len(FIELDS))
        tells_dummies = tells_context = False
        for data in plain_blocks(source):
            found = lines.read(data)
            records.skip(MANGLED, found.mangled())
            if b"LLM version: " in data and (version := VERSION.search(data)):
                records.facts.engine_version = version[1].decode()
            if len(found.row):
                tells_dummies |= b"num_dummy" in data
                tells_context |= b"num_ctx_requests" in data
                tables.append(np.column_stack([found.places, found.values]))
        if not tables:
            return
        columns = _columns(np.concatenate(tables))
        columns = _of_runs(columns, records)
        without_count = np.isnan(columns["scheduled"])
        times = (columns.pop(name) for name in ("scheduled", "device_ms", "host_ms"))
        columns["step_ms"] = _step_ms(columns["run"], columns["rank"], columns["step"], *times)
        records.skip(WITHOUT_COUNT, int(without_count.sum()))
        records.skip(MANGLED, int((np.isnan(columns["num_running"]) & ~without_count).sum()))
        known = ~np.isnan(columns["num_running"])
        records.extend({name: column[known] for name, column in columns.items()})
        ranks = np.unique(columns["rank"])
        if len(ranks) == 1:
            records.note(RANK_0_ONLY.format(int(ranks[0])))
        elif not tells_dummies and (columns["num_running"] == 1).any():
            records.note(PADDED)
        if not tells_context:
            records.note(WITH_CONTEXT)
        if np.isfinite(columns["step_ms"]).any():
            records.note(WAITS)
        has_use = bool(np.isfinite(columns["kv_fraction"]).any())
        if np.isnan(columns["kv_tokens"]).all() and not (has_use and options.kv_capacity):
            records.note(NO_TOKENS)


class _Rows:
    """The plain reader of one row."""

    def __init__(self) -> None:
        self._clock = LineClock()

    def place(self, head: bytes) -> Place:
        return (np.nan, *self._clock.moment(head))

    def fields(self, line: bytes) -> Fields | None:
        """Where a row tells its `FIELDS`; None for any other line.

        Of its clocks that of the line counts, which a container's runtime may have put there, else that of the row.
        """
        found = LINE.match(line)
        if found is None or MARKS[0] in found["head"] + found["body"]:
            return None
        begin, told, head = found.start("body"), {}, None
        for one in FIELD.finditer(found["body"] + b" "):
            if one["number"]:
                start, end = one.span("number")
                told[one["name"]] = Field(begin + start, begin + end, OF_TIME.get(one["unit"], 1.0))
        if np.isnan(self.place(found["head"])[1]):
            moments = (one["written"] for one in FIELD.finditer(found["body"] + b" ") if one["written"])
            head = next((moment for moment in moments if not np.isnan(self.place(moment)[1])), b"")
        first = (Field(*found.span("iter")), Field(*found.span("global_rank")))
        return Fields(found.end("head"), (*first, *(told.get(name, ABSENT) for name in FIELDS[2:])), head)


def _columns(table: FloatArray) -> dict[str, FloatArray]:
    """What the rows of a log say, which are rows of places and `FIELDS`."""
    _rank, time_ms, clock, *values = table.T
    told = dict(zip(FIELDS, values, strict=True))
    scheduled, dummies, in_context = (
        told[name] for name in (b"num_scheduled_requests", b"num_dummy", b"num_ctx_requests")
    )
    if np.isnan(in_context).all():  # a log that never tells them; of one that does, a row without is damaged
        in_context = np.zeros(len(scheduled))
    return {
        "rank": _either(told[b"rank"], told[b"global_rank"]),
        "step": told[b"iter"],
        "time_ms": time_ms,
        "clock": clock,
        "num_running": np.maximum(scheduled - np.where(np.isnan(dummies), 0.0, dummies) - in_context, 0.0),
        "prefill_tokens": told[b"num_ctx_tokens"],
        "kv_tokens": told[b"cached_kv_tokens"],
        "kv_fraction": told[b"kv_cache_util"],
        "scheduled": scheduled,
        "device_ms": told[b"prev_device_step_time"],
        "host_ms": _either(told[b"host_step_time"], told[b"elapsed_time"]),
    }


def _either(one: FloatArray, other: FloatArray) -> FloatArray:
    return np.where(np.isnan(one), other, one)


def _of_runs(columns: dict[str, FloatArray], records: RankStepsBuilder) -> dict[str, FloatArray]:
    """The columns with the run of each row, without rows whose step number is wrong: times go from row to row."""
    untold = np.zeros(len(columns["step"]))
    runs = runs_of(Numbered(untold, *(columns[name] for name in ("rank", "step", "time_ms"))))
    records.skip(WRONG_STEP, int(runs.is_wrong.sum()))
    return {name: column[~runs.is_wrong] for name, column in {**columns, "run": runs.run.astype(np.float64)}.items()}


def _step_ms(
    run: FloatArray,
    rank: FloatArray,
    step: FloatArray,
    scheduled: FloatArray,
    device_ms: FloatArray,
    host_ms: FloatArray,
) -> FloatArray:
    """The device time of a step as the next row of the rank tells it; the host's where no row tells one of that step.

    After an iteration that scheduled nothing, not even a dummy, the next row's time holds the pause too.
    """
    order = np.lexsort((np.arange(len(step)), rank, run))
    this, following = order[:-1], order[1:]
    same = (rank[this] == rank[following]) & (run[this] == run[following])
    told = same & (step[following] == step[this] + 1) & (scheduled[this] > 0)
    own_ms = np.full(len(step), np.nan)
    own_ms[this[told]] = device_ms[following[told]]
    has_device = np.zeros(len(step), np.bool_)
    for one in np.unique(run):
        own = run == one
        has_device[own] = np.isin(step[own], step[own & np.isfinite(own_ms)])
    return np.where(has_device, own_ms, host_ms)

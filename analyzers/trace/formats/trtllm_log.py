"""TensorRT-LLM's iteration log (`print_iter_log: true`), of all generations: fields by their names, in any order."""

from __future__ import annotations

import re

import numpy as np

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.reading.log_lines import MANGLED, mangled, plain_blocks
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.runs import WRONG_STEP, Numbered, runs_of
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import FloatArray

LINE = re.compile(
    rb"^([^\n]*?)\biter = (\d{1,15}), global_rank = (\d{1,6}), ([^\n]{0,2000}\})([^\n]{0,500})", re.MULTILINE
)
LOOKS_LIKE_ONE = re.compile(rb"\biter = \d{1,15}, global_rank = ")
MARKS = (b"iter = ", b"global_rank = ", b"currank_total_requests = ")
VERSION = re.compile(rb"TensorRT[- ]LLM version: (\d[\w.+-]{1,40})")
FIELD = re.compile(
    rb"\b(rank|num_scheduled_requests|kv_cache_util|host_step_time|prev_device_step_time|elapsed_time|num_ctx_requests"
    rb"|num_ctx_tokens|cached_kv_tokens|num_dummy|num_unscheduled|timestamp)'?\s*[=:]\s*"
    rb"(?:(\d{1,15}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?)(ms|s)?(?=[,}\s])|(\d[\d-]{7,9} \d\d:\d\d:\d\d)|N/A)"
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
COLUMNS = (
    "rank",
    "step",
    "time_ms",
    "clock",
    "num_running",
    "prefill_tokens",
    "kv_tokens",
    "kv_fraction",
    "scheduled",
    "device_ms",
    "host_ms",
)


class TrtllmLogReader(LogReader):
    """TensorRT-LLM's iteration log (`print_iter_log: true`): scheduled requests, KV use and KV tokens of each rank.

    `num_running` is `num_scheduled_requests` less the dummies that pad a rank without work.
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
        tables = []
        clock = LineClock()
        tells_dummies = False
        for data in plain_blocks(source):
            found = [groups for groups in LINE.findall(data) if MARKS[0] not in groups[0] + groups[3] + groups[4]]
            records.skip(MANGLED, mangled(data, MARKS, len(found)))
            if version := VERSION.search(data):
                records.facts.engine_version = version[1].decode()
            if found:
                tells_dummies |= b"num_dummy" in data
                tables.append(np.array([_row(groups, clock) for groups in found], dtype=np.float64))
        if not tables:
            return
        columns = dict(zip(COLUMNS, np.concatenate(tables).T, strict=True))
        columns = _of_runs(columns, records)
        times = (columns.pop(name) for name in ("scheduled", "device_ms", "host_ms"))
        columns["step_ms"] = _step_ms(columns["run"], columns["rank"], columns["step"], *times)
        records.skip(WITHOUT_COUNT, int(np.isnan(columns["num_running"]).sum()))
        known = ~np.isnan(columns["num_running"])
        records.extend({name: column[known] for name, column in columns.items()})
        ranks = np.unique(columns["rank"])
        if len(ranks) == 1:
            records.note(RANK_0_ONLY.format(int(ranks[0])))
        elif not tells_dummies and (columns["num_running"] == 1).any():
            records.note(PADDED)
        if np.isfinite(columns["step_ms"]).any():
            records.note(WAITS)
        has_use = bool(np.isfinite(columns["kv_fraction"]).any())
        if np.isnan(columns["kv_tokens"]).all() and not (has_use and options.kv_capacity):
            records.note(NO_TOKENS)


def _row(groups: tuple[bytes, ...], clock: LineClock) -> tuple[float, ...]:
    """The values of a row. Of its clocks that of the line counts, which a container's runtime may have put there."""
    head, step, global_rank, body, suffix = groups
    fields: dict[bytes, float] = {}
    moment = clock.moment(head)
    for name, number, unit, written in FIELD.findall(body + suffix + b" "):
        if written and moment[0] != moment[0]:
            moment = clock.moment(written)
        elif number and name != b"timestamp":
            fields[name] = float(number) * OF_TIME.get(unit, 1.0)
    get = fields.get
    scheduled = get(b"num_scheduled_requests", np.nan)
    requests = scheduled - get(b"num_dummy", 0.0)
    return (
        get(b"rank", float(global_rank)),
        float(step),
        *moment,
        max(requests, 0.0) if requests == requests else np.nan,
        get(b"num_ctx_tokens", np.nan),
        get(b"cached_kv_tokens", np.nan),
        get(b"kv_cache_util", np.nan),
        scheduled,
        get(b"prev_device_step_time", np.nan),
        get(b"host_step_time", get(b"elapsed_time", np.nan)),
    )


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

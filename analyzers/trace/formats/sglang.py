"""SGLang's server log: `Decode batch` and `Prefill batch` lines of all versions, fields by their names in any order."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.log_lines import LineClock, plain
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import FloatArray

LINE = re.compile(rb"^([^\n]{0,400}?)\b(Decode|Prefill) batch(?: \[(\d{1,15})\])?[.,] ([^\n]*)(\n?)", re.MULTILINE)
LOOKS_LIKE_ONE = re.compile(rb"\b(?:Decode|Prefill) batch\b[^\n]{0,40}#")
FIELD = re.compile(
    rb"(#running-req|#token|#full token|#gpu token|accept len|gen throughput \(token/s\)|#queue-req|#new-token)"
    rb": (\d{1,15}(?:\.\d{1,15})?)(?=,|[ \n]*\Z)(,?)"
)
TOKENS = (b"#token", b"#full token", b"#gpu token")
MAY_END_A_LINE = b"#queue-req"
START = re.compile(rb"\bserver_args=(?:ServerArgs\()?")
RANK = re.compile(rb"\bDP(\d{1,4})\b")
CAPACITY = re.compile(rb"\bmax_total_num_tokens=(\d{1,15}),[^\n]{0,200}?\bmax_running_requests=(\d{1,9}),")
DP_SIZE = re.compile(rb"\bdp_size=(\d{1,4})\b")
SGLANG = re.compile(rb"server_args=ServerArgs\(|sglang(?![:_\w])|max_total_num_tokens=\d")
MANGLED = "lines that are cut or mangled"
PREFILLS = "prefill lines beside sampled decode lines (they have no decode load)"
PREFILLS_ALONE = "prefill lines without #running-req (they have no decode load)"
EVERY_STEP = "--decode-log-interval 1 and SGLANG_LOG_FORWARD_ITERS=1 (in the environment)"
SAMPLES = (
    "SGLang prints a decode line every 40 decode passes of a rank (--decode-log-interval), and ranks count their own: "
    f"load over time, no claim on single steps; every step: start the server with {EVERY_STEP}"
)
THROUGHPUT = (
    "step times are running requests * accept len / gen throughput: means over the passes since the rank's last line"
)
ONLY_PREFILL = "the log has prefill lines alone: tokens are n/a; decode lines are in the log of the decode server"
COLUMNS = ("rank", "step", "time_ms", "kv_tokens", "num_running", "num_waiting", "prefill_tokens", "step_ms", "run")
Row = tuple[float, ...]
BoolArray = npt.NDArray[np.bool_]


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
    precedence = 1
    late_steps = 4  # a line of prefill is written when it is scheduled, one of decode when its result is there

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
        clock, starts, tables = LineClock(), 0, []
        for block in source.blocks(text=False):
            data = plain(block.data)
            _learn(data, records)
            begin = 0
            for end in [*(start.start() for start in START.finditer(data)), len(data)]:
                if rows := _rows(data[begin:end], clock, records):
                    table = np.array(rows, dtype=np.float64)
                    tables.append(np.column_stack([table, np.full(len(table), max(starts - 1, 0))]))
                begin = end
                starts += end < len(data)
        if tables:
            _hand_over(dict(zip(COLUMNS, np.concatenate(tables).T, strict=True)), records)


def _hand_over(columns: dict[str, FloatArray], records: RankStepsBuilder) -> None:
    prefill = ~np.isnan(columns["prefill_tokens"])
    if prefill.all():
        records.skip(PREFILLS_ALONE, int(np.isnan(columns["num_running"]).sum()))
        records.note(ONLY_PREFILL)
        columns = _only(columns, ~np.isnan(columns["num_running"]))
        del columns["step"]
    elif _every_pass(columns, prefill):
        records.alignment = records.resolution = "step"
        records.gaps_are_idle = True
        columns["num_running"][prefill] = np.nan  # of them no one decodes in a pass of prefill
    else:
        records.note(SAMPLES)
        records.skip(PREFILLS, int(prefill.sum()))
        # A rank prints by its own count of passes: the clock puts samples side by side, if there is one.
        columns = _only(columns, ~prefill)
        del columns["step"]
    if np.isfinite(columns["step_ms"]).any():
        records.note(THROUGHPUT)
    if len(columns["rank"]):
        records.extend(columns)


def _only(columns: dict[str, FloatArray], keep: BoolArray) -> dict[str, FloatArray]:
    return {name: column[keep] for name, column in columns.items()}


def _every_pass(columns: dict[str, FloatArray], prefill: BoolArray) -> bool:
    """Whether each pass has its line: a rank's numbers mostly rise by 1, or all ranks show one and the same pass."""
    step, rank = columns["step"], columns["rank"]
    if np.isnan(step[~prefill]).any():
        return False
    gaps = [
        np.diff(np.unique(step[((rank == one) | (np.isnan(rank) & np.isnan(one))) & ~np.isnan(step)]))
        for one in np.unique(rank)
    ]
    joined = np.concatenate(gaps)
    return bool(np.median(joined) == 1) if joined.size else len(np.unique(step[~prefill])) == 1


def _rows(data: bytes, clock: LineClock, records: RankStepsBuilder) -> list[Row]:
    rows = []
    for head, kind, step, body, end in LINE.findall(data):
        row = _row(head, kind, step, body, bool(end), clock)
        if row is not None:
            rows.append(row)
    records.skip(MANGLED, max(len(LOOKS_LIKE_ONE.findall(data)) - len(rows), 0))
    return rows


def _row(head: bytes, kind: bytes, step: bytes, body: bytes, ended: bool, clock: LineClock) -> Row | None:
    """The values of a line; None where a load is missing, or two lines ran into one.

    A number at the end of the line may be cut: only the field with which whole lines end is used there.
    """
    found = FIELD.findall(body)
    fields = {name: float(number) for name, number, comma in found if comma or (ended and name == MAY_END_A_LINE)}
    if b" batch" in body or len(fields) < len({name for name, _number, comma in found if comma}):
        return None
    if len({name for name, _number, _comma in found}) < len(found):
        return None
    get = fields.get
    rank = RANK.search(head)
    nan = float("nan")
    place = (float(rank[1]) if rank else nan, float(step) if step else nan, clock.time_ms(head))
    waiting = get(b"#queue-req", nan)
    if kind == b"Prefill":
        new = get(b"#new-token")
        return None if new is None else (*place, nan, get(b"#running-req", nan), waiting, new, nan)
    running = get(b"#running-req")
    tokens = next((fields[name] for name in TOKENS if name in fields), None)
    if running is None or tokens is None:
        return None
    throughput = get(b"gen throughput (token/s)", 0.0)
    step_ms = running * get(b"accept len", 1.0) / throughput * 1e3 if throughput > 0 < running else nan
    return (*place, tokens, running, waiting, nan, step_ms)


def _learn(data: bytes, records: RankStepsBuilder) -> None:
    for found in CAPACITY.finditer(data):
        line = data.rfind(b"\n", 0, found.start()) + 1
        rank = RANK.search(data, line, found.start())
        records.facts.kv_capacity_tokens[int(rank[1]) if rank else None] = int(found[1])
        records.facts.max_num_seqs = int(found[2]) or None
    if start := START.search(data):
        end = data.find(b"\n", start.start())
        if size := DP_SIZE.search(data, start.start(), end if end >= 0 else len(data)):
            records.facts.dp_size = int(size[1]) or None

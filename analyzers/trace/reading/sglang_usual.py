"""The batch lines of SGLang's server log in bulk: those of the usual form at once, the others field by field."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.reading.rank_steps import numbers
from lbal.analyzers.trace.reading.sglang_log import COLUMNS, RANK, any_lines
from lbal.analyzers.trace.trace import FloatArray, IntArray

PIECE_BYTES = 1 << 20
"""Of text at a time: what is found of it takes some ten times as much memory."""
# What is matched is never given back (`++`, `}+`): no part may be read in two ways.
_NOT_READ = (
    rb"(?!#(?:running-req|token|full token|gpu token|queue-req|new-token): |accept len: |gen throughput \(token/s\): )"
)
_NAME_AND_VALUE = _NOT_READ + rb"#?[^#,:\n\[\]]{1,60}+: [^#,\n\[\] ]{1,30}+"
_OTHERS = rb"(?:" + _NAME_AND_VALUE + rb", )*+"
_WHOLE, _DECIMAL = rb"(\d{1,15}+)", rb"(\d{1,15}+\.\d{1,15}+)"
_STEP = rb" batch(?: \[" + _WHOLE + rb"\])?[.,] "
_HEAD = rb"^([^\n\[]{0,100}+\[[\d :.-]{0,31}+)([^\]\n]{0,200}+)\] "
_DECODE = b"".join(
    [
        rb"Decode" + _STEP,
        rb"#running-req: " + _WHOLE + rb", (?:#cached-token: \d{1,15}+, )?",
        rb"#(?:full |gpu )?token: " + _WHOLE + rb", (?:token usage: [\d.]{1,9}+, )?" + _OTHERS,
        rb"(?:accept len: " + _DECIMAL + rb", )?(?:accept rate: [\d.]{1,9}+, )?(?:cuda graph: \w{1,9}+, )?" + _OTHERS,
        rb"gen throughput \(token/s\): " + _DECIMAL + rb", " + _OTHERS,
        rb"#queue-req: " + _WHOLE,
    ]
)
_PREFILL = b"".join(
    [
        rb"Prefill" + _STEP,
        rb"#new-seq: \d{1,15}+, #new-token: " + _WHOLE + rb", " + _OTHERS,
        rb"(?:#running-req: " + _WHOLE + rb", )?" + _OTHERS,
        rb"#queue-req: " + _WHOLE,
    ]
)
_END = rb"(?:, " + _NAME_AND_VALUE + rb")*+(?:, ?)?\n"
LINES = re.compile(
    _HEAD
    + rb"(?:"
    + _DECODE
    + rb"|"
    + _PREFILL
    + rb")"
    + _END
    # Each line is taken whole, so that the next one is tried from its begin.
    + rb"|^([^\n]*(?:Decode|Prefill) batch[^\n]*\n?)|^[^\n]*\n",
    re.MULTILINE,
)
BATCH = b" batch"
INSIDE = re.compile(rb" ?(?:[A-Z_]{1,12}\d{1,4} ?)*")
"""What stands in the bracket behind the time where nothing of it can belong to the time."""


def batch_lines(data: bytes, clock: LineClock) -> tuple[FloatArray, int]:
    """The lines of some text, which ends with a line end or the file: rows of `COLUMNS`, and how many cannot be read.

    Of those that cannot be read, the ones whose place can be are among the rows.
    """
    with _no_search_for_cycles():
        found = [groups for groups in LINES.findall(data) if groups[0] or groups[-1]]
        if not found:
            return np.empty((0, len(COLUMNS))), 0
        if data.count(BATCH) != len(found) and _ran_together(data):
            return any_lines(data, clock)
        columns = list(zip(*found, strict=True))
        return _with_others(_usual_lines(columns, clock), columns[-1], clock)


def _with_others(usual: FloatArray, others: Sequence[bytes], clock: LineClock) -> tuple[FloatArray, int]:
    """The rows of the usual lines, and in their places those of the other ones, which are read field by field."""
    tables, unread, begin = [], 0, 0
    for index, line in enumerate(others):
        if line:
            read, damaged = any_lines(line, clock)
            tables += [usual[begin:index], read]
            unread += damaged
            begin = index + 1
    return np.concatenate([*tables, usual[begin:]]), unread


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Thousands of tuples of bytes are made, in which Python would look for cycles again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _ran_together(data: bytes) -> bool:
    """Whether a line of the usual form holds the begin of another one."""
    return any(line[1] and line[0].count(BATCH) != 1 for line in LINES.finditer(data))


def _usual_lines(columns: Sequence[Sequence[bytes]], clock: LineClock) -> FloatArray:
    """The rows of the lines of the usual form; the rows of others hold nothing."""
    timed_part, inside, step, *decode = columns[:8]
    step_of_prefill, new_tokens, beside, waiting_then = columns[8:12]
    running, tokens, accepted, rate, waiting = map(numbers, decode)
    timed = (rate > 0) & (running > 0)
    step_ms = np.full(len(running), np.nan)
    step_ms[timed] = running[timed] / rate[timed] * 1e3
    known = {
        **_places(timed_part, inside, clock),
        "step": _either(step, step_of_prefill),
        "kv_tokens": tokens,
        "num_running": np.fmax(running, numbers(beside)),
        "num_waiting": np.fmax(waiting, numbers(waiting_then)),
        "prefill_tokens": numbers(new_tokens),
        "step_ms": step_ms,
        "tokens_per_request": accepted,
        "is_damaged": np.zeros(len(running)),
    }
    return np.column_stack([known[name] for name in COLUMNS])


def _either(one: Sequence[bytes], other: Sequence[bytes]) -> FloatArray:
    return np.fmax(numbers(one), numbers(other))


def _places(timed_part: Sequence[bytes], inside: Sequence[bytes], clock: LineClock) -> dict[str, FloatArray]:
    """Rank, time and kind of the clock. What many lines have in common is looked at once."""
    parts, rests = list(set(timed_part)), list(set(inside))
    table = np.array([clock.moment(part) for part in parts])[_indices(parts, timed_part)]
    ranks = np.array([_rank(rest) for rest in rests])
    rank = ranks[_indices(rests, inside)]
    odd = {rest for rest, known in zip(rests, ranks, strict=True) if np.isnan(known) or not INSIDE.fullmatch(rest)}
    cut = {part for part in parts if part[-1:] not in (b" ", b"[")}
    if odd or cut:
        for index, (part, rest) in enumerate(zip(timed_part, inside, strict=True)):
            if part and (rest in odd or part in cut):
                head = part + rest + b"] "
                table[index] = clock.moment(head)
                rank[index] = _rank(head)
    return {"rank": rank, "time_ms": table[:, 0], "clock": table[:, 1]}


def _indices(kinds: Sequence[bytes], texts: Sequence[bytes]) -> IntArray:
    """Which of the kinds each text is."""
    place = {kind: index for index, kind in enumerate(kinds)}
    return np.array([place[text] for text in texts], dtype=np.int64)


def _rank(head: bytes) -> float:
    found = RANK.findall(head)
    return float(found[-1]) if found else float("nan")

"""The batch lines of SGLang's server log: what each says, field by field, as columns."""

from __future__ import annotations

import re
from itertools import islice

import numpy as np

from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.trace import FloatArray

EVERY_STEP = "--decode-log-interval 1 and SGLANG_LOG_FORWARD_ITERS=1 (in the environment, 0.5.5 or later)"
"""What makes the server log every pass."""
LINE = re.compile(rb"^([^\n]{0,400}?)\b(Decode|Prefill) batch(?: \[(\d{1,15})\])?[.,] ([^\n]*)(\n?)", re.MULTILINE)
EACH_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
LOOKS_LIKE_ONE = re.compile(rb"\b(?:Decode|Prefill) batch\b[^\n]{0,40}#")
FIELD = re.compile(
    rb"(?:\A|(?<=, ))"
    rb"(#running-req|#token|#full token|#gpu token|accept len|gen throughput \(token/s\)|#queue-req|#new-token)"
    rb": (\d{1,15}(?:\.\d{1,15})?)(?=,|[ \n]*\Z)(,?)"
)
TOKENS = (b"#token", b"#full token", b"#gpu token")
MAY_END_A_LINE = b"#queue-req"
RANK = re.compile(rb"\bDP(\d{1,4})\b")
OF_TENSOR = re.compile(rb"\bTP(\d{1,4})\b")
HEAD = re.compile(rb"^([^\n]{0,400}?)\b(?:Decode|Prefill) batch\b", re.MULTILINE)
HEADS_READ = 4000
COLUMNS = (
    "rank",
    "step",
    "time_ms",
    "clock",
    "kv_tokens",
    "num_running",
    "num_waiting",
    "prefill_tokens",
    "step_ms",
    "tokens_per_request",
    "is_damaged",
)
"""What is known of a line. `tokens_per_request` is its `accept len`, and `step_ms` is that of one token per request.
A line that is damaged has a place at most: rank, step, time. Prefill lines are those with `prefill_tokens`."""
Row = tuple[float, ...]
NAN = float("nan")
NOTHING = (NAN,) * 6


def any_lines(data: bytes, clock: LineClock) -> tuple[FloatArray, int]:
    """The lines of some text, which ends with a line end or the file: rows of `COLUMNS`, and how many cannot be read.

    Lines are read field by field; `usual_lines` reads the same from most lines several times as fast.

    Of those that cannot be read, the ones whose place can be are among the rows.
    """
    rows, unread = [], 0
    for line in EACH_LINE.findall(data):
        begun = len(LOOKS_LIKE_ONE.findall(line))
        if found := LINE.match(line):
            rows.append(_row(found, clock))
            begun = max(begun, 1) - (not rows[-1][-1])
        unread += begun
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(COLUMNS)), unread


def is_plain_dp(data: bytes) -> bool:
    """Whether ranks are copies of the server: under DP attention no two of them would print the same TP, or none."""
    heads = [found[1] for found in islice(HEAD.finditer(data), HEADS_READ)]
    ranks = {rank for head in heads for rank in RANK.findall(head)[-1:]}
    return len(ranks) > 1 and {int(tensor) for head in heads for tensor in OF_TENSOR.findall(head)} <= {0}


def _row(line: re.Match[bytes], clock: LineClock) -> Row:
    """The values of a line; its place alone where a load is missing, or two lines ran into one.

    A number at the end of the line may be cut: only the field with which whole lines end is used there.
    """
    head, kind, step, body, end = line.groups()
    rank = RANK.findall(head)
    place = (float(rank[-1]) if rank else NAN, float(step) if step else NAN, *clock.moment(head))
    found = FIELD.findall(body)
    fields = {name: float(number) for name, number, comma in found if comma or (end and name == MAY_END_A_LINE)}
    doubled = len({name for name, _number, _comma in found}) < len(found)
    values = None if doubled or b" batch" in body else _values(kind, fields)
    return (*place, *NOTHING, 1.0) if values is None else (*place, *values, 0.0)


def _values(kind: bytes, fields: dict[bytes, float]) -> Row | None:
    """KV tokens, running, waiting, new tokens, step time, tokens per request and pass."""
    get = fields.get
    running, waiting = get(b"#running-req"), get(b"#queue-req", NAN)
    if kind == b"Prefill":
        new = get(b"#new-token")
        return None if new is None else (NAN, NAN if running is None else running, waiting, new, NAN, NAN)
    tokens = next((fields[name] for name in TOKENS if name in fields), None)
    if running is None or tokens is None:
        return None
    throughput = get(b"gen throughput (token/s)", 0.0)
    step_ms = running / throughput * 1e3 if throughput > 0 < running else NAN
    return (tokens, running, waiting, NAN, step_ms, get(b"accept len", NAN))


def with_accepted(columns: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """The columns of a log with step times of as many tokens as requests get.

    Of a run whose lines tell `accept len`, a line that does not is a damaged one: its step time is unknown.
    """
    accepted = columns["tokens_per_request"]
    tells = np.isin(columns["run"], columns["run"][np.isfinite(accepted)])
    accepted = np.where(tells, accepted, 1.0)
    return {**columns, "tokens_per_request": accepted, "step_ms": columns["step_ms"] * accepted}

"""The batch lines of SGLang's server log: what each says, field by field, as columns."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.reading.line_clock import LineClock
from lbal.analyzers.trace.reading.line_form import ABSENT, PLACE, Field, Fields, Place
from lbal.analyzers.trace.reading.line_shapes import LineShapes
from lbal.analyzers.trace.trace import FloatArray

EVERY_STEP = "--decode-log-interval 1 and SGLANG_LOG_FORWARD_ITERS=1 (in the environment, 0.5.5 or later)"
"""What makes the server log every pass."""
LINE = re.compile(
    rb"(?P<head>[^\n]{0,400}?)\b(?P<kind>Decode|Prefill) batch(?: \[(?P<step>\d{1,15})\])?[.,] "
    rb"(?P<body>[^\n]*)(?P<end>\n?)"
)
LOOKS_LIKE_ONE = re.compile(rb"\b(?:Decode|Prefill) batch\b[^\n]{0,40}#")
FIELD = re.compile(
    rb"(?:\A|(?<=, ))"
    rb"(?P<name>#running-req|#token|#full token|#gpu token|accept len|gen throughput \(token/s\)|#queue-req|#new-token)"
    rb": (?P<number>\d{1,15}(?:\.\d{1,15})?)(?=,|[ \n]*\Z)(?P<comma>,?)"
)
TOKENS = (b"#token", b"#full token", b"#gpu token")
MAY_END_A_LINE = b"#queue-req"
RANK = re.compile(rb"\bDP(\d{1,4})\b")
OF_TENSOR = re.compile(rb"\bTP(\d{1,4})\b")
NAN = float("nan")
HEAD = re.compile(rb"^([^\n]{0,400}?)\b(?:Decode|Prefill) batch\b", re.MULTILINE)
HEADS_READ = 4000
MARKS = (b"Decode batch", b"Prefill batch")
FIELDS = ("step", "kv_tokens", "num_running", "num_waiting", "prefill_tokens", "throughput", "tokens_per_request")
"""What is looked for in a line; `tokens_per_request` is its `accept len`."""
VALUES = ("step", "kv_tokens", "num_running", "num_waiting", "prefill_tokens", "step_ms", "tokens_per_request")
COLUMNS = (*PLACE, *VALUES, "is_damaged")
"""What is known of a line. `step_ms` is that of one token per request. A damaged line has a place at most: rank, time,
step. Prefill lines are those with `prefill_tokens`."""


class BatchLines:
    """Reads the batch lines of one log."""

    def __init__(self) -> None:
        self._clock = LineClock()
        self._shapes = LineShapes(MARKS, _of_one, self._place, len(FIELDS))

    def read(self, data: bytes) -> tuple[FloatArray, int]:
        """The lines of some text, which ends with a line end or the file: rows of `COLUMNS`, and how many are unread.

        Of those that cannot be read, the ones whose place can be are among the rows.
        """
        alike, others = self._shapes.read_alike(data)
        rows, places, values, damaged, unread = [], [], [], [], 0
        for row, line in others:
            begun, fields, found = len(LOOKS_LIKE_ONE.findall(line)), batch_fields(line), LINE.match(line)
            if found:
                rows.append(row)
                places.append(self._place(found["head"]))
                values.append(fields.values(line) if fields else _only_step(found, line))
                damaged.append(fields is None)
                begun = max(begun, 1) - bool(fields)
            unread += begun
        plain = _table(np.array(places).reshape(-1, 3), np.array(values).reshape(-1, len(FIELDS)), np.array(damaged))
        usual = _table(alike.places, alike.values, np.zeros(len(alike.row)))
        order = np.argsort(np.concatenate([alike.row, np.array(rows, dtype=np.int64)]), kind="stable")
        return np.concatenate([usual, plain])[order], unread

    def _place(self, head: bytes) -> Place:
        rank = RANK.findall(head)
        return (float(rank[-1]) if rank else NAN, *self._clock.moment(head))


def batch_fields(line: bytes) -> Fields | None:
    """Where a line tells its `FIELDS`; None where a load is missing, or two lines ran into one.

    A number at the end of the line may be cut: only the field with which whole lines end is used there.
    """
    found = LINE.match(line)
    if found is None or b" batch" in found["body"]:
        return None
    names: set[bytes] = set()
    told: dict[bytes, Field] = {}
    for one in FIELD.finditer(found["body"]):
        name, begin = one["name"], found.start("body")
        if name in names:
            return None
        names.add(name)
        if one["comma"] or (found["end"] and name == MAY_END_A_LINE):
            told[name] = Field(begin + one.start("number"), begin + one.end("number"))
    running, waiting = told.get(b"#running-req", ABSENT), told.get(b"#queue-req", ABSENT)
    tokens, new = next((told[name] for name in TOKENS if name in told), ABSENT), told.get(b"#new-token", ABSENT)
    throughput, accepted = told.get(b"gen throughput (token/s)", ABSENT), told.get(b"accept len", ABSENT)
    if found["kind"] == b"Prefill":
        tokens = throughput = accepted = ABSENT
    else:
        new = ABSENT
    if new == ABSENT and ABSENT in (running, tokens):
        return None
    step = Field(*found.span("step"))
    return Fields(found.start("kind"), (step, tokens, running, waiting, new, throughput, accepted))


def _only_step(found: re.Match[bytes], line: bytes) -> list[float]:
    """What is known of a damaged line."""
    return [Field(*found.span("step")).value(line)] + [NAN] * (len(FIELDS) - 1)


def _of_one(line: bytes) -> Fields | None:
    """The same of a line in which no other one is begun."""
    return batch_fields(line) if line.count(b" batch") == 1 else None


def _table(places: FloatArray, values: FloatArray, is_damaged: NDArray[Any]) -> FloatArray:
    """Rows of `COLUMNS`."""
    throughput, running = values[:, FIELDS.index("throughput")], values[:, FIELDS.index("num_running")]
    timed = (throughput > 0) & (running > 0)
    step_ms = np.full(len(values), NAN)
    step_ms[timed] = running[timed] / throughput[timed] * 1e3
    values = np.column_stack([values[:, :-2], step_ms, values[:, -1]])
    return np.column_stack([places, values, is_damaged])


def is_plain_dp(data: bytes) -> bool:
    """Whether ranks are copies of the server.

    Under DP attention no two of them would print the same TP, or none, and no rank but the first would print TP0.
    """
    heads = [found[1] for found in islice(HEAD.finditer(data), HEADS_READ)]
    ranks = {int(rank) for head in heads for rank in RANK.findall(head)[-1:]}
    tensors = {int(tensor) for head in heads for tensor in OF_TENSOR.findall(head)}
    return tensors <= {0} and (len(ranks) > 1 or (bool(tensors) and max(ranks, default=0) > 0))


def with_accepted(columns: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """The columns of a log with step times of as many tokens as requests get.

    Of a run whose lines tell `accept len`, a line that does not is a damaged one: its step time is unknown.
    """
    accepted = columns["tokens_per_request"]
    tells = np.isin(columns["run"], columns["run"][np.isfinite(accepted)])
    accepted = np.where(tells, accepted, 1.0)
    return {**columns, "tokens_per_request": accepted, "step_ms": columns["step_ms"] * accepted}

"""The native format: JSON Lines with a header, then one line per request and one per step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec
import numpy as np
import polars as pl
from msgspec import UNSET, UnsetType

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.bad_lines import BadLines
from lbal.analyzers.trace.reading.base import ReadOptions, TraceFormat
from lbal.analyzers.trace.reading.fields import COUNT, ID, NON_NEGATIVE, NUMBER, POSITIVE, Rules, list_of, nullable
from lbal.analyzers.trace.reading.header import meta_of
from lbal.analyzers.trace.reading.jsonlines import (
    Count,
    Id,
    LineDecoder,
    NonNegative,
    Positive,
    head_keys,
    json_object,
)
from lbal.analyzers.trace.reading.request_table import RequestTable, id_series
from lbal.analyzers.trace.reading.step_spool import StepRows, StepSpool
from lbal.analyzers.trace.source import BLOCK_BYTES, Source
from lbal.analyzers.trace.step_blocks import joined
from lbal.analyzers.trace.trace import LOADS, MAX_RANKS, PER_RANK_COLUMNS, REQUEST_COLUMNS, IntArray, StepArrays, Trace

Time: TypeAlias = float | UnsetType | None
Counts: TypeAlias = list[Count | None]
Loads: TypeAlias = list[NonNegative | None]
PIECE_BYTES = 1 << 22
"""Of lines at a time, where one block is in memory: some twenty times as much memory while they are decoded."""


class _StepLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    step: Count
    kv_tokens: Loads | UnsetType = UNSET
    num_running: Counts | UnsetType = UNSET
    num_waiting: Counts | UnsetType = UNSET
    prefill_tokens: Counts | UnsetType = UNSET
    prefill_pairs: Loads | UnsetType = UNSET
    padded_running: Counts | UnsetType = UNSET
    compute_ms: Loads | UnsetType = UNSET
    kv_fraction: Loads | UnsetType = UNSET
    wait_ms: Loads | UnsetType = UNSET
    step_ms: Positive | UnsetType | None = UNSET
    start_ms: Time = UNSET


class _RequestLine(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    request_id: Id
    prompt_tokens: Count
    output_tokens: Count
    arrival_ms: Time = UNSET
    rank: Count | UnsetType | None = UNSET
    admitted_ms: Time = UNSET
    first_token_ms: Time = UNSET
    finish_ms: Time = UNSET


_Line: TypeAlias = _StepLine | _RequestLine

STEP_RULES = Rules(
    "a step line",
    {
        "step": COUNT,
        "kv_tokens": list_of(nullable(NON_NEGATIVE)),
        "num_running": list_of(nullable(COUNT)),
        "num_waiting": list_of(nullable(COUNT)),
        "prefill_tokens": list_of(nullable(COUNT)),
        "prefill_pairs": list_of(nullable(NON_NEGATIVE)),
        "padded_running": list_of(nullable(COUNT)),
        "compute_ms": list_of(nullable(NON_NEGATIVE)),
        "kv_fraction": list_of(nullable(NON_NEGATIVE)),
        "wait_ms": list_of(nullable(NON_NEGATIVE)),
        "step_ms": nullable(POSITIVE),
        "start_ms": nullable(NUMBER),
    },
    required=("step",),
)
REQUEST_RULES = Rules(
    "a request line",
    {
        "request_id": ID,
        "arrival_ms": nullable(NUMBER),
        "prompt_tokens": COUNT,
        "output_tokens": COUNT,
        "rank": nullable(COUNT),
        "admitted_ms": nullable(NUMBER),
        "first_token_ms": nullable(NUMBER),
        "finish_ms": nullable(NUMBER),
    },
    required=("request_id", "prompt_tokens", "output_tokens"),
)
SIGNS = ({"step", "kv_tokens"}, {"step", "num_running"}, set(REQUEST_RULES.required))
"""Fields that tell a step line or a request line."""


class NativeFormat(TraceFormat):
    """`.jsonl`, `.jsonl.gz`: a header `{"lbal_trace": 1, …}`, then request and step lines in any order.

    A step line has parallel arrays over ranks. All request lines have the same fields, and so have all step
    lines: a gap is a null, not a missing field.
    """

    name = "native"
    content = "requests and steps"
    time_unit = "ms"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line is a header, or a request or step line that should have one before it."""
        keys = head_keys(source)
        known = len(keys & (STEP_RULES.kinds.keys() | REQUEST_RULES.kinds.keys()))
        signs = "arrival_ms" in keys or any(keys >= fields for fields in SIGNS)
        return "lbal_trace" in keys or (signs and 2 * known >= len(keys))

    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The whole trace, metadata as the header has it."""
        return _whole(source, options) if options.steps == "table" else _in_blocks(source, options)


def _whole(source: Source, options: ReadOptions) -> Trace:
    lines = _Lines(source, BLOCK_BYTES)
    read = list(lines.blocks())
    meta = replace(lines.meta, sha256=source.sha256)
    if not read:
        return lines.requests.table.trace(meta, options)
    line = np.concatenate([rows.lines for rows in read])
    steps = joined((rows.steps for rows in read), len(line))
    rows = StepRows(steps, read[0].unknown, line)
    del read
    rows.refuse_twice(source.name)
    frame = rows.steps.frame().drop(rows.unknown)
    return lines.requests.table.trace(meta, options, steps=frame, line_of_step=rows.line_of)


def _in_blocks(source: Source, options: ReadOptions) -> Trace:
    """The same trace, of whose steps one block is in memory at a time."""
    lines, spool = _Lines(source, PIECE_BYTES), StepSpool(source.name, counted_only=options.steps == "counted")
    bad = BadLines()
    for rows in lines.blocks():
        once, known = rows.once(), replace(lines.meta, dp_size=rows.steps.dp_size)
        try:
            Trace.of(known, None, once.steps.frame().drop(once.unknown), line_of_step=once.line_of)
        except InputError as error:
            bad.add(error)
        if not bad.count:
            spool.add(rows)
    bad.enforce()
    meta = replace(lines.meta, sha256=source.sha256)
    return lines.requests.table.trace(meta, options, checked=spool.checked())


class _Lines:
    """The lines of a native file, sorted into requests and steps block by block; `meta` is what its header says."""

    def __init__(self, source: Source, block_bytes: int) -> None:
        number, line, self._blocks = source.first_line(block_bytes)
        record = json_object(line, source.name, number)
        if "lbal_trace" not in record:
            expected = 'a header line such as {"lbal_trace": 1}'
            lacking = [name for name in ("prompt_tokens", "output_tokens") if name not in record]
            if "arrival_ms" in record and lacking:
                expected += f", and {' and '.join(lacking)} in each request"
            raise InputError(source.name, "is missing", line=number, field="lbal_trace", expected=expected)
        self.meta = meta_of(record, source.name, source.name, number, format=NativeFormat.name)
        self.requests = _Requests(source.name)
        self._steps = _Steps(source.name, self.meta.dp_size)
        self._decoder: LineDecoder[_Line] = LineDecoder(source.name, [_StepLine, _RequestLine], _rules_for)

    def blocks(self) -> Iterator[StepRows]:
        """The steps of each block of lines that has any; the requests are added to `requests` on the way."""
        bad = self._decoder.bad
        for records, lines in self._decoder.records(self._blocks):
            is_step = np.array([type(record) is _StepLine for record in records])
            if not is_step.all():
                self.requests.add([records[row] for row in np.flatnonzero(~is_step)], lines[~is_step], bad)
                records, lines = [records[row] for row in np.flatnonzero(is_step)], lines[is_step]
            rows = self._steps.rows(records, lines, bad) if records else None
            if rows is not None:
                yield rows


def _rules_for(record: dict[str, Any]) -> Rules:
    """Whether a line that fits neither rules was meant as a step or as a request: by the fields it shares."""
    return max((REQUEST_RULES, STEP_RULES), key=lambda rules: len(record.keys() & rules.kinds.keys()))


class _SameFields:
    """Holds all lines of one sort to the fields of the first one."""

    def __init__(self, file: str, rules: Rules) -> None:
        self.file = file
        self.rules = rules
        self.fields: tuple[str, ...] = ()
        self.first_line = 0

    def columns(self, records: Sequence[Any], lines: IntArray, bad: BadLines) -> dict[str, list[Any]] | None:
        """The values of each field that the lines have; None where lines differ, each of which is added to `bad`."""
        if not self.fields:
            self.first_line = int(lines[0])
            self.fields = tuple(name for name in self.rules.kinds if getattr(records[0], name) is not UNSET)
        columns = {name: [getattr(record, name) for record in records] for name in self.rules.kinds}
        differing: dict[int, str] = {}
        for name, values in columns.items():
            known = name in self.fields
            for row, value in enumerate(values):
                if (value is UNSET) is known:
                    differing[row] = min(name, differing.get(row, name))
        for row, name in differing.items():
            has = "is missing, unlike in" if name in self.fields else "stands here, unlike in"
            expected = "the same fields on each of these lines, with null for a gap"
            problem = f"{has} line {self.first_line}"
            bad.add(InputError(self.file, problem, line=int(lines[row]), field=name, expected=expected))
        return None if differing else {name: columns[name] for name in self.fields}


class _Requests:
    """Collects request lines."""

    def __init__(self, file: str) -> None:
        self.table = RequestTable(file, must_have_ids=True)
        self._same = _SameFields(file, REQUEST_RULES)

    def add(self, records: Sequence[Any], lines: IntArray, bad: BadLines) -> None:
        columns = self._same.columns(records, lines, bad)
        if columns is None or bad.count:
            return
        series = {
            name: id_series(values) if name == "request_id" else pl.Series(values, dtype=REQUEST_COLUMNS[name])
            for name, values in columns.items()
        }
        self.table.add(pl.DataFrame(series), lines)


class _Steps:
    """Makes step lines arrays; `dp_size` is what the header says, or else the length of the first array."""

    def __init__(self, file: str, dp_size: int | None) -> None:
        self.file = file
        self.dp_size = dp_size
        self._same = _SameFields(file, STEP_RULES)

    def rows(self, records: Sequence[Any], lines: IntArray, bad: BadLines) -> StepRows | None:
        """The steps on some lines; None where one is unlike those before, which is added to `bad`.

        Raises `InputError` where step lines lack what all of them need, or have too many ranks.
        """
        columns = self._same.columns(records, lines, bad)
        if columns is None:
            return None
        if not any(name in columns for name in LOADS):
            missing = " or ".join(LOADS)
            raise InputError(
                self.file, "is missing in a step line", line=int(lines[0]), field=missing, expected="one of the two"
            )
        wrong: dict[int, InputError] = {}
        for name in PER_RANK_COLUMNS:
            if name in columns:
                wrong = self._wrong_lengths(name, columns[name], lines) | wrong
        for error in wrong.values():
            bad.add(error)
        if wrong:
            return None
        arrays: dict[str, Any] = {
            name: np.array(values, dtype=np.int64 if name == "step" else np.float64) for name, values in columns.items()
        }
        unknown = tuple(name for name in LOADS if name not in arrays)
        arrays |= {name: np.full((len(lines), self.dp_size or 1), np.nan) for name in unknown}
        return StepRows(StepArrays(**arrays), unknown, lines)

    def _wrong_lengths(self, name: str, values: list[list[Any]], lines: IntArray) -> dict[int, InputError]:
        """Line -> what is wrong, of the arrays that have not one element per rank."""
        if self.dp_size is None:
            self.dp_size = len(values[0]) or 1
            if self.dp_size > MAX_RANKS:
                problem, expected = f"has {self.dp_size:,} elements", f"at most {MAX_RANKS:,}, one per rank"
                raise InputError(self.file, problem, line=int(lines[0]), field=name, expected=expected)
        sizes = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        wrong, expected = sizes != self.dp_size, f"{self.dp_size}, one per rank"
        return {
            line: InputError(
                self.file, f"has {size} element{'s' * (size != 1)}", line=line, field=name, expected=expected
            )
            for size, line in zip(sizes[wrong].tolist(), lines[wrong].tolist(), strict=True)
        }

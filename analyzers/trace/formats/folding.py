"""Native traces piece by piece: what `validate` and `convert` need of a trace that is larger than memory.

A first pass checks all of the file and keeps its requests and metadata; a second one, where it is needed, gives the
steps again. Both hold one block of lines at a time. What can only be said of all steps together (steps out of order,
clocks that run backwards) is left to the reading of the whole trace, which says it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import detect_format
from lbal.analyzers.trace.formats.native import NativeFormat, NativeLines
from lbal.analyzers.trace.reading.base import ReadOptions
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import LOADS, StepArrays, Trace, TraceMeta

FOLD_ABOVE_BYTES = 1 << 25
"""Smaller files are read whole, in one pass."""
PIECE_BYTES = 1 << 22
"""Of lines at a time: some twenty times as much memory while they are decoded."""


@dataclass(frozen=True)
class Survey:
    """All of a trace but its steps."""

    trace: Trace
    """Metadata, and requests if there are any."""
    num_steps: int
    options: ReadOptions

    def step_pieces(self) -> Iterator[Trace]:
        """The steps again, some at a time. Raises `InputError` where the file has changed since the first pass."""
        meta = self.trace.meta
        with Source(meta.source) as source:
            lines = NativeLines(source, PIECE_BYTES)
            yield from _pieces(lines, meta)
            if source.sha256 != meta.sha256:
                raise InputError(meta.source, "was changed while it was read", expected="a file that stays as it is")


def survey(
    name: str, format_name: str | None, options: ReadOptions, on_piece: Callable[[Trace], None] = lambda _piece: None
) -> Survey | None:
    """One pass over a native trace; None for an input that is small, no such file, or must be read whole.

    `on_piece` is called with each piece of the steps.
    Raises `InputError` as reading it whole does.
    """
    if format_name not in (None, NativeFormat.name) or not _is_large(name):
        return None
    with Source(name) as source:
        if format_name is None and detect_format(source) is not NativeFormat:
            return None
        lines = NativeLines(source, PIECE_BYTES)
        found = _Fold()
        for piece in _pieces(lines, lines.meta):
            if not found.take(piece):
                return None
            on_piece(piece)
        if source.notes or not found.num_steps:
            return None
        meta = replace(lines.meta, sha256=source.sha256, dp_size=lines.steps.dp_size, ranks_seen=found.ranks_seen())
        trace = Trace(meta)
        if lines.requests.table.has_rows:
            trace = lines.requests.table.trace(meta, options)
        return Survey(trace, found.num_steps, options)


def read_compact(name: str, format_name: str | None, options: ReadOptions) -> Trace | None:
    """A large native trace with its steps as arrays alone; None where `survey` gives None."""
    steps: dict[str, _Growing] = {}

    def take(piece: Trace) -> None:
        for field, array in vars(piece.step_arrays()).items():
            if array is not None:
                steps.setdefault(field, _Growing()).add(array)

    found = survey(name, format_name, options, take)
    if found is None:
        return None
    arrays: dict[str, Any] = {field: growing.array() for field, growing in steps.items()}
    return replace(found.trace, arrays=StepArrays(**arrays))


class _Growing:
    """An array to which rows are added; room that is not used yet takes no memory."""

    def __init__(self) -> None:
        self._rows: NDArray[Any] = np.empty(0)
        self._count = 0

    def add(self, part: NDArray[Any]) -> None:
        """Copy some rows to the end."""
        count = self._count + len(part)
        if count > len(self._rows):
            rows = np.empty((2 * count, *part.shape[1:]), part.dtype)
            rows[: self._count] = self._rows[: self._count] if self._count else part[:0]
            self._rows = rows
        self._rows[self._count : count] = part
        self._count = count

    def array(self) -> NDArray[Any]:
        """All rows."""
        return self._rows[: self._count]


def _is_large(name: str) -> bool:
    return os.path.isfile(name) and os.path.getsize(name) >= FOLD_ABOVE_BYTES


def _pieces(lines: NativeLines, meta: TraceMeta) -> Iterator[Trace]:
    """The steps of each block of lines, checked as a trace of their own."""
    for _ in lines.blocks():
        frame = lines.steps.taken()
        if frame is not None:
            known = replace(meta, dp_size=lines.steps.dp_size)
            yield Trace.of(known, None, frame, line_of_step=lines.steps.line_of)


class _Fold:
    """What the pieces say together."""

    def __init__(self) -> None:
        self.num_steps = 0
        self._last_step = -1
        self._last_start_ms = -np.inf
        self._seen: NDArray[np.bool_] | None = None

    def take(self, piece: Trace) -> bool:
        """Count the next piece; False where it does not simply follow the one before it."""
        assert piece.steps is not None
        step = piece.steps["step"]
        if int(step[0]) <= self._last_step:
            return False
        self._last_step = int(step[-1])
        if "start_ms" in piece.steps.columns:
            start_ms = piece.steps["start_ms"].drop_nulls()
            if len(start_ms):
                if float(start_ms[0]) < self._last_start_ms or bool((start_ms.diff() < 0).any()):
                    return False
                self._last_start_ms = float(start_ms[-1])
        self.num_steps += piece.num_steps
        self._see(piece.steps, piece.meta.dp_size or 1)
        return True

    def ranks_seen(self) -> tuple[int, ...] | None:
        """As in the metadata: the ranks of which some load is known; None where that is so of all."""
        if self._seen is None or self._seen.all():
            return None
        return tuple(int(rank) for rank in np.flatnonzero(self._seen))

    def _see(self, steps: pl.DataFrame, dp_size: int) -> None:
        known = [steps[name].is_not_null().to_numpy() for name in LOADS if name in steps.columns]
        seen = np.any(known, axis=0).reshape(-1, dp_size).any(axis=0)
        self._seen = seen if self._seen is None else self._seen | seen

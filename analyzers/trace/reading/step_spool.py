"""Steps as they are read, block by block: kept in memory while they are few, else in a temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.array_file import ArrayFile, Handle
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.bad_lines import MOST_SHOWN, BadLines
from lbal.analyzers.trace.step_blocks import CheckedSteps, StepBlocks
from lbal.analyzers.trace.trace import LOADS, IntArray, StepArrays

KEEP_BYTES = 1 << 26
"""Of steps that are kept in memory; those beyond go to the file."""
COUNTED = ("step", "start_ms")
"""What the steps must tell after they were checked, if no one asks for their loads."""


@dataclass(frozen=True)
class StepRows:
    """Some steps of one input, in its order."""

    steps: StepArrays
    unknown: tuple[str, ...]
    """The loads that no step of the input tells: NaN in the arrays."""
    lines: IntArray
    """(S,) the input line of each."""

    def line_of(self, row: int) -> int:
        """The input line of a row of the table of these steps, which has one for each step and rank."""
        return int(self.lines[row // self.steps.dp_size])

    def refuse_twice(self, file: str) -> None:
        """Raise `BadLinesError` where the step of a line stands on an earlier one."""
        again = np.sort(self._again())
        if again.size:
            row, lines = int(again[0]), self.lines[again]
            problem = f"{self.steps.step[row]} stands twice"
            error = InputError(file, problem, line=int(lines[0]), field="step", expected="one line per step")
            bad = BadLines()
            bad.add_lines(error, lines[:MOST_SHOWN].tolist(), len(lines))
            bad.enforce()

    def once(self) -> StepRows:
        """These rows without steps that stand on an earlier line."""
        again = self._again()
        if not again.size:
            return self
        first = np.ones(len(self.steps), np.bool_)
        first[again] = False
        return StepRows(self.steps.part(first), self.unknown, self.lines[first])

    def _again(self) -> IntArray:
        """The rows whose step stands on an earlier line."""
        order = np.argsort(self.steps.step, kind="stable")
        again: IntArray = order[1:][np.diff(self.steps.step[order]) == 0]
        return again


class StepSpool:
    """Takes blocks of steps that were checked one by one, and tells what is to be known of all of them.

    With `counted_only` their loads are not kept.
    """

    def __init__(self, file: str, *, counted_only: bool) -> None:
        self.file = file
        self._columns = COUNTED if counted_only else tuple(StepArrays.__dataclass_fields__)
        self._arrays = ArrayFile(KEEP_BYTES)
        self._kept: list[dict[str, Handle]] = []
        self._count = 0
        self._dp_size = 0
        self._unknown: tuple[str, ...] = ()
        self._seen: NDArray[np.bool_] | None = None
        self._in_order = True
        self._last_step = -1
        self._last_start_ms = np.nan
        self._backwards = 0

    def add(self, rows: StepRows) -> None:
        """The next steps of the input. Raises `OutputError` where there is no room for them."""
        steps = rows.steps
        arrays = {name: getattr(steps, name) for name in self._columns if name not in rows.unknown}
        arrays |= {"lines": rows.lines}
        self._kept.append({name: self._arrays.put(array) for name, array in arrays.items() if array is not None})
        self._unknown = rows.unknown
        self._count += len(steps)
        self._dp_size = steps.dp_size
        seen = np.asarray((~np.isnan(steps.kv_tokens) | ~np.isnan(steps.num_running)).any(axis=0))
        self._seen = seen if self._seen is None else self._seen | seen
        self._in_order &= bool((np.diff(steps.step, prepend=self._last_step) > 0).all())
        self._last_step = int(steps.step[-1])
        if steps.start_ms is not None:
            self._backwards += int((np.diff(steps.start_ms, prepend=self._last_start_ms) < 0).sum())
            self._last_start_ms = float(steps.start_ms[-1])

    def checked(self) -> CheckedSteps | None:
        """All of them, in the order of their numbers; None where there are none.

        Raises `InputError` for a step that stands twice.
        """
        if not self._count:
            return None
        assert self._seen is not None
        seen = None if self._seen.all() else tuple(int(rank) for rank in np.flatnonzero(self._seen))
        blocks = StepBlocks(self._count, self._dp_size, self._read, self._unknown)
        if self._in_order:
            return CheckedSteps(blocks, seen, self._backwards)
        steps = self._sorted(blocks)
        backwards = 0 if steps.start_ms is None else int((np.diff(steps.start_ms) < 0).sum())
        return CheckedSteps(replace(StepBlocks.of(steps), unknown=self._unknown), seen, backwards)

    def _sorted(self, blocks: StepBlocks) -> StepArrays:
        lines = np.concatenate([self._arrays.get(handles["lines"]) for handles in self._kept])
        steps = blocks.joined()
        StepRows(steps, (), lines).refuse_twice(self.file)
        return steps.part(np.argsort(steps.step, kind="stable"))

    def _read(self) -> Iterator[StepArrays]:
        for handles in self._kept:
            arrays: dict[str, Any] = {name: self._arrays.get(handles[name]) for name in handles if name != "lines"}
            shape = (len(arrays["step"]), self._dp_size)
            unknown = {name: np.full(shape, np.nan) for name in LOADS if name not in arrays}
            yield StepArrays(**arrays, **unknown)

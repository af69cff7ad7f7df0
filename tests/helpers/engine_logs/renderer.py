"""What a renderer of an engine's log says of itself: which log it writes, and how much of a run that log can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from engine_logs.known_run import KnownRun
from lbal.analyzers.trace.formats import ReadOptions, read_trace
from lbal.analyzers.trace.trace import Resolution, Trace


class Line(NamedTuple):
    """A line without its end, and the step and rank that it is the record of; None where it is no record."""

    text: str
    step: int | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Rounding:
    """By how much a number of a log may differ from what it was: half its last digit, in its own unit or another."""

    absolute: float = 0.0
    relative: float = 0.0
    of_capacity: float = 0.0
    """Share of the KV space of a rank."""
    per_request: float = 0.0

    def bound(self, values: np.ndarray, run: KnownRun, running: np.ndarray | float = 0.0) -> np.ndarray:
        share = self.of_capacity * run.kv_capacity
        return self.absolute + share + self.relative * np.abs(values) + self.per_request * np.asarray(running) + 1e-6


EXACT = Rounding()
Empty = Literal["zero", "gap", "unseen", "padded"]


@dataclass(frozen=True)
class Renderer:
    """Writes a run as one kind of log."""

    name: str
    format: str
    """The registered format that must read it."""
    lines: Callable[[KnownRun], Iterable[Line]]
    tells: Mapping[str, Rounding] = field(default_factory=dict)
    """Columns of steps that the log tells, with what its digits lose; it tells no other load."""
    resolution: Resolution = "step"
    rows: Callable[[KnownRun], np.ndarray] | None = lambda run: np.arange(len(run))
    """The steps of the run that the steps of the log are; None where ranks print at steps of their own."""
    empty: Empty = "zero"
    """How a rank without work looks: as 0; as a gap in its step numbers, which is 0 between two records of the rank and
    unknown elsewhere; not at all; as one request, which pads it."""
    barrier: bool = True
    """Whether the log lets it be that ranks wait for one another."""
    over_lines: bool = False
    """Whether a record of all ranks may stand on several lines, and is lost where one of them is broken."""
    last_step_ms: float = 0.0
    """By how much the last step is told too long, where a later line would tell its time."""
    options: ReadOptions = field(default_factory=ReadOptions)
    refused: str | None = None
    """The reason with which such a log is refused, where it cannot tell the load of a rank."""

    def text(self, run: KnownRun) -> str:
        return "".join(f"{line.text}\n" for line in self.lines(run))

    def read(self, run: KnownRun, folder: Path) -> Trace:
        """What lbal reads of the log of the run."""
        path = folder / "server.log"
        path.write_text(self.text(run), encoding="utf-8")
        return read_trace(path, options=self.options)

    def told(self, run: KnownRun, column: str) -> np.ndarray:
        """(S, G) what the log can tell of a load at the steps of its own; NaN where it cannot."""
        values: np.ndarray = getattr(run, column).astype(np.float64).copy()
        without = run.num_running == 0
        if self.empty == "padded" and column == "num_running":
            values[without] = 1.0
        elif self.empty == "unseen":
            values[without] = np.nan
        elif self.empty == "gap":
            begun = np.maximum.accumulate(~without, axis=0)
            ended = np.maximum.accumulate(~without[::-1], axis=0)[::-1]
            values[without & ~(begun & ended)] = np.nan
            if column == "num_waiting":
                values[without] = np.nan
        assert self.rows is not None
        return values[self.rows(run)]

    def idle_tolerance(self, run: KnownRun) -> float:
        """By how much the idle fraction may be off where every step is in the log, from the rounding of its digits.

        Each rank time is off by what its load is, the wait of a rank by twice that, and the time of the step by its own.
        """
        a, b = run.model.coefficients_ms.per_token, run.model.coefficients_ms.per_request
        loads = self.tells.get("kv_tokens", EXACT).bound(run.kv_tokens, run, run.num_running) * a
        padding = b if self.empty == "padded" else 0.0
        time = self.tells.get("step_ms", EXACT).bound(run.step_ms, run) / run.step_ms
        return (
            float(2 * (loads.mean() + padding * (run.num_running == 0).mean()) / run.step_ms.mean() + time.max()) + 1e-9
        )

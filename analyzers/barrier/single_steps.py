"""Single steps of a run in full, for a trace viewer: which steps are taken, and when each rank works and waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lbal.analyzers.barrier.clock import in_order
from lbal.analyzers.barrier.mixed_work import common_times_ms, rank_times_ms
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.trace import FloatArray, StepArrays

USUAL_RANK_STEPS = 30_000
"""Steps times ranks that are taken where nobody says which: some 10 MB of trace."""
MOST_DIGITS = 15
MOST_RANK_STEPS = 2_000_000
"""More than these make a trace that no viewer opens."""


@dataclass(frozen=True)
class StepRange:
    """The steps from `start` on and before `stop`; None is the end of the run."""

    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return f"{self.start}:{'' if self.stop is None else self.stop}"


def parse_step_range(text: str) -> StepRange:
    """`1000:1200`, `1000:` or `:1200`; `UsageError` for what is no range."""
    start, colon, stop = text.partition(":")
    parts = [part.strip() for part in (start, stop)]
    if not colon or not all(part.isdecimal() or not part for part in parts) or not any(parts):
        raise UsageError(
            f"{text!r} is no range of steps, expected FROM:TO, as in 1000:1200 (without 1200)", parameter="steps"
        )
    if max(map(len, parts)) > MOST_DIGITS:
        raise UsageError(
            f"a number has more than {MOST_DIGITS} digits, expected FROM:TO, as in 1000:1200", parameter="steps"
        )
    found = StepRange(int(parts[0] or 0), int(parts[1]) if parts[1] else None)
    if found.stop is not None and found.stop <= found.start:
        raise UsageError(f"{text} holds no step, expected FROM below TO", parameter="steps")
    return found


@dataclass(frozen=True)
class Timeline:
    """Some steps of a run, S by G, with all times known."""

    steps: StepArrays
    """With `step_ms` and `start_ms`."""
    rank_ms: FloatArray
    """(S, G) each rank's own time before the barrier."""
    total_steps: int
    """Steps of the whole run."""


class StepWindow:
    """Takes the wanted steps as they pass by: those of a range, else the first ones up to the usual size."""

    def __init__(self, wanted: StepRange | None, share: int = 1) -> None:
        self._wanted = wanted
        self._usual = USUAL_RANK_STEPS // share
        self._parts: list[StepArrays] = []
        self._rank_steps = 0
        self._total = 0

    def add(self, steps: StepArrays) -> None:
        """The next steps, in their order. Raises `UsageError` where a range is too long for a trace."""
        self._total += len(steps)
        wanted = self._wanted or StepRange()
        chosen = steps.step >= wanted.start
        if wanted.stop is not None:
            chosen &= steps.step < wanted.stop
        if self._wanted is None:
            room = max(self._usual // steps.dp_size, 1) - sum(len(part) for part in self._parts)
            chosen[max(room, 0) :] = False
        if not chosen.any():
            return
        self._rank_steps += int(chosen.sum()) * steps.dp_size
        if self._rank_steps > MOST_RANK_STEPS:
            raise UsageError(
                f"{wanted} is more than {MOST_RANK_STEPS // steps.dp_size:,} steps of {steps.dp_size} ranks, "
                "which no viewer opens, expected a shorter range",
                parameter="steps",
            )
        self._parts.append(steps.part(chosen))

    def timeline(self, model: StepTimeModel) -> Timeline | None:
        """The steps taken, with the times of the model where they are not recorded; None where there are none."""
        if not self._parts:
            return None
        names = [name for name, array in vars(self._parts[0]).items() if array is not None]
        arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in self._parts]) for name in names}
        steps = StepArrays(**arrays)
        rank_ms = steps.compute_ms
        if rank_ms is None:
            rank_ms = rank_times_ms(steps, model)
        step_ms = steps.step_ms
        if step_ms is None:
            step_ms = common_times_ms(steps, model) + rank_ms.max(axis=1)
        start_ms = steps.start_ms
        if not in_order(start_ms):
            start_ms = np.cumsum(step_ms) - step_ms
        return Timeline(replace(steps, step_ms=step_ms, start_ms=start_ms), rank_ms, self._total)

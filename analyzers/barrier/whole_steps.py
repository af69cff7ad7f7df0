"""The steps of a trace that can be accounted for: those without gaps and with clocks that agree, each time once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.overlap import without_overlap
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import LOADS, StepArrays

CLOCKS_AGREE = 1.001
"""Rank times may exceed the wall time of their step by as much as clocks are read apart."""
TIMES = ("compute_ms", "step_ms")
LEFT_OUT = {
    **{name: (f"have gaps in {name}", "") for name in (*LOADS, *TIMES)},
    "beyond": ("have a compute_ms beyond their step_ms", ": their clocks disagree"),
}
"""Why steps are left out, in the words of the notes."""


def whole_steps(steps: StepArrays, source: str) -> tuple[StepArrays, list[str]]:
    """As `whole_blocks`, of steps that are in memory."""
    whole, notes = whole_blocks(StepBlocks.of(steps), source)
    return whole.joined(), notes


def whole_blocks(steps: StepBlocks, source: str, stands_in: str | None = None) -> tuple[StepBlocks, list[str]]:
    """The steps without gaps in what the accounting needs, and notes on those left out and on overlap.

    `source` is what messages call the trace, and `stands_in` a load that is a copy of the other and is not named.
    Raises `InputError` where no step is whole.
    """
    steps = _without_unknown_times(steps)
    columns = [name for name in (*LOADS, *TIMES) if name != stands_in]
    left_out: Counter[str] = Counter()
    count = sum(int(_whole(block, columns, left_out).sum()) for block in steps)
    notes = [
        f"{left_out[name]:,} of {len(steps):,} steps {why} and are left out{reason}"
        for name, (why, reason) in LEFT_OUT.items()
        if left_out[name]
    ]
    if not count:
        raise InputError(
            source,
            "every step has gaps, or a compute_ms beyond its step_ms",
            expected="steps with loads on every rank and rank times within the step",
        )
    if count < len(steps):
        steps = steps.changed(lambda block: block.part(_whole(block, columns, Counter())), count, steps.dp_size)
    steps, overlap = without_overlap(steps)
    return steps, [*notes, *overlap]


def _without_unknown_times(steps: StepBlocks) -> StepBlocks:
    """The steps without those of the times that none of them knows."""
    unknown: dict[str, Any] = {name: None for name in TIMES if steps.tells(name)}
    for block in steps:
        for name in list(unknown):
            if not np.isnan(getattr(block, name)).all():
                del unknown[name]
        if not unknown:
            break
    if not unknown:
        return steps
    return steps.changed(lambda block: replace(block, **unknown), len(steps), steps.dp_size)


def _whole(steps: StepArrays, columns: Sequence[str], left_out: Counter[str]) -> NDArray[np.bool_]:
    """(S,) which steps are whole; the others are counted by the first reason that holds."""
    whole = np.ones(len(steps), np.bool_)
    for name in columns:
        values = getattr(steps, name)
        if values is not None:
            gaps = np.isnan(values).any(axis=tuple(range(1, values.ndim))) & whole
            left_out[name] += int(gaps.sum())
            whole &= ~gaps
    if steps.compute_ms is not None and steps.step_ms is not None:
        beyond = whole & (steps.compute_ms.max(axis=1) > steps.step_ms * CLOCKS_AGREE)
        left_out["beyond"] += int(beyond.sum())
        whole &= ~beyond
    return whole

"""The steps of a trace that can be accounted for: those without gaps and with clocks that agree, each time once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lbal.analyzers.barrier.clock import without_overlap
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.trace import StepArrays

CLOCKS_AGREE = 1.001
"""Rank times may exceed the wall time of their step by as much as clocks are read apart."""


def whole_steps(steps: StepArrays, source: str, stands_in: str | None = None) -> tuple[StepArrays, list[str]]:
    """The steps without gaps in what the accounting needs, and notes on those left out and on overlap.

    `source` is what messages call the trace, and `stands_in` a load that is a copy of the other and is not named.
    Raises `InputError` where no step is whole.
    """
    notes: list[str] = []
    loads = {"kv_tokens": steps.kv_tokens, "num_running": steps.num_running}
    columns = {name: load for name, load in loads.items() if name != stands_in}
    if steps.compute_ms is not None and not np.isnan(steps.compute_ms).all():
        columns["compute_ms"] = steps.compute_ms
    else:
        steps = replace(steps, compute_ms=None)
    if steps.step_ms is not None and not np.isnan(steps.step_ms).all():
        columns["step_ms"] = steps.step_ms[:, None]
    else:
        steps = replace(steps, step_ms=None)
    whole = np.ones(len(steps), np.bool_)
    for name, values in columns.items():
        gaps = np.isnan(values).any(axis=1) & whole
        if gaps.any():
            notes.append(f"{gaps.sum():,} of {len(steps):,} steps have gaps in {name} and are left out")
            whole &= ~gaps
    if steps.compute_ms is not None and steps.step_ms is not None:
        beyond = whole & (steps.compute_ms.max(axis=1) > steps.step_ms * CLOCKS_AGREE)
        if beyond.any():
            notes.append(
                f"{beyond.sum():,} of {len(steps):,} steps have a compute_ms beyond their step_ms and are left out: "
                "their clocks disagree"
            )
            whole &= ~beyond
    if not whole.any():
        raise InputError(
            source,
            "every step has gaps, or a compute_ms beyond its step_ms",
            expected="steps with loads on every rank and rank times within the step",
        )
    steps, overlap = without_overlap(steps if whole.all() else steps.part(whole))
    return steps, [*notes, *overlap]

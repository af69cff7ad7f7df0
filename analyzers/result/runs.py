"""Which of the runs of a result the others are compared with, and which is the best."""

from __future__ import annotations

from collections.abc import Sequence

from lbal.analyzers.result.result import Run


def reference_of(runs: Sequence[Run]) -> Run:
    """The run that others are compared with: what the trace did, where it was replayed, else the first one."""
    return next((run for run in runs if run.policy == "recorded"), runs[0])


def least_idle(runs: Sequence[Run]) -> Run:
    """The run with the least barrier idle."""
    return min(runs, key=lambda run: run.metrics["barrier_idle_fraction"].value)

"""Which runs a page shows and draws: all while they are few, else those that say most."""

from __future__ import annotations

from collections.abc import Sequence

from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.result.runs import reference_of

MOST_DRAWN = 6
"""Runs with charts of their own."""
MOST_COMPARED = 20
"""Runs side by side in one chart."""
MOST_COLUMNS = 6
"""Runs that are columns of a table; more are its rows."""
MOST_ROWS = 50
"""Rows of a table of runs that are open to see."""
MOST_FOLDED_ROWS = 2_000


def reference(result: Result) -> Run | None:
    """The run that others are compared with; None where there is nothing to compare."""
    if len(result.runs) < 2:
        return None
    label = result.headroom.get("reference")
    return next((run for run in result.runs if run.label == label), reference_of(result.runs))


def by_idle(runs: Sequence[Run]) -> list[Run]:
    """The runs with the least barrier idle first."""
    return sorted(runs, key=_idle)


def leading(runs: Sequence[Run], first: Run | None, most: int) -> list[Run]:
    """At most that many runs: the reference, and those that idle least; in the order of the command."""
    if len(runs) <= most:
        return list(runs)
    others = [run for run in by_idle(runs) if run is not first]
    chosen = [*([first] if first is not None else []), *others][:most]
    return [run for run in runs if any(run is each for each in chosen)]


def left_out(shown: Sequence[Run], runs: Sequence[Run], what: str) -> str:
    """What a cap leaves out, in words; empty where it leaves out nothing."""
    if len(shown) == len(runs):
        return ""
    return f"{what} of {len(shown)} of {len(runs):,} runs: the reference, and those with the least barrier idle."


def _idle(run: Run) -> float:
    value = run.metrics["barrier_idle_fraction"].value if "barrier_idle_fraction" in run.metrics else float("inf")
    return value if value == value else float("inf")

"""Which run is compared with which."""

from __future__ import annotations

from collections.abc import Sequence

from lbal.analyzers.errors import UsageError, unknown_name
from lbal.analyzers.result.reading import Stored
from lbal.analyzers.result.result import Run
from lbal.analyzers.result.runs import reference_of

Pair = tuple[Run | None, Run | None]
"""The run of the base and that of the head; None where there is none of that label."""


def run_pairs(base: Stored, head: Stored, run: str | None = None, base_run: str | None = None) -> list[Pair]:
    """Runs of the same label; the two single runs where labels differ; the one that `run` and `base_run` name."""
    ours, theirs = ({each.label: each for each in stored.result.runs} for stored in (head, base))
    if run is None and len(ours) > 1 and base_run is not None:
        return [(_named(base, theirs, base_run), each) for each in ours.values()]
    if run is not None or base_run is not None:
        head_label = run or next(iter(ours))
        return [(_named(base, theirs, base_run or head_label), _named(head, ours, head_label))]
    if len(ours) == len(theirs) == 1:
        return [(next(iter(theirs.values())), next(iter(ours.values())))]
    return [(theirs.get(label), ours.get(label)) for label in dict.fromkeys([*theirs, *ours])]


def with_runs(stored: Stored) -> Stored:
    """The result if it has runs; `UsageError` otherwise."""
    if not stored.result.runs:
        raise UsageError(f"{stored.name}: it has no runs, expected a result of analyze or replay")
    return stored


def within(stored: Stored, run: str | None = None, base_run: str | None = None) -> list[Pair]:
    """The runs of one result, or the one named, against `base_run`, else the recorded placement, else the first."""
    runs: Sequence[Run] = stored.result.runs
    if len(runs) < 2:
        raise UsageError(f"{stored.name}: it has {len(runs)} runs, expected two to compare, or a second result")
    known = {each.label: each for each in runs}
    base = reference_of(runs) if base_run is None else _named(stored, known, base_run)
    heads = runs if run is None else [_named(stored, known, run)]
    return [(base, each) for each in heads if each is not base or run is not None]


def _named(stored: Stored, runs: dict[str, Run], label: str) -> Run:
    if label not in runs:
        raise UsageError(f"{stored.name}: {unknown_name('run', label, runs)}")
    return runs[label]

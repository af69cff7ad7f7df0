"""What the reports that are asked for need of the steps of a run."""

from __future__ import annotations

from collections.abc import Sequence

from lbal.analyzers.barrier.single_steps import parse_step_range
from lbal.analyzers.errors import UsageError
from lbal.analyzers.output.targets import suffix_of
from lbal.analyzers.result.collecting import Drawing
from lbal.analyzers.result.report import report_of, report_suffixes


def drawing_for(outputs: Sequence[str], steps: str | None, *, as_json: bool) -> Drawing:
    """What the reports among some outputs, and JSON on stdout, need, and which `steps` (FROM:TO) of it."""
    needs = {need for name in outputs for need in _needs(name)} | ({"series"} if as_json else set())
    if steps is None:
        return Drawing(frozenset(needs))
    if "timeline" not in needs:
        raise UsageError("has no meaning without a trace to write, expected -o NAME.perfetto.json", parameter="steps")
    return Drawing(frozenset(needs), parse_step_range(steps))


def _needs(name: str) -> frozenset[str]:
    known = report_suffixes()
    if not any(name.lower().endswith(suffix) for suffix in known):
        return frozenset()
    return report_of(suffix_of(name, known)).needs

"""What reports that draw need of a run beside its figures: collected while its steps pass by, and only where asked."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lbal.analyzers.barrier.apart import Apart
from lbal.analyzers.barrier.single_steps import StepRange, StepWindow, Timeline
from lbal.analyzers.barrier.thinned import LoadThinner
from lbal.analyzers.errors import UsageError
from lbal.analyzers.result.result import Run

if TYPE_CHECKING:
    from lbal.analyzers.barrier.folded import AccountFold
    from lbal.analyzers.barrier.known_part import Load
    from lbal.analyzers.trace.trace import StepArrays


@dataclass(frozen=True)
class Drawing:
    """What of the steps is collected: `series` for charts, `timeline` for single steps, those of a range if one is
    given."""

    needs: Set[str] = frozenset({"series"})
    range: StepRange | None = None

    def watch(self, runs: int = 1) -> Watch:
        """For one of that many runs."""
        return Watch(
            LoadThinner() if "series" in self.needs else None,
            StepWindow(self.range, runs) if "timeline" in self.needs else None,
        )

    def apart(self, fold: AccountFold, lacks: Load | None) -> Apart | None:
        """How far the ranks of a trace are apart over the steps; None where nothing is drawn, or there is one rank."""
        if "series" not in self.needs or fold.totals.dp_size == 1:
            return None
        return fold.apart.apart(lacks)

    def notes(self, runs: Sequence[Run]) -> list[str]:
        """Which steps a trace leaves out. Raises `UsageError` where it would have none."""
        if "timeline" not in self.needs:
            return []
        shown = [run.timeline for run in runs if run.timeline is not None]
        if not shown and any("idle_is" in run.details for run in runs):
            problem = "shows single steps of all ranks with KV tokens and requests, which the trace does not tell"
            raise UsageError(f"-o name.perfetto.json: {problem}, expected another report")
        if not shown:
            raise UsageError(f"{self.range} holds no step of the run, expected steps that it has", parameter="steps")
        if self.range is not None:
            absent = [run.label for run in runs if run.timeline is None]
            return [f"the trace of {label} is empty: it has no step in {self.range}" for label in absent]
        return _left_out(shown, runs)


class Watch:
    """Sees the steps of one run pass by."""

    def __init__(self, thinner: LoadThinner | None, window: StepWindow | None) -> None:
        self._thinner = thinner
        self._window = window

    def see(self, steps: StepArrays) -> None:
        """The next steps, in their order."""
        if self._thinner is not None:
            self._thinner.add(steps)
        if self._window is not None:
            self._window.add(steps)

    def drawn(self, run: Run, fold: AccountFold) -> Run:
        """The run with what was asked for; its series are over the accounted steps."""
        if self._thinner is not None:
            run = replace(run, drawn=fold.series.series(self._thinner.load_map()).rounded())
        if self._window is not None:
            run = replace(run, timeline=self._window.timeline(fold.model))
        return run


def _left_out(shown: Sequence[Timeline], runs: Sequence[Run]) -> list[str]:
    cut = [timeline for timeline in shown if len(timeline.steps) < timeline.total_steps]
    if not cut:
        return []
    first = cut[0]
    last = int(first.steps.step[-1])
    worst = next((run.worst_steps[0]["step"] for run in runs if run.worst_steps), 0)
    return [
        f"the trace shows steps {first.steps.step[0]} to {last} of {first.total_steps:,}; choose others with --steps, "
        f"as in --steps {max(worst - 100, 0)}:{worst + 100}, around the step that idles most"
    ]

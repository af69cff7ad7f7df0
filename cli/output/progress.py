"""Progress of long replays, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lbal.analyzers.plain import plain

if TYPE_CHECKING:
    from lbal.replay.engine.engine import Progress

BAR_WIDTH = 12


@contextmanager
def replay_progress(label: str, requests: int) -> Iterator[Callable[[Progress], None]]:
    """A function to report a replay's progress to; it draws on stderr where that is a terminal, nothing otherwise.

    Until the first report it says that loops are compiled, which takes some seconds the first time.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(plain(label), total=requests, state="compiling (slow the first time only)")

        def report(progress: Progress) -> None:
            speed = bar.tasks[0].speed or 0.0
            state = f"{progress.completed:,}/{requests:,} requests, {progress.steps:,} steps, {speed:,.0f}/s"
            bar.update(task, completed=progress.completed, state=state)

        yield report


@contextmanager
def seed_progress(repeats: int) -> Iterator[Callable[[], None]]:
    """A function to call after each seed; it draws on stderr where that is a terminal, nothing otherwise."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("seeds", total=repeats)
        yield lambda: bar.advance(task)


class TerminalDisplay:
    """Shows on a terminal how far the replays of a library call have come."""

    replaying = staticmethod(replay_progress)
    repeating = staticmethod(seed_progress)

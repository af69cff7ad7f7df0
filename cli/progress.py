"""Progress of long replays, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbal.replay.engine import Progress


@contextmanager
def replay_progress(label: str) -> Iterator[Callable[[Progress], None]]:
    """A function to report a replay's progress to; it draws on stderr where that is a terminal, nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda _progress: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("requests · {task.fields[steps]:,} steps · {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"replay {label}", total=None, steps=0, rate="starting")

        def report(progress: Progress) -> None:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed or 0.0
            rate = f"{speed:,.0f} requests/s"
            bar.update(task, total=progress.requests, completed=progress.completed, steps=progress.steps, rate=rate)

        yield report

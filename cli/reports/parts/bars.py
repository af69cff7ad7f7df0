"""Idle over time and by rank, drawn with characters: what `analyze` adds on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from lbal.analyzers.barrier.accounts import shares
from lbal.analyzers.energy.binned_sums import columns_of, rebinned
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import percent

HEIGHT = 6
MOST_RANKS = 64
LABEL_WIDTH = 8
EIGHTHS, PLAIN = " ▁▂▃▄▅▆▇█", " #"
"""How far a cell is filled, from empty to full; and for terminals without block characters."""


def drawings(run: Run, width: int) -> Iterator[RenderableType]:
    """Yield the chart of idle over the steps, then that of idle by rank, no wider than `width` columns."""
    columns = columns_of(run.series)
    levels = EIGHTHS if _can_print(EIGHTHS) else PLAIN
    room = max(width - LABEL_WIDTH - 1, 10)
    if "time_ms" in columns:
        columns = rebinned(columns, min(len(columns["time_ms"]), room))
        idle = shares(columns["idle_ms"], columns["time_ms"] * run.series["dp_size"])
        yield Text("\nIdle over the steps, share of rank-time", style="bold")
        yield from over_time(idle.tolist(), room, levels)
    if run.ranks:
        yield Text("\nIdle by rank, share of its time", style="bold")
        yield from by_rank([(int(rank["rank"]), float(rank["idle_fraction"])) for rank in run.ranks], room, levels)


def _can_print(text: str) -> bool:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def over_time(shares: Sequence[float], room: int, levels: str) -> Iterator[Text]:
    """Yield the lines of a column chart of the shares, with the scale on the left."""
    top = max(shares) or 1.0
    stretch = max(1, room // len(shares))
    full = len(levels) - 1
    for row in reversed(range(HEIGHT)):
        label = percent(top) if row == HEIGHT - 1 else percent(0) if row == 0 else ""
        cells = [levels[min(max(round((share / top * HEIGHT - row) * full), 0), full)] * stretch for share in shares]
        yield Text(f"{label:>{LABEL_WIDTH}} {''.join(cells)}".rstrip())


def by_rank(shares: Sequence[tuple[int, float]], room: int, levels: str) -> Iterator[Text]:
    """Yield a bar for each (rank, share); of very many ranks, only for those that idle most and least."""
    if len(shares) > MOST_RANKS:
        order = sorted(shares, key=lambda item: (-item[1], item[0]))
        half = MOST_RANKS // 2
        yield Text(f"the {half} that idle most, and the {half} that idle least, of {len(shares):,} ranks")
        shares = [*order[:half], *order[-half:]]
    top = max(share for _rank, share in shares) or 1.0
    bar = max(room - LABEL_WIDTH, 4)
    for rank, share in shares:
        yield Text(f"{rank:>{LABEL_WIDTH}} {levels[-1] * round(share / top * bar)} {percent(share)}")

"""Scrapes of /metrics as people collect them, of whichever engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np

from engine_logs.known_run import KnownRun
from engine_logs.renderer import Line

LOOK_MS = 1_000.0
"""Time from one look at the engine to the next."""


def looks(run: KnownRun) -> np.ndarray:
    """The steps at which polls and scrapes look."""
    return run.looks(LOOK_MS)


def scrapes(run: KnownRun, series: Callable[[KnownRun, int], Iterator[Line]], wrapped: str = "timed") -> Iterator[Line]:
    """`curl /metrics` each second: with a line of time before each, without, or as texts in JSON lines."""
    for look, step in enumerate(looks(run)):
        clock = f"2026-08-22T10:{look // 60:02d}:{look % 60:02d}+00:00"
        lines = list(series(run, int(step)))
        if wrapped == "json":
            yield Line(json.dumps({"ts": clock, "metrics": "".join(f"{line.text}\n" for line in lines)}))
        else:
            yield from [Line(clock)] if wrapped == "timed" else []
            yield from lines

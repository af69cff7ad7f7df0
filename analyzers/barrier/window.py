"""Which steps count: all, those up to the last admission, or the steady part of them. The same for recorded and
replayed runs: each says between which rows its windows lie, and `Landmarks.rows` decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.trace.trace import FloatArray

Window = Literal["all", "admissions", "steady"]
WINDOWS: tuple[Window, ...] = get_args(Window)


@dataclass(frozen=True)
class Landmarks:
    """The rows of a run's steps between which its windows lie."""

    steps: int
    """How many rows there are."""
    first_full: int | None
    """The first row in which every slot is taken; None where there is none."""
    last_admission: int
    """The row that begins with the last admission: the first one of the drain."""

    def rows(self, window: Window, source: str) -> slice:
        """The rows of a window of the run called `source`.

        `all` is every row; `admissions` ends at the last admission (the row that it enters is the first left out);
        `steady` also begins at the first row with all slots taken. Raises `UsageError` where there is no such row:
        an empty window has no figures, not zeros.
        """
        if window == "all":
            return slice(0, self.steps)
        start = 0
        if window == "steady":
            start = self.steps if self.first_full is None else self.first_full
        if start >= self.last_admission:
            why = (
                "the slots are never all taken before the last admission"
                if window == "steady"
                else "all requests enter at once"
            )
            raise UsageError(
                f"{source} has no such steps ({why}), expected ",
                Parameter("window", "all"),
                parameter=Parameter("window", window),
            )
        return slice(start, self.last_admission)


def window_bounds(
    window: Window,
    running: FloatArray,
    *,
    slots: int | None,
    last_admission_row: int | None,
    source: str,
) -> slice:
    """The rows of a window over recorded steps with `running` requests in all (S,).

    Raises `UsageError` where the trace does not tell what the window needs, or the window is empty.
    """
    if window == "all":
        return slice(0, len(running))
    if last_admission_row is None:
        raise UsageError(
            f"{source} does not tell when requests were admitted, expected ",
            Parameter("window", "all"),
            parameter=Parameter("window", window),
        )
    first_full = None
    if window == "steady":
        if slots is None:
            raise UsageError(
                f"{source} does not tell max_num_seqs, expected ",
                Parameter("max_num_seqs"),
                parameter=Parameter("window", "steady"),
            )
        full = running >= slots
        first_full = int(np.argmax(full)) if full.any() else None
    return Landmarks(len(running), first_full, last_admission_row).rows(window, source)

"""Which steps count: all, those up to the last admission, or the steady part of them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.trace import FloatArray

Window = Literal["all", "admissions", "steady"]
WINDOWS: tuple[Window, ...] = get_args(Window)


def window_bounds(
    window: Window,
    running: FloatArray,
    *,
    slots: int | None,
    last_admission_row: int | None,
    source: str,
) -> slice:
    """The rows of a window over steps with `running` requests in all (S,).

    `all` is every step; `admissions` ends at the last admission (the step that it enters is the first left out);
    `steady` also begins at the first step with all `slots` taken. Raises `UsageError` where the trace does not tell
    or the window is empty: an empty window has no figures, not zeros.
    """
    if window == "all":
        return slice(0, len(running))
    if last_admission_row is None:
        raise UsageError(
            f"--window {window}: {source} does not tell when requests were admitted, expected --window all"
        )
    start = 0
    if window == "steady":
        if slots is None:
            raise UsageError(f"--window steady: {source} does not tell max_num_seqs, expected --max-num-seqs")
        full = running >= slots
        start = int(np.argmax(full)) if full.any() else len(running)
    if start >= last_admission_row:
        why = "the slots are never all taken before it" if window == "steady" else "all requests enter at once"
        raise UsageError(f"--window {window}: there are no such steps ({why}), expected --window all")
    return slice(start, last_admission_row)

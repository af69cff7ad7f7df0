"""The least idle of recorded steps by trying all placements of their requests: what bounds on idle must not exceed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from lbal.analyzers.trace.trace import FloatArray


def least_idle_ms(request_ms: Sequence[float], ranks: int, constant_ms: float, factor: FloatArray) -> float:
    """Barrier idle in ms, summed over the ranks, of the best of all ranks**N placements of N requests.

    A rank with work takes `constant_ms` and its factor times its requests' times; one without work takes nothing.
    """
    where = np.array(list(itertools.product(range(ranks), repeat=len(request_ms))))
    holds = where[:, :, None] == np.arange(ranks)
    work = (holds * np.asarray(request_ms)[None, :, None]).sum(axis=1) * factor
    times = np.where(holds.any(axis=1), constant_ms + work, 0.0)
    return float((times.max(axis=1)[:, None] - times).sum(axis=1).min())

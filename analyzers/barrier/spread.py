"""How far the ranks are apart in a step, and which values that takes over the steps.

Each percentile is the smallest value that this share of the steps with load does not exceed: the value of some step.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from lbal.analyzers.array_file import ArrayFile
from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.apart import LOADS, MostAndLeast, most_and_least
from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.statistics.long_series import LongSeries
from lbal.analyzers.trace.trace import FloatArray

Kind = Literal["max_over_mean", "max_over_min", "max_minus_min"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class SpreadFold:
    """Takes the accounts of steps, block by block."""

    def __init__(self, file: ArrayFile) -> None:
        self._series = {(load, kind): LongSeries(file) for load in LOADS for kind in KINDS}

    def add(self, accounts: BarrierAccounts) -> None:
        """The accounts of the next steps."""
        for load in LOADS:
            loaded = most_and_least(accounts, load).loaded()
            for kind in KINDS:
                self._series[load, kind].add(_spread(loaded, kind))

    def percentile(self, load: Load, kind: Kind, share: int) -> float:
        """The percentile over the steps with load; infinite where a rank has none of it, NaN without such steps."""
        return self._series[load, kind].share_at_most(share)


def _spread(loads: MostAndLeast, kind: Kind) -> FloatArray:
    if kind == "max_over_mean":
        return loads.largest / loads.mean
    if kind == "max_minus_min":
        return loads.largest - loads.smallest
    return np.divide(loads.largest, loads.smallest, out=np.full_like(loads.largest, np.inf), where=loads.smallest > 0)

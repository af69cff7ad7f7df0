"""How far ranks are apart over the steps, thinned for a chart: largest, mean and smallest load of a rank.

Steps are taken together in buckets as in `thinned.py`. It names no rank, so it needs neither every rank nor both loads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.barrier.thinned import MOST_BUCKETS, RATIO_DIGITS
from lbal.analyzers.trace.trace import FloatArray, IntArray

LOAD_DIGITS = 5
"""Significant digits of loads: more than a chart shows."""
COLUMNS = ("largest", "mean", "smallest", "over_mean")


@dataclass(frozen=True)
class LoadApart:
    """One load in B buckets; arrays of shape (B,), means over the steps of a bucket."""

    largest: FloatArray
    mean: FloatArray
    smallest: FloatArray
    over_mean: FloatArray
    """Of largest/mean, over the steps with load; NaN for a bucket without any."""


@dataclass(frozen=True)
class Apart:
    """The loads of a run over its steps, in B buckets."""

    steps_per_bucket: int
    first_step: IntArray
    last_step: IntArray
    loads: Mapping[Load, LoadApart]
    """Those that are known."""

    @classmethod
    def of(cls, accounts: BarrierAccounts, lacks: Load | None = None) -> Apart:
        """Of accounted steps, at least one; without the load that the trace lacks."""
        width = -(-len(accounts) // MOST_BUCKETS)
        starts = np.arange(0, len(accounts), width)
        ends = np.append(starts[1:], len(accounts)) - 1
        ranks = accounts.dp_size
        loads: dict[Load, tuple[FloatArray, FloatArray, FloatArray]] = {
            "num_running": (accounts.max_running, accounts.running / ranks, accounts.min_running),
            "kv_tokens": (accounts.max_kv_tokens, accounts.total_kv_tokens / ranks, accounts.min_kv_tokens),
        }
        found = {load: _thinned(*arrays, starts) for load, arrays in loads.items() if load != lacks}
        return cls(width, accounts.step[starts], accounts.step[ends], found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to what a chart shows."""
        return {
            "steps_per_bucket": self.steps_per_bucket,
            "first_step": self.first_step.tolist(),
            "last_step": self.last_step.tolist(),
            **{load: {name: getattr(apart, name).tolist() for name in COLUMNS} for load, apart in self.loads.items()},
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Apart:
        """What `as_dict` made; null is NaN."""
        known: tuple[Load, ...] = ("num_running", "kv_tokens")
        return cls(
            record["steps_per_bucket"],
            np.array(record["first_step"], np.int64),
            np.array(record["last_step"], np.int64),
            {
                load: LoadApart(**{name: np.array(record[load][name], np.float64) for name in COLUMNS})
                for load in known
                if record.get(load)
            },
        )


def _thinned(largest: FloatArray, mean: FloatArray, smallest: FloatArray, starts: IntArray) -> LoadApart:
    sizes = np.diff(np.append(starts, len(largest)))
    loaded = largest > 0
    ratio = np.divide(largest, mean, out=np.zeros_like(largest), where=loaded)
    ratios, steps = np.add.reduceat(ratio, starts), np.add.reduceat(loaded.astype(np.float64), starts)
    over_mean = np.divide(ratios, steps, out=np.full(len(starts), np.nan), where=steps > 0)
    most, middle, least = (_significant(np.add.reduceat(each, starts) / sizes) for each in (largest, mean, smallest))
    return LoadApart(most, middle, least, np.round(over_mean, RATIO_DIGITS))


def _significant(loads: FloatArray) -> FloatArray:
    digits = LOAD_DIGITS - math.ceil(math.log10(max(float(loads.max()), 1.0)))
    return np.asarray(np.round(loads, digits))

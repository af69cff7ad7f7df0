"""How far ranks are apart over the steps, thinned for a chart: largest, mean and smallest load of a rank.

Steps are taken together in buckets as in `thinned.py`. It names no rank, so it needs neither every rank nor both loads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.barrier.thinned import MOST_BUCKETS, RATIO_DIGITS
from lbal.analyzers.trace.trace import FloatArray, IntArray

LOAD_DIGITS = 5
"""Significant digits of loads: more than a chart shows."""
LOADS: tuple[Load, ...] = ("num_running", "kv_tokens")
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
        return cls(
            record["steps_per_bucket"],
            np.array(record["first_step"], np.int64),
            np.array(record["last_step"], np.int64),
            {
                load: LoadApart(**{name: np.array(record[load][name], np.float64) for name in COLUMNS})
                for load in LOADS
                if record.get(load)
            },
        )


class ApartFold:
    """Takes the accounts of `count` steps in their order, block by block."""

    def __init__(self, count: int) -> None:
        self._width = -(-count // MOST_BUCKETS)
        buckets = -(-count // self._width)
        self._first, self._last = np.zeros(buckets, np.int64), np.zeros(buckets, np.int64)
        self._steps = np.zeros(buckets)
        self._loads: dict[Load, LoadSums] = {load: LoadSums.of(buckets) for load in LOADS}
        self._row = 0

    def add(self, accounts: BarrierAccounts) -> None:
        """The accounts of the next steps."""
        bucket = (self._row + np.arange(len(accounts))) // self._width
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        chosen = bucket[starts]
        ends = np.append(starts[1:], len(accounts)) - 1
        begins = (self._row + starts) % self._width == 0
        self._first[chosen[begins]] = accounts.step[starts[begins]]
        self._last[chosen] = accounts.step[ends]
        self._steps[chosen] += ends - starts + 1
        for load, sums in self._loads.items():
            sums.add(most_and_least(accounts, load), chosen, starts)
        self._row += len(accounts)

    def apart(self, lacks: Load | None = None) -> Apart:
        """Of the steps so far, which must be all; without the load that the trace lacks."""
        loads = {load: sums.apart(self._steps) for load, sums in self._loads.items() if load != lacks}
        return Apart(self._width, self._first, self._last, loads)


class MostAndLeast(NamedTuple):
    """A load of each step, (S,): the largest of a rank, the mean one, the smallest."""

    largest: FloatArray
    mean: FloatArray
    smallest: FloatArray

    def loaded(self) -> MostAndLeast:
        """Of the steps in which some rank holds load."""
        return MostAndLeast(*(each[self.largest > 0] for each in self))


def most_and_least(accounts: BarrierAccounts, load: Load) -> MostAndLeast:
    """A load of each accounted step."""
    if load == "kv_tokens":
        sums = (accounts.max_kv_tokens, accounts.total_kv_tokens / accounts.dp_size, accounts.min_kv_tokens)
    else:
        sums = (accounts.max_running, accounts.running / accounts.dp_size, accounts.min_running)
    return MostAndLeast(*sums)


@dataclass
class LoadSums:
    """Sums of a load over the steps of each bucket, (B,)."""

    sums: FloatArray
    """(3, B) of the largest, the mean and the smallest."""
    ratios: FloatArray
    loaded: FloatArray
    """Steps with load, which are those that have a ratio."""

    @classmethod
    def of(cls, buckets: int) -> LoadSums:
        """Of no step."""
        return cls(np.zeros((3, buckets)), np.zeros(buckets), np.zeros(buckets))

    def add(self, loads: MostAndLeast, bucket: IntArray, starts: IntArray) -> None:
        """The loads of steps that begin a bucket, or go on with one, at `starts`."""
        is_loaded = loads.largest > 0
        ratio = np.divide(loads.largest, loads.mean, out=np.zeros_like(loads.largest), where=is_loaded)
        self.sums[:, bucket] += np.add.reduceat(np.stack(loads), starts, axis=1)
        self.ratios[bucket] += np.add.reduceat(ratio, starts)
        self.loaded[bucket] += np.add.reduceat(is_loaded.astype(np.float64), starts)

    def apart(self, steps: FloatArray) -> LoadApart:
        """The means; `steps` are those of each bucket."""
        over_mean = np.divide(self.ratios, self.loaded, out=np.full(len(steps), np.nan), where=self.loaded > 0)
        most, middle, least = (_significant(sums / steps) for sums in self.sums)
        return LoadApart(most, middle, least, np.round(over_mean, RATIO_DIGITS))


def _significant(loads: FloatArray) -> FloatArray:
    digits = LOAD_DIGITS - math.ceil(math.log10(max(float(loads.max()), 1.0)))
    return np.asarray(np.round(loads, digits))

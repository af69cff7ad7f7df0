"""What is drawn of a run: series over its steps, thinned by stated rules, so that a long run is drawn like a short one.

Steps are taken together in buckets of equally many neighbours (the last may hold fewer). A series keeps the mean and
the largest value of each bucket, so no peak is lost; the map of loads keeps means, and of many ranks the largest of
neighbours. The distribution is over all steps: nothing is thinned there.

Results store what is drawn, rounded to what a chart shows: some 50 kB of a run at most, however long it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts, shares
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays

MOST_BUCKETS = 500
"""Points of a series."""
MOST_MAP_STEPS, MOST_MAP_RANKS, MOST_MAP_CELLS = 400, 64, 6_400
"""Columns, rows and cells of the map of loads: with many ranks it has fewer columns."""
SHARE_DIGITS, RATIO_DIGITS, LOAD_DIGITS = 5, 3, 3
"""Places of shares and ratios, and digits of the largest load, that charts show."""
IDLE_BINS = 1_000
"""Bins of the distribution of idle per step: 0.1% each."""


@dataclass(frozen=True)
class StepSeries:
    """A run's steps in B buckets; arrays of shape (B,)."""

    steps: int
    steps_per_bucket: int
    first_step: IntArray
    last_step: IntArray
    idle_fraction: FloatArray
    """Barrier idle over rank-time of the bucket."""
    idle_fraction_max: FloatArray
    """The largest of any step in the bucket."""
    imbalance_ratio: FloatArray
    """Mean of max(L)/mean(L)."""
    idle_bins: IntArray
    """(1000,) steps by their idle fraction, in bins of 0.1%, over all steps."""
    loads: LoadMap | None = None

    def rounded(self) -> StepSeries:
        """With as many digits as charts show, which are all that a result stores."""
        return replace(
            self,
            idle_fraction=np.round(self.idle_fraction, SHARE_DIGITS),
            idle_fraction_max=np.round(self.idle_fraction_max, SHARE_DIGITS),
            imbalance_ratio=np.round(self.imbalance_ratio, RATIO_DIGITS),
            loads=None if self.loads is None else self.loads.rounded(),
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded; of `idle_bins` those up to the last that has steps."""
        shown = self.rounded()
        used = np.flatnonzero(self.idle_bins)
        record = {name: getattr(shown, name).tolist() for name in SERIES_COLUMNS}
        return {
            "steps": self.steps,
            "steps_per_bucket": self.steps_per_bucket,
            **record,
            "idle_bins": self.idle_bins[: used[-1] + 1].tolist() if len(used) else [],
            **({} if shown.loads is None else {"loads": shown.loads.as_dict()}),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> StepSeries:
        """What `as_dict` made."""
        bins = np.zeros(IDLE_BINS, np.int64)
        bins[: len(record["idle_bins"])] = record["idle_bins"]
        return cls(
            steps=record["steps"],
            steps_per_bucket=record["steps_per_bucket"],
            first_step=np.array(record["first_step"], np.int64),
            last_step=np.array(record["last_step"], np.int64),
            idle_fraction=np.array(record["idle_fraction"], np.float64),
            idle_fraction_max=np.array(record["idle_fraction_max"], np.float64),
            imbalance_ratio=np.array(record["imbalance_ratio"], np.float64),
            idle_bins=bins,
            loads=LoadMap.from_dict(record["loads"]) if "loads" in record else None,
        )


class SeriesFold:
    """Makes the series of `count` accounted steps while they pass by; its memory is that of the series."""

    def __init__(self, count: int) -> None:
        self._width = max(-(-count // MOST_BUCKETS), 1)
        buckets = -(-count // self._width)
        self._first, self._last, self._sizes = (np.zeros(buckets, np.int64) for _ in range(3))
        self._step_ms, self._idle_ms, self._ratio = (np.zeros(buckets) for _ in range(3))
        self._most = np.full(buckets, -np.inf)
        self._bins = np.zeros(IDLE_BINS, np.int64)
        self._dp_size = 0
        self._taken = 0

    def add(self, accounts: BarrierAccounts) -> None:
        """The accounts of the next steps."""
        bucket = (self._taken + np.arange(len(accounts))) // self._width
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        into, ends = bucket[starts], np.append(starts[1:], len(accounts))
        begins = (self._taken + starts) % self._width == 0
        self._first[into[begins]] = accounts.step[starts[begins]]
        self._last[into] = accounts.step[ends - 1]
        self._sizes[into] += ends - starts
        idle = accounts.idle_fraction
        for sums, values in (
            (self._step_ms, accounts.step_ms),
            (self._idle_ms, accounts.idle_ms),
            (self._ratio, 1.0 / accounts.balance_ratio),
        ):
            sums[into] += np.add.reduceat(values, starts)
        self._most[into] = np.maximum(self._most[into], np.maximum.reduceat(idle, starts))
        bins = np.clip((idle * IDLE_BINS).astype(np.int64), 0, IDLE_BINS - 1)
        self._bins += np.bincount(bins, minlength=IDLE_BINS)
        self._dp_size = accounts.dp_size
        self._taken += len(accounts)

    def series(self, loads: LoadMap | None = None) -> StepSeries:
        """The series of all steps, once they have passed."""
        return StepSeries(
            steps=self._taken,
            steps_per_bucket=self._width,
            first_step=self._first,
            last_step=self._last,
            idle_fraction=shares(self._idle_ms, self._dp_size * self._step_ms),
            idle_fraction_max=self._most,
            imbalance_ratio=self._ratio / self._sizes,
            idle_bins=self._bins,
            loads=None if loads is None else loads.within(int(self._first[0]), int(self._last[-1])),
        )


SERIES_COLUMNS = ("first_step", "last_step", "idle_fraction", "idle_fraction_max", "imbalance_ratio")
"""The columns of a series, one value for each bucket."""


@dataclass(frozen=True)
class LoadMap:
    """KV tokens by step and rank, thinned to M buckets of steps by R rows of ranks."""

    steps_per_bucket: int
    ranks_per_row: int
    """Neighbouring ranks that share a row, which shows the largest of them in each step."""
    dp_size: int
    first_step: IntArray
    last_step: IntArray
    kv_tokens: FloatArray
    """(M, R) means over the steps of a bucket."""

    def within(self, first: int, last: int) -> LoadMap:
        """The buckets that have steps of that span."""
        chosen = (self.last_step >= first) & (self.first_step <= last)
        return LoadMap(
            self.steps_per_bucket,
            self.ranks_per_row,
            self.dp_size,
            self.first_step[chosen],
            self.last_step[chosen],
            self.kv_tokens[chosen],
        )

    @property
    def unit(self) -> int:
        """Tokens that a cell is rounded to: a power of ten that leaves the largest cell its digits."""
        top = float(np.nan_to_num(self.kv_tokens).max(initial=1.0))
        return int(10 ** max(math.ceil(math.log10(top)) - LOAD_DIGITS, 0))

    def rounded(self) -> LoadMap:
        """With as many digits as charts show."""
        return replace(self, kv_tokens=np.round(self.kv_tokens / self.unit) * self.unit)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: cells in whole units, null where the load is not known."""
        cells = np.round(self.kv_tokens / self.unit).tolist()
        return {
            "steps_per_bucket": self.steps_per_bucket,
            "ranks_per_row": self.ranks_per_row,
            "dp_size": self.dp_size,
            "first_step": self.first_step.tolist(),
            "last_step": self.last_step.tolist(),
            "unit_tokens": self.unit,
            "kv_tokens": [[None if math.isnan(cell) else int(cell) for cell in row] for row in cells],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> LoadMap:
        """What `as_dict` made."""
        return cls(
            steps_per_bucket=record["steps_per_bucket"],
            ranks_per_row=record["ranks_per_row"],
            dp_size=record["dp_size"],
            first_step=np.array(record["first_step"], np.int64),
            last_step=np.array(record["last_step"], np.int64),
            kv_tokens=np.array(record["kv_tokens"], np.float64) * record["unit_tokens"],
        )


class LoadThinner:
    """Makes the map of loads while the steps pass by, however many there will be; its memory is that of the map.

    Buckets hold one step each until there are too many; then neighbours are joined and each holds twice as many.
    """

    def __init__(self) -> None:
        self._width = 1
        self._taken = 0
        self._dp_size = 0
        self._most = MOST_MAP_STEPS
        self._sums = np.zeros((0, 0))
        self._first = np.zeros(MOST_MAP_STEPS, np.int64)
        self._last = np.zeros(MOST_MAP_STEPS, np.int64)

    def add(self, steps: StepArrays) -> None:
        """The next steps, in their order."""
        if not self._taken:
            self._dp_size = steps.dp_size
            height = -(-steps.dp_size // self._ranks_per_row)
            self._most = min(MOST_MAP_STEPS, MOST_MAP_CELLS // height // 2 * 2)  # even: neighbours are joined
            self._sums = np.zeros((self._most, height))
        count = len(steps)
        while self._taken + count > self._width * self._most:
            self._join_neighbours()
        bucket = (self._taken + np.arange(count)) // self._width
        starts = np.flatnonzero(np.diff(bucket, prepend=-1))
        rows = np.arange(0, self._dp_size, self._ranks_per_row)
        loads = steps.kv_tokens if len(rows) == self._dp_size else np.maximum.reduceat(steps.kv_tokens, rows, axis=1)
        self._sums[bucket[starts]] += np.add.reduceat(loads, starts, axis=0)
        begins = (self._taken + starts) % self._width == 0
        self._first[bucket[starts[begins]]] = steps.step[starts[begins]]
        self._last[bucket[starts]] = steps.step[np.append(starts[1:], count) - 1]
        self._taken += count

    @property
    def _ranks_per_row(self) -> int:
        return -(-self._dp_size // MOST_MAP_RANKS)

    def _join_neighbours(self) -> None:
        half = self._most // 2
        used = -(-self._taken // self._width)
        last = self._last[1 : self._most : 2].copy()
        if used % 2:
            last[used // 2] = self._last[used - 1]
        self._first[:half], self._last[:half] = self._first[: self._most : 2].copy(), last[:half]
        self._sums[:half] = self._sums[::2] + self._sums[1::2]
        self._sums[half:] = 0.0
        self._width *= 2

    def load_map(self) -> LoadMap:
        """The map of all steps so far; at least one."""
        used = -(-self._taken // self._width)
        sizes = np.full(used, self._width)
        sizes[-1] = self._taken - (used - 1) * self._width
        return LoadMap(
            steps_per_bucket=self._width,
            ranks_per_row=self._ranks_per_row,
            dp_size=self._dp_size,
            first_step=self._first[:used].copy(),
            last_step=self._last[:used].copy(),
            kv_tokens=(self._sums[:used] / sizes[:, None]),
        )

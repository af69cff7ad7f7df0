"""What is drawn of a run: series over its steps, thinned by stated rules, so that a long run is drawn like a short one.

Steps are taken together in buckets of equally many neighbours (the last may hold fewer). A series keeps the mean and
the largest value of each bucket, so no peak is lost; the map of loads keeps means, and of many ranks the largest of
neighbours. The distribution is over all steps: nothing is thinned there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays

MOST_BUCKETS = 1_000
"""Points of a series."""
MOST_MAP_STEPS, MOST_MAP_RANKS = 400, 64
"""Cells of the map of loads."""
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

    @classmethod
    def of(cls, accounts: BarrierAccounts, loads: LoadMap | None = None) -> StepSeries:
        """The series of accounted steps; at least one step."""
        width = -(-len(accounts) // MOST_BUCKETS)
        starts = np.arange(0, len(accounts), width)
        sizes = np.diff(np.append(starts, len(accounts)))
        idle, ratio = accounts.idle_fraction, 1.0 / accounts.balance_ratio
        rank_ms = accounts.dp_size * np.add.reduceat(accounts.step_ms, starts)
        bins = np.clip((idle * IDLE_BINS).astype(np.int64), 0, IDLE_BINS - 1)
        return cls(
            steps=len(accounts),
            steps_per_bucket=width,
            first_step=accounts.step[starts],
            last_step=accounts.step[starts + sizes - 1],
            idle_fraction=np.add.reduceat(accounts.idle_ms, starts) / rank_ms,
            idle_fraction_max=np.maximum.reduceat(idle, starts),
            imbalance_ratio=np.add.reduceat(ratio, starts) / sizes,
            idle_bins=np.bincount(bins, minlength=IDLE_BINS),
            loads=None if loads is None else loads.within(int(accounts.step[0]), int(accounts.step[-1])),
        )


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


class LoadThinner:
    """Makes the map of loads while the steps pass by, however many there will be; its memory is that of the map.

    Buckets hold one step each until there are too many; then neighbours are joined and each holds twice as many.
    """

    def __init__(self) -> None:
        self._width = 1
        self._taken = 0
        self._dp_size = 0
        self._sums = np.zeros((0, 0))
        self._first = np.zeros(MOST_MAP_STEPS, np.int64)
        self._last = np.zeros(MOST_MAP_STEPS, np.int64)

    def add(self, steps: StepArrays) -> None:
        """The next steps, in their order."""
        if not self._taken:
            self._dp_size = steps.dp_size
            self._sums = np.zeros((MOST_MAP_STEPS, -(-steps.dp_size // self._ranks_per_row)))
        count = len(steps)
        while self._taken + count > self._width * MOST_MAP_STEPS:
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
        half = MOST_MAP_STEPS // 2
        used = -(-self._taken // self._width)
        last = self._last[1::2].copy()
        if used % 2:
            last[used // 2] = self._last[used - 1]
        self._first[:half], self._last[:half] = self._first[::2].copy(), last
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

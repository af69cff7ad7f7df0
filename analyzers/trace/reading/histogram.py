"""Histograms and counters as servers export them: what was counted between the first look and the last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Counted:
    """A counter at its first and its last look; since the start of the server where it began anew between them."""

    first: float | None = None
    last: float = 0.0

    def see(self, value: float) -> None:
        """The value at the next look."""
        if self.first is None or value < self.last:
            self.first = value if self.first is None else 0.0
        self.last = value

    def grown(self, *, several: bool) -> float:
        """What was counted between the looks; of a single look all since the start."""
        return self.last - (self.first or 0.0) if several else self.last


@dataclass
class Histogram:
    """Buckets by upper bound, each with all values up to it; the sum and the number of values."""

    buckets: dict[float, Counted] = field(default_factory=dict)
    sum: Counted = field(default_factory=Counted)
    count: Counted = field(default_factory=Counted)

    def mean(self, *, several: bool) -> float:
        """Sum over number; NaN where either is unknown."""
        if self.sum.first is None or self.count.first is None or not (number := self.count.grown(several=several)):
            return math.nan
        return self.sum.grown(several=several) / number


def pooled(histograms: Sequence[Histogram], *, several: bool) -> tuple[float, float, Mapping[float, float]]:
    """Sum, number and buckets of the values of several histograms together."""
    buckets: dict[float, float] = {}
    for histogram in histograms:
        for bound, counted in histogram.buckets.items():
            buckets[bound] = buckets.get(bound, 0.0) + counted.grown(several=several)
    sums = (sum(getattr(each, name).grown(several=several) for each in histograms) for name in ("sum", "count"))
    total, number = sums
    return total, number, buckets


def bound_of(share: float, number: float, buckets: Mapping[float, float]) -> float:
    """The smallest bound of a bucket below which that share of the values lies; NaN where no finite one is known."""
    for bound in sorted(buckets):
        if number > 0 and buckets[bound] >= share * number:
            return bound if math.isfinite(bound) else math.nan
    return math.nan

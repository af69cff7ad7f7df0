"""The accounts of a run, added up as its steps pass by: what figures need of them, however many steps there are."""

from __future__ import annotations

from typing import Any

import numpy as np

from lbal.analyzers.array_file import ArrayFile
from lbal.analyzers.barrier.accounts import BarrierAccounts, join
from lbal.analyzers.barrier.apart import ApartFold
from lbal.analyzers.barrier.processed import Processed
from lbal.analyzers.barrier.spread import SpreadFold
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.thinned import SeriesFold
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.statistics.long_series import KEEP_BYTES, LongSeries

MOST_BINS = 128
WORST_STEPS = 5


def bin_edges(count: int, bins: int) -> Any:
    """(bins + 1,) where the bins of the rule in `energy/binned_sums.py` begin, and the end."""
    return np.arange(bins + 1, dtype=np.int64) * count // bins


class AccountFold:
    """Takes the accounts of `count` steps in their order, block by block, and keeps sums alone."""

    def __init__(self, count: int, model: StepTimeModel) -> None:
        self.model = model
        self.series = SeriesFold(count)
        self.apart = ApartFold(count)
        """These two are what charts draw."""
        self.worst: BarrierAccounts
        """Of the steps with the most barrier idle, in the order of the run."""
        self.totals: RunTotals
        self.workless = 0
        """Steps in which no rank takes any time: none waits for another, so no share of idle is theirs."""
        self.sums: BarrierAccounts
        """Without steps: of these accounts only the sums over the steps are told."""
        self._edges = bin_edges(count, min(count, MOST_BINS))
        self._bins: list[RunTotals | None] = [None] * (len(self._edges) - 1)
        file = ArrayFile(KEEP_BYTES)
        self.spread = SpreadFold(file)
        self.decoded = Processed(0.0, 0, 0.0)
        """How evenly the tokens that the steps decode fall on the ranks."""
        self._idle_fraction = LongSeries(file)
        self._row = 0

    @classmethod
    def of(cls, accounts: BarrierAccounts, model: StepTimeModel) -> AccountFold:
        """Of accounts that are there as a whole."""
        fold = cls(len(accounts), model)
        fold.add(accounts)
        return fold

    def add(self, accounts: BarrierAccounts) -> None:
        """The accounts of the next steps."""
        totals, sums = RunTotals.of(accounts, self.model), accounts.part(slice(0, 0))
        first = not self._row
        self.totals = totals if first else self.totals + totals
        self.sums = sums if first else join([self.sums, sums])
        worst = accounts if first else join([self.worst, accounts])
        self.worst = worst.part(np.sort(np.argsort(-worst.idle_ms, kind="stable")[:WORST_STEPS]))
        works = (accounts.slowest_ms > 0) & (accounts.step_ms > 0)
        self.workless += int((~works).sum())
        self._idle_fraction.add(accounts.idle_fraction[works])
        self.series.add(accounts)
        self.apart.add(accounts)
        self.spread.add(accounts)
        self.decoded += Processed.of_decode(accounts)
        self._add_to_bins(accounts)
        self._row += len(accounts)

    def _add_to_bins(self, accounts: BarrierAccounts) -> None:
        end = self._row + len(accounts)
        for index in range(int(np.searchsorted(self._edges, self._row, side="right")) - 1, len(self._bins)):
            start, stop = (min(max(int(edge), self._row), end) - self._row for edge in self._edges[index : index + 2])
            if start == stop:
                return
            part, before = RunTotals.of(accounts.part(slice(start, stop)), self.model), self._bins[index]
            self._bins[index] = part if before is None else before + part

    def __len__(self) -> int:
        """Steps so far."""
        return self._row

    @property
    def bins(self) -> list[RunTotals]:
        """The totals of each bin of steps."""
        return [totals for totals in self._bins if totals is not None]

    def idle_percentile(self, share: int) -> float:
        """Percentile over the steps with work of the share of a step's rank-time that is barrier idle."""
        return self._idle_fraction.percentile(share)

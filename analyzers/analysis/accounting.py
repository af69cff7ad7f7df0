"""The accounts of steps that pass by in blocks: one pass for all that is kept of them."""

from __future__ import annotations

from dataclasses import dataclass

from lbal.analyzers.analysis.active import ActiveRequests
from lbal.analyzers.barrier.account_pass import PowerCurves
from lbal.analyzers.barrier.accounts import BarrierAccounts, account
from lbal.analyzers.barrier.bounds import unavoidable_idle_ms
from lbal.analyzers.barrier.clock import StepClock
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.mixed_work import lacks_pairs
from lbal.analyzers.barrier.processed import Processed
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import StepArrays


@dataclass(frozen=True)
class Accounting:
    """How steps are accounted for: see `account`."""

    model: StepTimeModel
    measured: bool
    curves: PowerCurves | None = None
    constant_ms: float = 0.0

    def of(self, steps: StepArrays) -> BarrierAccounts:
        """The accounts of some steps."""
        return account(steps, self.model, measured=self.measured, curves=self.curves, constant_ms=self.constant_ms)


@dataclass
class Accounted:
    """What is kept of the accounts of the steps of a window: sums over them."""

    fold: AccountFold
    clock: StepClock
    processed: Processed
    unavoidable_ms: float = 0.0
    """Idle over all ranks that no placement of the same admissions avoids."""
    modelled_idle_ms: float = 0.0
    """Idle over all ranks, and rank-time, under the model, where the rank times are measured ones too."""
    modelled_rank_ms: float = 0.0
    most_running: int = 0
    """The largest number of running requests of a rank."""
    lacks_pairs: bool = False
    """Whether the pairs of some prefill are unknown."""


def accounted(
    steps: StepBlocks, first_row: int, how: Accounting, active: ActiveRequests | None, bound_by: StepTimeModel
) -> Accounted:
    """Account for the steps, the first of which is in that row of all. Raises as `account` does.

    `active` knows the requests in them; `bound_by` is the model that says what is unavoidable.
    """
    found = Accounted(AccountFold(len(steps), how.model), StepClock(), Processed(0.0, 0, 0.0))
    row = first_row
    for block in steps:
        accounts = how.of(block)
        found.fold.add(accounts)
        found.clock.add(block, accounts.step_ms)
        found.processed += Processed.of(block, accounts.step_ms)
        own = None if active is None else active.single_loads(row, block)
        found.unavoidable_ms += float(unavoidable_idle_ms(accounts, own, bound_by).sum())
        modelled = account(block, how.model, measured=False) if how.measured else accounts
        found.modelled_idle_ms += float(modelled.idle_ms.sum())
        found.modelled_rank_ms += float(modelled.dp_size * modelled.step_ms.sum())
        found.lacks_pairs |= lacks_pairs(block)
        found.most_running = max(found.most_running, int(block.num_running.max()))
        row += len(block)
    return found


def totals(steps: StepBlocks, how: Accounting) -> RunTotals:
    """The totals of the accounts of the steps."""
    parts = (RunTotals.of(how.of(block), how.model) for block in steps)
    return sum(parts, start=next(parts))

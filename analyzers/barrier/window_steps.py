"""What the figures of a run are computed from: its accounted steps, and what is known of the run."""

from __future__ import annotations

from dataclasses import dataclass

from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.barrier.processed import Processed
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals


@dataclass(frozen=True)
class WindowSteps:
    """The accounted steps of a window, with what is known of the run. Times in ms."""

    fold: AccountFold
    max_num_seqs: int | None
    makespan_ms: float
    """End of the last step - start of the first."""
    kv_capacity: int | None = None
    """KV tokens that fit on a rank, where that is known."""
    lacks: Load | None = None
    """The load that the trace lacks; the other stands in for it in the accounts."""
    processed: Processed | None = None
    """The tokens that the steps process, prefill among them; None where there is no prefill."""

    @property
    def model(self) -> StepTimeModel:
        """What the accounts were taken with."""
        return self.fold.model

    @property
    def totals(self) -> RunTotals:
        """The sums of the steps."""
        return self.fold.totals

    @property
    def tokens_processed(self) -> Processed:
        """How evenly the tokens that the steps process fall on the ranks."""
        return self.processed or self.fold.decoded

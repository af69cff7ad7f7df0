"""How evenly the tokens that steps process fall on the ranks: TensorRT-LLM's balance ratio and speed-of-light time.

A step processes a token of each running request and the tokens that it prefills. TensorRT-LLM's tech blog 10, on its
ADP balance strategy, has balance_ratio = mean over ranks / max over ranks of a step's tokens, and
sol_time = sum over steps of time * balance_ratio: what they would take if all of a step followed its largest share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lbal.analyzers.barrier.accounts import BarrierAccounts
from lbal.analyzers.trace.trace import FloatArray, StepArrays


@dataclass(frozen=True)
class Processed:
    """Sums over steps; those of two parts of a run add up."""

    ratio: float
    """Of the balance ratios, over the steps that process a token."""
    steps: int
    """Those steps."""
    sol_ms: float
    """The speed-of-light time; a step that processes nothing counts in full."""

    def __add__(self, other: Processed) -> Processed:
        return Processed(self.ratio + other.ratio, self.steps + other.steps, self.sol_ms + other.sol_ms)

    @classmethod
    def of(cls, steps: StepArrays, step_ms: FloatArray) -> Processed:
        """Of steps whose running requests are known; `step_ms` (S,) are the times that count."""
        tokens = steps.num_running
        if steps.prefill_tokens is not None:
            tokens = tokens + np.nan_to_num(steps.prefill_tokens)
        return cls._of(tokens.mean(axis=1), tokens.max(axis=1), step_ms)

    @classmethod
    def of_decode(cls, accounts: BarrierAccounts) -> Processed:
        """Of accounted steps without prefill."""
        return cls._of(accounts.running / accounts.dp_size, accounts.max_running, accounts.step_ms)

    @classmethod
    def _of(cls, mean: FloatArray, largest: FloatArray, step_ms: FloatArray) -> Processed:
        ratio = np.divide(mean, largest, out=np.ones_like(mean), where=largest > 0)
        works = largest > 0
        return cls(float(ratio[works].sum()), int(works.sum()), float((step_ms * ratio).sum()))

"""One step's placement problem, and what a solution of it is.

Choose which waiting requests go to which ranks, filling as many free slots as there are requests for, to minimise

    J = sum over h = 0..H of w_h * ( overflow * max_g L_g(h) - sum_g L_g(h) )

where L_g(h) is the projected load of rank g at step k+h: its active requests plus the placed ones (arXiv 2601.17855
has w_h = 1 and overflow = G, so that J is the imbalance summed over the window).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray

Status = Literal["optimal", "feasible"]


@dataclass(frozen=True)
class StepProblem:
    """The problem of one step, over G ranks, R waiting requests and a window of H+1 steps."""

    loads: FloatArray
    """(G, H+1) projected load of every rank without the waiting requests."""
    free_slots: IntArray
    """(G,)"""
    profiles: FloatArray
    """(R, H+1) projected load of every waiting request if it is admitted now, in pool order."""
    weights: FloatArray
    """(H+1,) weight of each step of the window, at least 0."""
    overflow: float
    """Weight of the largest load; G in the paper."""
    room: FloatArray
    """(G,) KV tokens that may still be reserved on a rank; infinite without a capacity."""
    reserved: IntArray
    """(R,) KV tokens that admitting a request reserves."""
    forced: NDArray[np.bool_]
    """(R,) whether a request must be among the placed ones (it has waited long enough)."""
    allowed: NDArray[np.bool_]
    """(R,) whether a request may be among the placed ones (it is near enough to the head of the pool)."""

    @property
    def num_placed(self) -> int:
        """How many requests are placed where KV room does not limit them: min(free slots, allowed requests)."""
        return int(min(self.free_slots.sum(), self.allowed.sum()))

    def objective(self, requests: IntArray, ranks: IntArray) -> float:
        """J of a placement: `requests` (indices into the pool) and their `ranks`, shape (U,) each."""
        loads = self.loads.copy()
        np.add.at(loads, ranks, self.profiles[requests])
        return float(self.weights @ (self.overflow * loads.max(axis=0) - loads.sum(axis=0)))


@dataclass(frozen=True)
class Solution:
    """A placement and what is known of its quality."""

    requests: IntArray
    """(U,) placed requests, as indices into the pool."""
    ranks: IntArray
    """(U,) their ranks."""
    objective: float
    bound: float | None
    """Proven lower bound of J over all placements; None where the method proves nothing."""
    status: Status
    seconds: float

    @property
    def gap(self) -> float | None:
        """Objective minus bound, in the unit of J; None without a bound."""
        return None if self.bound is None else self.objective - self.bound

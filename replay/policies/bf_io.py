"""BF-IO: the step's placement as an integer program."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from lbal.analyzers.trace import IntArray
from lbal.replay.jitable import jitable
from lbal.replay.policy import Selector
from lbal.replay.predictors import Predicting
from lbal.replay.projection import load_units, project_active, project_waiting
from lbal.replay.solver.fast import fast_placement
from lbal.replay.view import STEP, View

HORIZON, LOAD, METHOD, DISCOUNT, OVERFLOW, SLACK, MAX_WAIT = range(2, 9)
"""Places in `View.parameters`, after those of the predictor."""
TIME = 0
"""`load=time` among its choices."""


@dataclass(frozen=True)
class BfIo(Predicting, Selector):
    """Places the waiting requests that lower the projected imbalance over the next steps most."""

    name: ClassVar[str] = "bf-io"
    looks_at: ClassVar[str] = "rank times, prompts and predicted lengths"
    source: ClassVar[str] = "arXiv 2601.17855"

    horizon: int = 5
    """H, steps looked ahead."""
    load: Literal["time", "kv"] = "time"
    """What is balanced: rank time by the step model, or KV tokens as in the paper."""
    method: Literal["fast", "exact"] = "fast"
    discount: float = 0.6
    """Weight of each step relative to the one before it."""
    overflow: float = 0.0
    """Weight of the largest load; 0 for G."""
    slack: int = -1
    """Only the first U+slack waiting requests are considered where U can be placed; -1 for all."""
    max_wait: int = 0
    """Requests that have waited that many steps go first; 0 for never."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("horizon", 0), ("slack", -1), ("max_wait", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: {getattr(self, name)} is too few, expected at least {least}")
        if not 0 < self.discount <= 1:
            raise ValueError(f"discount: {self.discount} is no discount, expected a number above 0 and at most 1")
        if not 0 <= self.overflow < math.inf:
            raise ValueError(f"overflow: {self.overflow} is no weight, expected a number above 0, or 0 for G")

    @property
    def uses_true_lengths(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().uses_true_lengths

    @property
    def uses_draws(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().uses_draws

    @property
    def learns_lengths(self) -> bool:  # type: ignore[override]
        """As the predictor does, if there is anything to predict."""
        return self.horizon > 0 and super().learns_lengths

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """The placement with about the least J (`solver.fast`)."""
        numbers = view.parameters
        per_token, per_request = load_units(view, numbers[LOAD] == TIME)
        steps = int(numbers[HORIZON]) + 1
        loads, profiles = np.zeros((view.dp_size, steps)), np.zeros((size, steps))
        project_active(view, per_token, per_request, loads)
        project_waiting(view, pool, size, per_token, per_request, profiles)
        weights = np.ones(steps)
        for h in range(1, steps):
            weights[h] = weights[h - 1] * numbers[DISCOUNT]
        free = view.max_num_seqs - view.num_running
        forced, allowed = np.zeros(size, np.bool_), np.ones(size, np.bool_)
        if numbers[MAX_WAIT] > 0:
            for index in range(size):
                forced[index] = view.clock[STEP] - view.arrived_step[pool[index]] >= numbers[MAX_WAIT]
        if numbers[SLACK] >= 0:
            allowed[min(int(min(free.sum(), size) + numbers[SLACK]), size) :] = False
        reserved = view.reserved_tokens[pool[:size]]
        overflow = numbers[OVERFLOW] if numbers[OVERFLOW] > 0 else float(view.dp_size)
        placed = fast_placement(
            loads, profiles, weights, overflow, free, view.free_kv, reserved, forced, allowed, requests, ranks, 15, 1
        )
        for index in range(placed):
            requests[index] = pool[requests[index]]
        return fill_what_fits(view, pool, size, requests, ranks, placed)


@jitable
def fill_what_fits(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray, placed: int) -> int:
    """Give the free slots that are left to waiting requests, in order, each to the rank with most KV room."""
    free, free_kv = view.max_num_seqs - view.num_running, view.free_kv.copy()
    left = min(free.sum(), size) - placed
    if left == 0:
        return placed
    for index in range(placed):
        free[ranks[index]] -= 1
        free_kv[ranks[index]] -= view.reserved_tokens[requests[index]]
    taken = np.zeros(size, np.bool_)
    for index in range(size):
        for other in range(placed):
            taken[index] |= requests[other] == pool[index]
    for index in range(size):
        if taken[index]:
            continue
        best = -1
        for rank in range(view.dp_size):
            if free[rank] > 0 and (best < 0 or free_kv[rank] > free_kv[best]):
                best = rank
        if best < 0:
            break
        if view.reserved_tokens[pool[index]] <= free_kv[best]:
            requests[placed], ranks[placed] = pool[index], best
            free[best] -= 1
            free_kv[best] -= view.reserved_tokens[pool[index]]
            placed += 1
    return placed

"""BalanceRoute without a look ahead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.policy.named import parameters_of
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.view import View
from lbal.replay.solver.balance_route import balance_route


@dataclass(frozen=True)
class Br0(Selector):
    """Each rank in turn takes what lowers the imbalance G*max - sum of KV tokens most, within its free slots.

    F_g(Q) = D - G*max(D - m_g, 0), D the prompts in Q and m_g = max L - L_g. While slots are plentiful, the rank with
    most free slots takes the request with the largest F; when they are scarce, the least loaded rank takes the subset
    with the largest F, or one request where none is positive. The choices that the paper's summary leaves open are
    listed in `replay/solver/balance_route.py`.
    """

    name: ClassVar[str] = "br-0"
    looks_at: ClassVar[str] = "KV tokens and prompts"
    source: ClassVar[str] = "arXiv 2605.06113, BR-0"

    candidates: int = 64
    """Waiting requests, from the head of the pool, that are considered at a time."""

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates: {self.candidates} is too few, expected at least 1")

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """BalanceRoute on the loads of the next step alone."""
        loads = view.kv_tokens.copy().reshape((view.dp_size, 1))
        candidates = int(view.parameters[P.candidates])
        weights = np.ones(1)
        return balance_route(view, pool, size, requests, ranks, loads, weights, 1.0, float(view.dp_size), candidates)


P = parameters_of(Br0)

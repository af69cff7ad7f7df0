"""Policies in plain Python: next to nothing in their rules, so that being called is measured, or notes of problems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.policies.bf_io import BfIo, problem_of
from lbal.replay.policy.policy import Router, Selector
from lbal.replay.policy.view import View
from lbal.replay.solver import StepProblem, solve


@dataclass(frozen=True)
class OnlyRank(Selector):
    """The first in line to rank 0: for one rank with one slot."""

    name: ClassVar[str] = "bench-only-rank"
    looks_at: ClassVar[str] = "nothing"
    compiled: ClassVar[bool] = False

    def place(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:  # type: ignore[override]
        """One request."""
        requests[0] = pool[0]
        ranks[0] = 0
        return 1


@dataclass(frozen=True)
class FirstFit(Selector):
    """The first in line to the first ranks with free slots."""

    name: ClassVar[str] = "bench-first-fit"
    looks_at: ClassVar[str] = "free slots"
    compiled: ClassVar[bool] = False

    def place(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:  # type: ignore[override]
        """As many as there are free slots."""
        free = view.max_num_seqs - view.num_running
        slots = np.arange(view.dp_size).repeat(free)
        count = min(size, len(slots))
        requests[:count] = pool[:count]
        ranks[:count] = slots[:count]
        return count


@dataclass(frozen=True)
class FirstEligible(Router):
    """The first rank that can take the request."""

    name: ClassVar[str] = "bench-first-eligible"
    looks_at: ClassVar[str] = "free slots"
    compiled: ClassVar[bool] = False

    def choose(self, view: View, request: int) -> int:  # type: ignore[override]
        """The lowest eligible rank."""
        return int(view.eligible.argmax())


@dataclass(frozen=True)
class Noting(BfIo):
    """bf-io that notes the problem of every step it decides."""

    name: ClassVar[str] = "noting"
    compiled: ClassVar[bool] = False  # type: ignore[assignment]
    problems: ClassVar[list[StepProblem]] = []

    def decide(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """What `bf-io` decides."""
        problem = problem_of(view, pool, size)
        self.problems.append(problem)
        solution = solve(problem)
        placed = len(solution.requests)
        requests[:placed], ranks[:placed] = pool[solution.requests], solution.ranks
        return placed

"""Ranks in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import STEP, View


@dataclass(frozen=True)
class RoundRobin(Router):
    """Ranks in turn, skipping those that are full; the turn goes on from step to step."""

    restart: bool = False
    """Begin at rank 0 in every step, as the released simulator of arXiv 2601.17855 does."""

    name: ClassVar[str] = "round-robin"
    looks_at: ClassVar[str] = "nothing"
    memory: ClassVar[Memory] = Memory(next_rank=1, last_step=1)
    """The next rank, and the step of the last decision plus one."""

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The next eligible rank at or after the turn."""
        first = int(view.memory[M.next_rank])
        this_step = view.clock[STEP] + 1
        if view.parameters[P.restart] > 0 and view.memory[M.last_step] != this_step:
            first = 0
        for offset in range(view.dp_size):
            rank = (first + offset) % view.dp_size
            if view.eligible[rank]:
                view.memory[M.next_rank] = (rank + 1) % view.dp_size
                view.memory[M.last_step] = this_step
                return rank
        return WAIT


P, M = parameters_of(RoundRobin), RoundRobin.memory.places

"""A router with a mistake: it keeps the next rank in a memory that it does not declare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import Router
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class Forgetful(Router):
    """Ranks in turn."""

    name: ClassVar[str] = "forgetful"
    looks_at: ClassVar[str] = "nothing"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The next rank that can take the request."""
        rank = int(view.memory[0])
        while not view.eligible[rank]:
            rank = (rank + 1) % view.dp_size
        view.memory[0] = (rank + 1) % view.dp_size
        return rank

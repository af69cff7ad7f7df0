"""First come, first served, onto the first rank with a free slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class Fcfs(Router):
    """Each request to the first rank with a free slot, rank 0 upward."""

    name: ClassVar[str] = "fcfs"
    looks_at: ClassVar[str] = "free slots"
    source: ClassVar[str] = "arXiv 2601.17855, its baseline FCFS"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The lowest rank that can take the request."""
        for rank in range(view.dp_size):
            if view.eligible[rank]:
                return rank
        return WAIT

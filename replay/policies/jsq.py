"""Join the shortest queue, in requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class Jsq(Router):
    """The rank with the fewest requests (running + waiting); the lowest of equals."""

    name: ClassVar[str] = "jsq"
    looks_at: ClassVar[str] = "requests"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The eligible rank with the fewest requests."""
        best, least = WAIT, 0
        for rank in range(view.dp_size):
            load = view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank]
            if view.eligible[rank] and (best == WAIT or load < least):
                best, least = rank, load
        return best

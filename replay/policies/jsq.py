"""Join the shortest queue, in requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class Jsq(Scored):
    """The rank with the fewest requests (running + waiting); the lowest of equals."""

    name: ClassVar[str] = "jsq"
    looks_at: ClassVar[str] = "requests"

    @staticmethod
    def score(view: View, request: int, rank: int) -> int:
        """Requests on the rank and on their way to it."""
        return int(view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank])

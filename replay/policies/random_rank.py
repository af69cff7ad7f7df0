"""A random rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class RandomRank(Router):
    """A uniformly random rank with a free slot, from the seed."""

    name: ClassVar[str] = "random"
    looks_at: ClassVar[str] = "nothing"
    uses_draws: ClassVar[bool] = True

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The k-th eligible rank, with k from the request's own random number."""
        left = int(view.draws[request, 0] * view.eligible.sum())
        for rank in range(view.dp_size):
            if view.eligible[rank]:
                if left == 0:
                    return rank
                left -= 1
        return WAIT

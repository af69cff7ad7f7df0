"""A router in the compiled form: the rank whose rank time is smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import View

PER_REQUEST = 0
"""Place of the parameter in `view.parameters`: they stand there in the order of the fields."""


@dataclass(frozen=True)
class LeastWork(Router):
    """The rank with the least work: its KV tokens, and every request counts as some tokens more."""

    per_request: float = 10_000.0
    """KV tokens that take as long as a request: b/a of the step-time model."""

    name: ClassVar[str] = "least-work"
    looks_at: ClassVar[str] = "KV tokens and requests"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The eligible rank with the least work; the lowest of equals."""
        best, least = WAIT, 0.0
        for rank in range(view.dp_size):
            requests = view.num_running[rank] + view.num_waiting[rank]
            work = view.kv_tokens[rank] + view.tokens_waiting[rank] + view.parameters[PER_REQUEST] * requests
            if view.eligible[rank] and (best == WAIT or work < least):
                best, least = rank, work
        return best

"""Join the shortest queue, in KV tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class JsqKv(Router):
    """The rank with the fewest KV tokens (resident + prompts in its own queue); the lowest of equals."""

    name: ClassVar[str] = "jsq-kv"
    looks_at: ClassVar[str] = "KV tokens"
    source: ClassVar[str] = "arXiv 2601.17855, `JSQ` of its released simulator"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The eligible rank with the fewest KV tokens."""
        best, least = WAIT, 0.0
        for rank in range(view.dp_size):
            load = view.kv_tokens[rank] + view.tokens_waiting[rank] + view.tokens_dispatched[rank]
            if view.eligible[rank] and (best == WAIT or load < least):
                best, least = rank, load
        return best

"""Join the shortest queue, in KV tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class JsqKv(Scored):
    """The rank with the fewest KV tokens (resident + prompts in its own queue); the lowest of equals."""

    name: ClassVar[str] = "jsq-kv"
    looks_at: ClassVar[str] = "KV tokens"
    source: ClassVar[str] = "arXiv 2601.17855, `JSQ` of its released simulator"

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """KV tokens on the rank, in its queue and on their way to it."""
        return float(view.kv_tokens[rank] + view.tokens_waiting[rank] + view.tokens_dispatched[rank])

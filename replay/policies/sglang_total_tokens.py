"""SGLang's data-parallel controller, by tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policies.sglang_total_requests import SglangTotalRequests
from lbal.replay.policy.policy import WAIT
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class SglangTotalTokens(SglangTotalRequests):
    """Fewest KV + waiting prompt tokens in a snapshot, plus the prompts sent since; of equals fewest requests."""

    name: ClassVar[str] = "sglang-total-tokens"
    looks_at: ClassVar[str] = "KV tokens"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The eligible rank with the fewest tokens, then requests, then the lowest."""
        best, least_tokens, least_requests = WAIT, 0.0, 0
        for rank in range(view.dp_size):
            tokens = view.kv_tokens[rank] + view.tokens_waiting[rank] + view.tokens_dispatched[rank]
            load = view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank]
            if view.eligible[rank] and (
                best == WAIT or tokens < least_tokens or (tokens == least_tokens and load < least_requests)
            ):
                best, least_tokens, least_requests = rank, tokens, load
        return best

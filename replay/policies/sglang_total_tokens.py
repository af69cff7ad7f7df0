"""SGLang's data-parallel controller, by tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from lbal.replay.policies.sglang_total_requests import SglangTotalRequests
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class SglangTotalTokens(SglangTotalRequests):
    """Fewest KV + waiting prompt tokens in a snapshot, plus the prompts sent since; of equals fewest requests."""

    name: ClassVar[str] = "sglang-total-tokens"
    looks_at: ClassVar[str] = "KV tokens"

    @staticmethod
    def score(view: View, request: int, rank: int) -> Any:
        """Tokens, then requests."""
        tokens = view.kv_tokens[rank] + view.tokens_waiting[rank] + view.tokens_dispatched[rank]
        return float(tokens), int(view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank])

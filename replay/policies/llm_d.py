"""The endpoint picker of llm-d, without prefix scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import WAIT, Binding, Router
from lbal.replay.policy.view import View

QUEUE, KV = 1, 2


@dataclass(frozen=True)
class LlmD(Router):
    """Highest weighted sum of min-max-normalised scores for short queues and free KV; random among equals."""

    stale: float = 50.0
    """Age in ms at which the metrics are scraped anew: the default interval of the gateway's endpoint picker."""
    queue: float = 2.0
    """Weight of the queue score."""
    kv: float = 2.0
    """Weight of the KV score."""

    name: ClassVar[str] = "llm-d"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "queues and KV tokens"
    uses_draws: ClassVar[bool] = True
    source: ClassVar[str] = "llm-d, endpoint picker scorers"

    def memory_size(self, dp_size: int) -> int:
        """Room for the scores of the ranks."""
        return dp_size

    @staticmethod
    def choose(view: View, request: int) -> int:
        """An eligible rank with the highest score. What was sent since the last scrape is not seen."""
        most_queued, least_queued = view.num_waiting.max(), view.num_waiting.min()
        most_held, least_held = view.kv_tokens.max(), view.kv_tokens.min()
        highest, equals = -1.0, 0
        for rank in range(view.dp_size):
            score = 0.0
            if most_queued > least_queued:
                score += view.parameters[QUEUE] * (most_queued - view.num_waiting[rank]) / (most_queued - least_queued)
            if most_held > least_held:
                score += view.parameters[KV] * (most_held - view.kv_tokens[rank]) / (most_held - least_held)
            if not view.eligible[rank]:
                score = -1.0
            view.memory[rank] = score
            if score > highest:
                highest, equals = score, 1
            elif score == highest:
                equals += 1
        left = int(view.draws[request, 0] * equals)
        for rank in range(view.dp_size):
            if view.memory[rank] == highest and view.eligible[rank]:
                if left == 0:
                    return rank
                left -= 1
        return WAIT

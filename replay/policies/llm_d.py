"""The endpoint picker of llm-d, without prefix scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.policy.policy import Binding
from lbal.replay.policy.scored import Scored, Ties
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class LlmD(Scored):
    """Highest weighted sum of scores for short queues (min-max-normalised) and free KV; random among equals.

    The KV score is 1 - KV use, as it is. Without `capacity` and without a capacity of the replay, KV use is not known
    and counts as 0 on every rank.
    """

    stale: float = 50.0
    """Age in ms at which the metrics are scraped anew: the default interval of the gateway's endpoint picker."""
    queue: float = 2.0
    """Weight of the queue score."""
    kv: float = 2.0
    """Weight of the KV score."""
    capacity: float = 0.0
    """KV tokens that a rank holds, for its KV use; 0, the default, is the capacity of the replay."""

    name: ClassVar[str] = "llm-d"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "queues and KV tokens"
    ties: ClassVar[Ties] = "random"
    memory: ClassVar[Memory] = Memory(least_queued=1, most_queued=1)
    source: ClassVar[str] = "llm-d, endpoint picker scorers; gateway-api-inference-extension, kvcache_utilization.go"

    @staticmethod
    def before(view: View, request: int) -> None:
        """Note the shortest and the longest queue of all ranks, eligible or not."""
        memory = view.memory
        memory[M.least_queued], memory[M.most_queued] = view.num_waiting.min(), view.num_waiting.max()

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The weighted sum, negative: the least wins. What was sent since the last scrape is not seen."""
        memory, merit = view.memory, 0.0
        queued = memory[M.most_queued] - memory[M.least_queued]
        if queued > 0:
            merit += view.parameters[P.queue] * (memory[M.most_queued] - view.num_waiting[rank]) / queued
        capacity = view.parameters[P.capacity]
        if capacity <= 0:
            capacity = view.kv_capacity
        merit += view.parameters[P.kv] * (1.0 - view.kv_tokens[rank] / capacity)
        return float(-merit)


P, M = parameters_of(LlmD), LlmD.memory.places

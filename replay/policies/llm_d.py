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
    ties: ClassVar[Ties] = "random"
    memory: ClassVar[Memory] = Memory(least_queued=1, most_queued=1, least_held=1, most_held=1)
    source: ClassVar[str] = "llm-d, endpoint picker scorers"

    @staticmethod
    def before(view: View, request: int) -> None:
        """Note the least and the most of each signal over all ranks, eligible or not."""
        memory = view.memory
        memory[M.least_queued], memory[M.most_queued] = view.num_waiting.min(), view.num_waiting.max()
        memory[M.least_held], memory[M.most_held] = view.kv_tokens.min(), view.kv_tokens.max()

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The weighted sum, negative: the least wins. What was sent since the last scrape is not seen."""
        memory, merit = view.memory, 0.0
        queued, held = memory[M.most_queued] - memory[M.least_queued], memory[M.most_held] - memory[M.least_held]
        if queued > 0:
            merit += view.parameters[P.queue] * (memory[M.most_queued] - view.num_waiting[rank]) / queued
        if held > 0:
            merit += view.parameters[P.kv] * (memory[M.most_held] - view.kv_tokens[rank]) / held
        return -merit


P, M = parameters_of(LlmD), LlmD.memory.places

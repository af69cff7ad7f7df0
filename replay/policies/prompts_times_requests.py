"""Prompts times requests: a product that punishes ranks which have much of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import Binding
from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class PromptsTimesRequests(Scored):
    """Lowest (new + active prompt tokens) * (active requests + 1); the lowest rank of equals. No router ships it."""

    stale: float = 0.0
    """Age in ms at which the signals are renewed; 0, the default, is never late."""

    name: ClassVar[str] = "prompts-times-requests"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "prompts and requests"

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The product; active are requests that were sent to the rank and have not ended."""
        prompts = view.prompt_running[rank] + view.tokens_waiting[rank] + view.tokens_dispatched[rank]
        active = view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank]
        return float(float(view.prompt_tokens[request] + prompts) * (active + 1))

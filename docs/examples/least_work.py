"""A router in the compiled form: the rank whose rank time is smallest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.named import parameters_of
from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class LeastWork(Scored):
    """The rank with the least work: its KV tokens, and every request counts as some tokens more."""

    per_request: float = 10_000.0
    """KV tokens that take as long as a request: b/a of the step-time model."""

    name: ClassVar[str] = "least-work"
    looks_at: ClassVar[str] = "KV tokens and requests"

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The work of a rank; the least wins, of equals the lowest rank."""
        requests = view.num_running[rank] + view.num_waiting[rank]
        return float(view.kv_tokens[rank] + view.tokens_waiting[rank] + view.parameters[P.per_request] * requests)


P = parameters_of(LeastWork)

"""The KV router of Dynamo, without prefix hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.named import parameters_of
from lbal.replay.policy.policy import Binding
from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class DynamoKv(Scored):
    """Lowest decode blocks + weight * active requests; the lowest rank of equals."""

    stale: float = 0.0
    """Age in ms at which the signals are renewed; 0, the default, since the router counts blocks itself."""
    weight: float = 1.0
    """What an active request counts, in blocks."""
    block: int = 16
    """KV tokens of a block."""

    name: ClassVar[str] = "dynamo-kv"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "KV blocks and requests"
    source: ClassVar[str] = "Dynamo, kv-router scheduling/selector"

    def __post_init__(self) -> None:
        if self.block < 1 or self.stale < 0:
            raise ValueError(f"block={self.block}, stale={self.stale:g}: expected at least 1 token and 0 ms")

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The cost; blocks are of all the rank's tokens together, queue included."""
        tokens = view.kv_tokens[rank] + view.tokens_waiting[rank] + view.tokens_dispatched[rank]
        active = view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank]
        return float(-(-tokens // view.parameters[P.block]) + view.parameters[P.weight] * active)


P = parameters_of(DynamoKv)

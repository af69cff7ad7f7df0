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
    """Lowest decode blocks with the new request + weight * active requests; the lowest rank of equals.

    Blocks are of prompts, of outputs too only with `track_output_blocks`. The router also adds the prefill that waits
    on a rank, less what its cache holds: replayed without prefill, that is the new prompt, equal on all ranks.
    """

    stale: float = 0.0
    """Age in ms at which the signals are renewed; 0, the default, since the router counts blocks itself."""
    weight: float = 0.0
    """What an active request counts, in blocks (the router's decode_active_request_weight)."""
    block: int = 16
    """KV tokens of a block."""
    track_output_blocks: bool = False
    """Count the blocks of outputs too."""

    name: ClassVar[str] = "dynamo-kv"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "blocks of prompts"
    source: ClassVar[str] = "Dynamo, kv-router scheduling/selector"

    def __post_init__(self) -> None:
        if self.block < 1 or self.stale < 0:
            raise ValueError(f"block={self.block}, stale={self.stale:g}: expected at least 1 token and 0 ms")

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The cost; blocks are of all the rank's tokens together, its queue and the new request included."""
        held = view.kv_tokens[rank] if view.parameters[P.track_output_blocks] else view.prompt_running[rank]
        tokens = held + view.tokens_waiting[rank] + view.tokens_dispatched[rank] + view.prompt_tokens[request]
        active = view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank]
        return float(-(-tokens // view.parameters[P.block]) + view.parameters[P.weight] * active)


P = parameters_of(DynamoKv)

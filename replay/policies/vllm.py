"""The internal load balancer of vLLM's data-parallel API servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.policy.policy import WAIT, Binding
from lbal.replay.policy.scored import TURN, Scored, Ties
from lbal.replay.policy.view import SIGNALS_TAKEN, View

CURRENT, LEGACY = range(2)
"""Places of `variant=current` and `variant=legacy` among its choices."""


@dataclass(frozen=True)
class Vllm(Scored):
    """Lowest of waiting + running (at least the requests in flight) plus a penalty for waiting on a full KV cache."""

    stale: float = 100.0
    """Age in ms at which the counts from the engines are renewed."""
    clients: int = 1
    """API servers, each with its own view: requests are dealt out to them in turn, each counts `clients` for one it
    sends, and takes the requests in flight to be `clients` times its own, here an even share."""
    variant: Literal["current", "legacy", "legacy-rotating"] = "current"
    """`current` is vLLM 0.27 and later. `legacy`, before, is 4*waiting + running, and each client always starts its
    scan of the ranks at the same one; `legacy-rotating`, the last of these versions, one rank further each time."""
    lag: float = 0.0
    """Time in ms that a request is on its way to an engine, which does not count it until then in what it reports."""

    name: ClassVar[str] = "vllm"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "requests and KV use"
    ties: ClassVar[Ties] = "rotating"
    memory: ClassVar[Memory] = TURN.with_parts(seen=1, own_counts=1, sent=lambda policy, ranks: policy.clients * ranks)
    """The start of the scan, the renewal that the counts belong to, the place of those of the client that sends the
    request at hand, and the counts sent, by client and rank."""
    source: ClassVar[str] = "vLLM, v1/engine/core_client.py"

    def __post_init__(self) -> None:
        if self.clients < 1 or self.stale < 0:
            raise ValueError(f"clients={self.clients}, stale={self.stale:g}: expected at least 1 client and 0 ms")
        if self.lag < 0 or (self.lag > 0 and self.stale == 0):
            raise ValueError(
                f"lag={self.lag:g}, stale={self.stale:g}: expected at least 0 ms, and 0 ms where the counts are live"
            )

    @staticmethod
    def before(view: View, request: int) -> None:
        """Forget the counts sent where the engines have reported since; find the counts and the start of its client."""
        memory = view.memory
        if memory[M.seen] != view.clock[SIGNALS_TAKEN]:
            memory[M.sent :] = 0.0
            memory[M.seen] = view.clock[SIGNALS_TAKEN]
        client = request % int(view.parameters[P.clients])
        memory[M.own_counts] = M.sent + client * view.dp_size
        if view.parameters[P.variant] == LEGACY:
            memory[M.turn] = client * view.dp_size // int(view.parameters[P.clients])

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """The load of the rank as the client of the request sees it."""
        waiting = view.num_waiting[rank] + view.memory[int(view.memory[M.own_counts]) + rank]
        if view.parameters[P.variant] != CURRENT:
            return float(4.0 * waiting + view.num_running[rank])
        score = max(float(view.inflight[rank]), waiting + view.num_running[rank])
        if waiting > 0:
            score += waiting * 6.0 * max(0.0, view.kv_tokens[rank] / view.kv_capacity - 0.5)
        return float(score)

    @staticmethod
    def after(view: View, request: int, rank: int) -> None:
        """Count the request as sent until the engines report."""
        if view.parameters[P.stale] > 0 and rank != WAIT:
            view.memory[int(view.memory[M.own_counts]) + rank] += view.parameters[P.clients]


P, M = parameters_of(Vllm), Vllm.memory.places

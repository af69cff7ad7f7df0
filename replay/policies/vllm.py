"""The internal load balancer of vLLM's data-parallel API servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy.policy import WAIT, Binding, Router
from lbal.replay.policy.view import SIGNALS_TAKEN, View

STALE, CLIENTS, VARIANT = range(3)
CURRENT = 0
FIRST, SEEN, SENT = 0, 1, 2
"""Memory: where the scan starts, the signals that the counts belong to, then the counts sent, by client and rank."""


@dataclass(frozen=True)
class Vllm(Router):
    """Lowest of waiting + running (at least the requests in flight) plus a penalty for waiting on a full KV cache."""

    stale: float = 100.0
    """Age in ms at which the counts from the engines are renewed."""
    clients: int = 1
    """API servers, each with its own view: requests are dealt out to them in turn, each counts `clients` for one it
    sends, and takes the requests in flight to be `clients` times its own, here an even share."""
    variant: Literal["current", "legacy"] = "current"
    """`current` is vLLM 0.27 and later; `legacy`, up to 0.26, is 4*waiting + running."""

    name: ClassVar[str] = "vllm"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "requests and KV use"
    source: ClassVar[str] = "vLLM, v1/engine/core_client.py"

    def __post_init__(self) -> None:
        if self.clients < 1 or self.stale < 0:
            raise ValueError(f"clients={self.clients}, stale={self.stale:g}: expected at least 1 client and 0 ms")

    def memory_size(self, dp_size: int) -> int:
        """The start of the scan, the renewal that the counts belong to, and a count per client and rank."""
        return SENT + self.clients * dp_size

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The eligible rank with the lowest score; the scan starts one rank further each time, the first of equals."""
        ranks, memory = view.dp_size, view.memory
        clients = int(view.parameters[CLIENTS])
        if memory[SEEN] != view.clock[SIGNALS_TAKEN]:
            memory[SENT:] = 0.0
            memory[SEEN] = view.clock[SIGNALS_TAKEN]
        mine = SENT + (request % clients) * ranks
        best, lowest = WAIT, 0.0
        for offset in range(ranks):
            rank = (int(memory[FIRST]) + offset) % ranks
            waiting = view.num_waiting[rank] + memory[mine + rank]
            if view.parameters[VARIANT] == CURRENT:
                score = max(float(view.inflight[rank]), waiting + view.num_running[rank])
                if waiting > 0:
                    score += waiting * 6.0 * max(0.0, view.kv_tokens[rank] / view.kv_capacity - 0.5)
            else:
                score = 4.0 * waiting + view.num_running[rank]
            if view.eligible[rank] and (best == WAIT or score < lowest):
                best, lowest = rank, score
        memory[FIRST] = (memory[FIRST] + 1) % ranks
        if view.parameters[STALE] > 0 and best != WAIT:
            memory[mine + best] += clients
        return best

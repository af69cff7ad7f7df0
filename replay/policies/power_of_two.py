"""The better of two random ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy.named import parameters_of
from lbal.replay.policy.policy import Router
from lbal.replay.policy.view import View

KV = 1
"""`signal=kv` among its choices."""


@dataclass(frozen=True)
class PowerOfTwo(Router):
    """Two distinct random ranks with a free slot, the one with less load; the first drawn of equals."""

    signal: Literal["requests", "kv"] = "requests"
    """What counts as load: `requests` (running + waiting) or `kv` tokens."""

    name: ClassVar[str] = "power-of-two"
    looks_at: ClassVar[str] = "requests or KV tokens"
    uses_draws: ClassVar[bool] = True
    source: ClassVar[str] = "Mitzenmacher, The power of two choices in randomized load balancing (2001)"

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The less loaded of two eligible ranks, drawn without replacement; the only one if there is one."""
        count = view.eligible.sum()
        first = int(view.draws[request, 0] * count)
        second = first
        if count > 1:
            second = (first + 1 + int(view.draws[request, 1] * (count - 1))) % count
        seen, rank_a, rank_b = 0, 0, 0
        for rank in range(view.dp_size):
            if view.eligible[rank]:
                if seen == first:
                    rank_a = rank
                if seen == second:
                    rank_b = rank
                seen += 1
        if view.parameters[P.signal] == KV:
            load_a = view.kv_tokens[rank_a] + view.tokens_waiting[rank_a] + view.tokens_dispatched[rank_a]
            load_b = view.kv_tokens[rank_b] + view.tokens_waiting[rank_b] + view.tokens_dispatched[rank_b]
        else:
            load_a = float(view.num_running[rank_a] + view.num_waiting[rank_a] + view.dispatched[rank_a])
            load_b = float(view.num_running[rank_b] + view.num_waiting[rank_b] + view.dispatched[rank_b])
        return rank_b if load_b < load_a else rank_a


P = parameters_of(PowerOfTwo)

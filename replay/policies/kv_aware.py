"""The KV-aware policy of vllm-router, without prefix hits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import Binding
from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class KvAware(Scored):
    """Most blocks of the request's prefix, else fewest requests; without prefix hits, as here, only the latter."""

    stale: float = 0.0
    """Age in ms at which the signals are renewed; 0, the default, since the router keeps these counts itself."""

    name: ClassVar[str] = "kv-aware"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "requests"
    source: ClassVar[str] = "vllm-router, policies/kv_aware.rs"

    @staticmethod
    def score(view: View, request: int, rank: int) -> float:
        """Requests that were sent to the rank and have not ended."""
        return float(view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank])

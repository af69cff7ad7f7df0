"""SGLang's data-parallel controller, by requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy import WAIT, Binding, Router
from lbal.replay.view import View


@dataclass(frozen=True)
class SglangTotalRequests(Router):
    """Fewest running + waiting requests in a snapshot, plus one for each sent since; the lowest rank of equals."""

    stale: int = 15
    """Age in decode steps at which the snapshot is renewed, though not within 20 ms; 0 for live counts."""

    name: ClassVar[str] = "sglang-total-requests"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate", "pool")
    looks_at: ClassVar[str] = "requests"
    stale_unit: ClassVar[Literal["ms", "steps"]] = "steps"
    least_stale_ms: ClassVar[float] = 20.0
    source: ClassVar[str] = "SGLang, managers/data_parallel_controller.py"

    def __post_init__(self) -> None:
        if self.stale < 0:
            raise ValueError(f"stale={self.stale}: expected at least 0 decode steps")

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The eligible rank with the fewest requests."""
        best, least = WAIT, 0
        for rank in range(view.dp_size):
            load = view.num_running[rank] + view.num_waiting[rank] + view.dispatched[rank]
            if view.eligible[rank] and (best == WAIT or load < least):
                best, least = rank, load
        return best

"""SGLang's data-parallel controller, by requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policies.jsq import Jsq
from lbal.replay.policy.policy import Binding


@dataclass(frozen=True)
class SglangTotalRequests(Jsq):
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

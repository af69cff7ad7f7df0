"""The placement that the trace recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.policy import Binding, Router
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class Recorded(Router):
    """Each request to its rank in the trace, in order: the reference for every comparison."""

    name: ClassVar[str] = "recorded"
    bindings: ClassVar[tuple[Binding, ...]] = ("immediate",)
    looks_at: ClassVar[str] = "the trace"
    uses_recorded_rank: ClassVar[bool] = True

    @staticmethod
    def choose(view: View, request: int) -> int:
        """The rank in the trace."""
        return int(view.recorded_rank[request])

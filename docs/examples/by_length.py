"""A router in plain Python: long prompts keep to the last ranks, the rest share the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lbal.replay.policy.policy import PlainRouter
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class ByLength(PlainRouter):
    """Prompts from `long_from` tokens go to the last `long_ranks` ranks while these have room, others elsewhere."""

    long_from: int = 8_000
    long_ranks: int = 2

    name: ClassVar[str] = "by-length"
    looks_at: ClassVar[str] = "prompts and requests"

    def __post_init__(self) -> None:
        """Refuse a number of ranks that makes no sense."""
        if self.long_ranks < 1:
            raise ValueError(f"long_ranks: {self.long_ranks} is too small, expected at least 1")

    def choose(self, view: View, request: int) -> int:
        """The eligible rank of its own group with the fewest requests; of the other group where its own is full."""
        is_long = view.prompt_tokens[request] >= self.long_from
        in_group = (np.arange(view.dp_size) >= view.dp_size - self.long_ranks) == is_long
        allowed = view.eligible & in_group if (view.eligible & in_group).any() else view.eligible
        load = view.num_running + view.num_waiting
        return int(np.where(allowed, load, np.iinfo(np.int64).max).argmin())

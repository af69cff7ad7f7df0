"""A router with a memory: prompts that are long go round the ranks in turn, short ones to the fewest requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.named import Memory, parameters_of, per_rank
from lbal.replay.policy.scored import Scored
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class SpreadLong(Scored):
    """Long prompts to the rank that has got fewest of them so far, others to the one with the fewest requests."""

    long_from: int = 8_000
    """Prompt tokens from which on a prompt is long."""

    name: ClassVar[str] = "spread-long"
    looks_at: ClassVar[str] = "prompts and requests"
    memory: ClassVar[Memory] = Memory(long_sent=per_rank)

    @staticmethod
    def score(view: View, request: int, rank: int) -> tuple[float, float]:
        """Tuples are compared from the first number on."""
        load = float(view.num_running[rank] + view.num_waiting[rank])
        is_long = view.prompt_tokens[request] >= view.parameters[P.long_from]
        return (view.memory[M.long_sent + rank] if is_long else 0.0), load

    @staticmethod
    def after(view: View, request: int, rank: int) -> None:
        """Count the long prompt; the rank is `WAIT`, below 0, where none could take it."""
        if rank >= 0 and view.prompt_tokens[request] >= view.parameters[P.long_from]:
            view.memory[M.long_sent + rank] += 1


P, M = parameters_of(SpreadLong), SpreadLong.memory.places

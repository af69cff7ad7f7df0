"""ATOM: prompts first, and decodes stall meanwhile; a coalescer holds prompts back until they fill a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy.compilable import frugal
from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.prefill.ranks import Ranks
from lbal.replay.prefill.rule import Padding, PrefillRule


@dataclass(frozen=True)
class AtomPrefill(PrefillRule):
    """Prompts first, in chunks, and the decodes of a rank that prefills stall; prompts wait until they fill a step.

    With more than one rank prompts are held back until all ranks could prefill and their pending tokens fill `fill` of
    their budgets. Bounds end the wait: `ttft` steps, `partial` steps where a prompt was begun, `stall` steps in which
    no more tokens came, a rank that could and uses `kv_high` of its KV space, nobody that decodes.
    """

    name: ClassVar[str] = "atom"
    source: ClassVar[str] = "ATOM: pull requests 1611 (coalescer) and 2238 (interval)"
    left_out: ClassVar[str] = "prefix caching, speculative decoding, the bound of time in the queue (off by default)"
    padding: ClassVar[Padding] = "largest"
    memory: ClassVar[Memory] = Memory(asked=1, held=1, stalled=1, pending=1, rounds=1)
    """Whether prompts were there before; steps held back in a row, without more tokens, and the tokens then; steps of
    decoding still to come."""

    budget: int = 16384
    """`max_num_batched_tokens`, of a rank."""
    coalesce: bool = True
    """Whether prompts are held back at all; it has no effect on one rank."""
    fill: float = 0.7
    ttft: int = 30
    partial: int = 8
    stall: int = 3
    kv_high: float = 0.9
    kv: Literal["growth", "reserve"] = "growth"
    """`growth` preempts who was begun last where there is no room; `reserve` keeps room for all tokens."""
    interval: int = 0
    """Steps of decoding after any rank's prefill."""

    def __post_init__(self) -> None:
        steps = min(self.ttft, self.partial, self.stall)
        if self.budget < 1 or steps < 1 or self.interval < 0 or not (0 < self.fill <= 1 and 0 < self.kv_high <= 1):
            raise ValueError(
                f"budget={self.budget}, ttft={self.ttft}, partial={self.partial}, stall={self.stall}, "
                f"interval={self.interval}, fill={self.fill:g}, kv_high={self.kv_high:g}: expected at least 1 token, "
                "1 step, an interval of 0, and shares above 0 up to 1"
            )

    @property
    def grows(self) -> bool:
        """As `kv` says."""
        return self.kv == "growth"

    @property
    def mixes(self) -> bool:
        """Prefill is exclusive."""
        return False

    def rank_budget(self, dp_size: int) -> int:
        """Each rank has its own."""
        return self.budget

    @staticmethod
    def release(ranks: Ranks) -> int:
        """All or none."""
        memory, any_prefilled = ranks.memory, False
        for rank in range(ranks.dp_size):
            any_prefilled |= ranks.prefilled[rank]
        if any_prefilled:
            memory[M.rounds] = ranks.parameters[P.interval]
        elif memory[M.rounds] > 0:
            memory[M.rounds] -= 1
        may = memory[M.rounds] == 0
        if may and ranks.parameters[P.coalesce] > 0 and ranks.dp_size > 1:
            may = is_worth_a_step(ranks)
            if may:
                memory[M.held] = memory[M.stalled] = 0.0
                memory[M.pending] = -1.0
            else:
                memory[M.held] += 1
        for rank in range(ranks.dp_size):
            ranks.may_prefill[rank] = may
        return 0


P, M = parameters_of(AtomPrefill), AtomPrefill.memory.places


@frugal
def is_worth_a_step(ranks: Ranks) -> bool:
    """Whether the prompts fill a step, or have been held back for as long as they may be."""
    memory, parameters = ranks.memory, ranks.parameters
    could, decoding, pending = 0, 0, 0
    full, begun = False, False
    for rank in range(ranks.dp_size):
        could += ranks.could_prefill[rank]
        decoding += ranks.decoding[rank]
        pending += ranks.pending_tokens[rank]
        begun |= ranks.has_partial[rank]
        full |= ranks.could_prefill[rank] and ranks.resident_tokens[rank] >= parameters[P.kv_high] * ranks.kv_capacity
    first = memory[M.asked] == 0
    memory[M.asked] = 1.0
    if first or could == 0 or decoding == 0 or full or memory[M.held] >= parameters[P.ttft]:
        return True
    if begun and memory[M.held] >= parameters[P.partial]:
        return True
    if could < ranks.dp_size:
        return False
    if pending >= parameters[P.fill] * could * ranks.budget:
        return True
    memory[M.stalled] = memory[M.stalled] + 1 if pending <= memory[M.pending] else 0.0
    memory[M.pending] = pending
    return bool(memory[M.stalled] >= parameters[P.stall])

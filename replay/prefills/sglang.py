"""SGLang: a rank that can prefill does, and its decodes stall meanwhile, unless a rule over all ranks holds it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy.compilable import frugal
from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.prefill.ranks import Ranks
from lbal.replay.prefill.rule import Padding, PrefillRule

CHUNKS = {"h100": 8192, "b200": 16384, "small": 4096}
"""Default `chunked_prefill_size` by memory of the GPU: H100 and H200, from 160 GB, less. All ranks share it."""


@dataclass(frozen=True)
class SglangPrefill(PrefillRule):
    """Prompts first, in chunks, and the decodes of a rank that prefills stall; ranks may wait for one another.

    With `delayer`, where only some ranks could prefill, all wait, up to `max_delay` passes; where all could, they wait
    as long while fewer slots are free than the largest batch of prompts so far took. A rank that could and uses less of
    its KV space than the `watermark` ends the wait. With `interval`, N steps of decoding follow any step with prefill.
    """

    name: ClassVar[str] = "sglang"
    source: ClassVar[str] = "SGLang 0.5.23: managers/scheduler.py, managers/prefill_delayer.py, server_args.py"
    left_out: ClassVar[str] = (
        "radix cache, max_prefill_tokens beside the chunk, speculative decoding, the delayer's trigger by queue, room "
        "that admission keeps for the tokens to come (new_token_ratio)"
    )
    padding: ClassVar[Padding] = "half-full"
    victim: ClassVar[Literal["last", "fewest"]] = "fewest"
    memory: ClassVar[Memory] = Memory(delayed=1, largest_batch=1, waited=1, rounds=1)
    """Passes held back in a row; most prompts that a rank began in a step; whether the slots were waited for; steps of
    decoding still to come."""

    gpu: Literal["h100", "b200", "small"] = "h100"
    """Whose default chunk, divided by the ranks: h100 (H200 too) 8,192, b200 (160 GB and more) 16,384, small 4,096."""
    chunk: int = 0
    """`chunked-prefill-size` of all ranks together, as the flag has it; 0 for the default of the GPU."""
    delayer: bool = False
    """`enable-prefill-delayer`."""
    max_delay: int = 30
    """`prefill-delayer-max-delay-passes`."""
    watermark: float = 0.0
    """`prefill-delayer-token-usage-low-watermark`, a share of the KV space; 0 for none."""
    interval: int = 0
    """`prefill-decode-interval`: steps of decoding after any rank's prefill."""
    mixed: bool = False
    """`enable-mixed-chunk`: decodes go on beside the prompts, within the chunk."""
    kv: Literal["growth", "reserve"] = "growth"
    """`growth` retracts who has given fewest tokens where there is no room; `reserve` keeps room for all tokens."""

    def __post_init__(self) -> None:
        if self.chunk < 0 or self.max_delay < 1 or self.interval < 0 or not 0 <= self.watermark <= 1:
            raise ValueError(
                f"chunk={self.chunk}, max_delay={self.max_delay}, interval={self.interval}, "
                f"watermark={self.watermark:g}: expected at least 0 tokens, 1 pass and 0 steps, and a share from 0 to 1"
            )

    @property
    def grows(self) -> bool:
        """As `kv` says."""
        return self.kv == "growth"

    @property
    def mixes(self) -> bool:
        """As `mixed` says."""
        return self.mixed

    def rank_budget(self, dp_size: int) -> int:
        """The chunk divided by the ranks."""
        return (self.chunk or CHUNKS[self.gpu]) // dp_size

    @staticmethod
    def release(ranks: Ranks) -> int:
        """All or none: none in the rounds of decoding, nor while the delayer waits."""
        memory, any_prefilled = ranks.memory, False
        for rank in range(ranks.dp_size):
            if ranks.prefilled[rank]:
                any_prefilled = True
                memory[M.largest_batch] = max(memory[M.largest_batch], float(ranks.started[rank]))
        if any_prefilled:
            memory[M.rounds] = ranks.parameters[P.interval]
        elif memory[M.rounds] > 0:
            memory[M.rounds] -= 1
        may = memory[M.rounds] == 0
        if may and ranks.parameters[P.delayer] > 0:
            may = allowed_by_delayer(ranks)
        for rank in range(ranks.dp_size):
            ranks.may_prefill[rank] = may
        return 0


P, M = parameters_of(SglangPrefill), SglangPrefill.memory.places


@frugal
def allowed_by_delayer(ranks: Ranks) -> bool:
    """Whether the delayer lets all prefill in this step; it counts the passes that it holds them back."""
    memory, could, most_decoding = ranks.memory, 0, 0
    low, watermark = False, ranks.parameters[P.watermark]
    for rank in range(ranks.dp_size):
        most_decoding = max(most_decoding, ranks.decoding[rank])
        if ranks.could_prefill[rank]:
            could += 1
            low |= watermark > 0 and ranks.resident_tokens[rank] < watermark * ranks.kv_capacity
    holds = False
    if could > 0 and not low:
        holds = could < ranks.dp_size
        if could == ranks.dp_size and ranks.max_num_seqs - most_decoding < memory[M.largest_batch]:
            holds = memory[M.waited] > 0  # the first time it lets them pass
            memory[M.waited] = 1.0
    if holds and memory[M.delayed] < ranks.parameters[P.max_delay] - 1:
        memory[M.delayed] += 1
        return False
    memory[M.delayed] = 0.0
    return True

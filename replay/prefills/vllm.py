"""vLLM: prompts share the tokens of a step with the decodes, and ranks may prefill in every N-th step only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from lbal.replay.policy.named import parameters_of
from lbal.replay.prefill.ranks import Ranks
from lbal.replay.prefill.rule import Padding, PrefillRule

BUDGETS = {"h100": 8192, "b200": 16384, "small": 2048}
"""Default `max_num_batched_tokens` of the API server by memory of the GPU: from 70 GiB (but A100), from 160, less."""


@dataclass(frozen=True)
class VllmPrefill(PrefillRule):
    """Decodes first, then prompts in chunks, in one batch up to a budget of tokens; in every N-th step where asked.

    A rank counts one token for each of its decodes, goes on with the prompt that it has begun, and begins others in
    order while tokens, slots and room are left. With `interval` above 1, prompts wait for a step whose number it
    divides, unless no rank decodes, or the rank left prompts behind when it last prefilled.
    """

    name: ClassVar[str] = "vllm"
    source: ClassVar[str] = "vLLM 0.33.0: v1/core/sched/scheduler.py, v1/engine/core.py, engine/arg_utils.py"
    left_out: ClassVar[str] = (
        "prefix caching, speculative decoding, long-prefill thresholds; small chunks that still run in a graph, padded"
    )
    padding: ClassVar[Padding] = "largest"

    gpu: Literal["h100", "b200", "small"] = "h100"
    """Whose default budget: h100 (70 GiB and more) 8,192, b200 (160 GiB and more) 16,384, small 2,048 tokens."""
    budget: int = 0
    """`max_num_batched_tokens`; 0 for the default of the GPU."""
    interval: int = 1
    """`prefill-schedule-interval`: prefill in steps that it divides."""
    kv: Literal["growth", "reserve"] = "growth"
    """`growth` preempts who was begun last where there is no room, as the engine; `reserve` keeps room for all."""
    watermark: float = 0.0
    """Share of the KV space that new requests leave free under `kv=growth`."""

    def __post_init__(self) -> None:
        if self.budget < 0 or self.interval < 1 or not 0 <= self.watermark < 1:
            raise ValueError(
                f"budget={self.budget}, interval={self.interval}, watermark={self.watermark:g}: expected at least 1 "
                "token (or 0, as the GPU has it), an interval of at least 1, and a share from 0 to below 1"
            )

    @property
    def grows(self) -> bool:
        """As `kv` says."""
        return self.kv == "growth"

    @property
    def free_share(self) -> float:
        """The watermark."""
        return self.watermark

    def rank_budget(self, dp_size: int) -> int:
        """As it is given, else the default of the GPU."""
        return self.budget or BUDGETS[self.gpu]

    @staticmethod
    def release(ranks: Ranks) -> int:
        """All in every N-th step; between, those that left prompts behind."""
        interval = int(ranks.parameters[P.interval])
        if int(ranks.clock[0]) % interval != 0:
            for rank in range(ranks.dp_size):
                ranks.may_prefill[rank] = ranks.left_behind[rank]
        return 0


P = parameters_of(VllmPrefill)

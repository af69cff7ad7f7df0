"""TensorRT-LLM: prompts beside the decodes; with balancing, when all ranks have one, or waited long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.replay.policy.named import Memory, parameters_of
from lbal.replay.prefill.ranks import Ranks
from lbal.replay.prefill.rule import Padding, PrefillRule


@dataclass(frozen=True)
class TrtllmPrefill(PrefillRule):
    """Decodes, then whole prompts, in one batch up to a budget of tokens; ranks may await one another.

    With `balance`, prompts wait until all ranks could begin one, up to `timeout` steps, then for `batch` steps more, so
    that more come together. They wait only while every rank that has prompts decodes.
    """

    name: ClassVar[str] = "trtllm"
    source: ClassVar[str] = "TensorRT-LLM: _torch/pyexecutor/scheduler (attention_dp_config); blog 10"
    left_out: ClassVar[str] = (
        "KV reuse, speculative decoding, padding to the sizes of captured graphs beyond the largest number of a rank"
    )
    padding: ClassVar[Padding] = "largest"
    memory: ClassVar[Memory] = Memory(waited=1, batched=1)
    """Steps that some rank was waited for, and steps that all have waited to batch more."""

    max_tokens: int = 8192
    """`max_num_tokens`, of a rank."""
    chunked: bool = False
    """`enable_chunked_prefill`."""
    balance: bool = False
    """`attention_dp_config.enable_balance`."""
    timeout: int = 50
    """`attention_dp_config.timeout_iters`."""
    batch: int = 10
    """`attention_dp_config.batching_wait_iters`."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.timeout < 0 or self.batch < 0:
            raise ValueError(
                f"max_tokens={self.max_tokens}, timeout={self.timeout}, batch={self.batch}: expected at least 1 token "
                "and 0 steps"
            )

    @property
    def chunks(self) -> bool:
        """As `chunked` says."""
        return self.chunked

    def rank_budget(self, dp_size: int) -> int:
        """Each rank has its own."""
        return self.max_tokens

    @staticmethod
    def release(ranks: Ranks) -> int:
        """All or none, with balancing: the counters of steps waited go on from one time to the next."""
        if ranks.parameters[P.balance] == 0:
            return 0
        memory = ranks.memory
        all_could, all_decode = True, True
        for rank in range(ranks.dp_size):
            all_could &= ranks.could_prefill[rank]
            has_prompts = ranks.queued[rank] > 0 or ranks.has_partial[rank]
            all_decode &= ranks.decoding[rank] > 0 or not has_prompts  # a rank without requests decodes a dummy
        may = True
        if all_could:
            memory[M.waited] = 0.0
            if all_decode:
                may = memory[M.batched] >= ranks.parameters[P.batch]
                memory[M.batched] = 0.0 if may else memory[M.batched] + 1
        else:
            memory[M.waited] += 1
            may = memory[M.waited] >= ranks.parameters[P.timeout] or not all_decode
            if may:
                memory[M.waited] = 0.0
        for rank in range(ranks.dp_size):
            ranks.may_prefill[rank] = may
        return 0


P, M = parameters_of(TrtllmPrefill), TrtllmPrefill.memory.places

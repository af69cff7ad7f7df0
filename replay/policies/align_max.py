"""Fill up to the current maximum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class AlignMax(Selector):
    """The least loaded rank takes the largest waiting request that keeps it below the maximum, else the smallest."""

    name: ClassVar[str] = "align-max"
    looks_at: ClassVar[str] = "KV tokens and prompts"
    source: ClassVar[str] = "arXiv 2601.17855, `ALIGN` of its released simulator"

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """Rank by rank from the least loaded one, until slots, room or requests run out. O(slots*(G + pool))."""
        kv_tokens, running, free_kv = view.kv_tokens.copy(), view.num_running.copy(), view.free_kv.copy()
        is_open = running < view.max_num_seqs
        taken = view.eligible[:1].repeat(size)
        taken[:] = False
        chosen = 0
        while chosen < size:
            rank = -1
            for other in range(view.dp_size):
                if is_open[other] and (rank < 0 or kv_tokens[other] < kv_tokens[rank]):
                    rank = other
            if rank < 0:
                break
            room = kv_tokens.max() - kv_tokens[rank]
            largest, smallest = -1, -1
            for index in range(size):
                if taken[index] or view.reserved_tokens[pool[index]] > free_kv[rank]:
                    continue
                tokens = view.prompt_tokens[pool[index]]
                if tokens < room and (largest < 0 or tokens > view.prompt_tokens[pool[largest]]):
                    largest = index
                if smallest < 0 or tokens < view.prompt_tokens[pool[smallest]]:
                    smallest = index
            best = largest if largest >= 0 else smallest
            if best < 0:
                is_open[rank] = False
                continue
            taken[best] = True
            requests[chosen], ranks[chosen] = pool[best], rank
            kv_tokens[rank] += view.prompt_tokens[pool[best]]
            running[rank] += 1
            free_kv[rank] -= view.reserved_tokens[pool[best]]
            is_open[rank] = running[rank] < view.max_num_seqs
            chosen += 1
        return chosen

"""The attention-DP router of TensorRT-LLM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class TrtllmAdp(Selector):
    """New requests longest first to the rank with the fewest active prompt tokens, up to an even number of requests."""

    name: ClassVar[str] = "trtllm-adp"
    looks_at: ClassVar[str] = "prompts and requests"
    source: ClassVar[str] = "TensorRT-LLM, scheduler/adp_router.py"
    work_conserving: ClassVar[bool] = False
    """Only under a KV capacity, where a rank below the even number may have no room for the request."""

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """As many in pool order as slots are free, longest prompt first.

        Each goes to the lowest (active prompt tokens, requests, rank) of the ranks that are below the expected number
        of requests, min(max(ceil((active + new)/G), most active), B). Growth during decoding is ignored.
        """
        prompts, running, free_kv = view.prompt_running.copy(), view.num_running.copy(), view.free_kv.copy()
        new = min(size, view.dp_size * view.max_num_seqs - running.sum())
        even = -(-(running.sum() + new) // view.dp_size)
        expected = min(max(even, running.max()), view.max_num_seqs)
        order = (-view.prompt_tokens[pool[:new]]).argsort(kind="mergesort")
        chosen = 0
        for index in order:
            request = pool[index]
            best = -1
            for rank in range(view.dp_size):
                if running[rank] >= expected or view.reserved_tokens[request] > free_kv[rank]:
                    continue
                if (
                    best < 0
                    or prompts[rank] < prompts[best]
                    or (prompts[rank] == prompts[best] and running[rank] < running[best])
                ):
                    best = rank
            if best < 0:
                continue
            requests[chosen], ranks[chosen] = request, best
            prompts[best] += view.prompt_tokens[request]
            running[best] += 1
            free_kv[best] -= view.reserved_tokens[request]
            chosen += 1
        return chosen

"""Longest prompt first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.policy.policy import Selector
from lbal.replay.policy.view import View


@dataclass(frozen=True)
class Lpt(Selector):
    """The largest waiting prompt first, onto the rank with the fewest KV tokens; the lowest of equals."""

    name: ClassVar[str] = "lpt"
    looks_at: ClassVar[str] = "KV tokens and prompts"
    source: ClassVar[str] = "Graham, Bounds on multiprocessing timing anomalies (1969)"

    @staticmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """In order of falling prompt, each to the least loaded rank that can take it; those that fit nowhere wait."""
        kv_tokens, running, free_kv = view.kv_tokens.copy(), view.num_running.copy(), view.free_kv.copy()
        slots = view.dp_size * view.max_num_seqs - running.sum()
        order = (-view.prompt_tokens[pool[:size]]).argsort(kind="mergesort")
        chosen = 0
        for index in order:
            if chosen == slots:
                break
            request = pool[index]
            best = -1
            for rank in range(view.dp_size):
                if (
                    running[rank] < view.max_num_seqs
                    and view.reserved_tokens[request] <= free_kv[rank]
                    and (best < 0 or kv_tokens[rank] < kv_tokens[best])
                ):
                    best = rank
            if best < 0:
                continue
            kv_tokens[best] += view.prompt_tokens[request]
            running[best] += 1
            free_kv[best] -= view.reserved_tokens[request]
            requests[chosen], ranks[chosen] = request, best
            chosen += 1
        return chosen

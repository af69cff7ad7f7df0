"""What a prefill rule sees of all ranks when it decides who may prefill in a step: live arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray


class Ranks(NamedTuple):
    """The ranks before a step; G of them. A rule may write `may_prefill`, its answer, and its own `memory`."""

    dp_size: int
    """G."""
    max_num_seqs: int
    """Slots of a rank."""
    budget: int
    """Tokens that a rank may compute in a step."""
    kv_capacity: float
    """KV tokens that fit on a rank; infinite without a limit."""
    could_prefill: NDArray[np.bool_]
    """(G,) whether the rank has a part of a prompt to go on with, or a queued prompt with a slot and room for it."""
    has_partial: NDArray[np.bool_]
    """(G,) whether a part of a prompt was computed and the rest is not."""
    queued: IntArray
    """(G,) requests of the rank of whose prompt nothing was computed."""
    pending_tokens: IntArray
    """(G,) prompt tokens of the rank that are still to be computed."""
    decoding: IntArray
    """(G,) requests that decode."""
    free_slots: IntArray
    """(G,) slots that no request holds whose prompt was begun."""
    resident_tokens: FloatArray
    """(G,) KV tokens that the requests hold whose prompts were begun; reserved ones where admission reserves."""
    started: IntArray
    """(G,) prompts that the rank began when it last prefilled."""
    left_behind: NDArray[np.bool_]
    """(G,) whether it then left prompts behind for want of tokens, slots or room."""
    prefilled: NDArray[np.bool_]
    """(G,) whether it prefilled in the step before."""
    may_prefill: NDArray[np.bool_]
    """(G,) the answer; all true when the rule is asked."""
    parameters: FloatArray
    """(P,) the rule's parameters as numbers, in the order of its fields."""
    memory: FloatArray
    """(M,) what the rule keeps between steps; starts at 0."""
    clock: FloatArray
    """(3,) the step about to start and the time in ms, as in the view of policies."""


def shown_to_rule(ranks: Ranks) -> Ranks:
    """The same arrays behind views that cannot be written, but for the rule's answer and its memory."""
    return Ranks(*(_locked(name, value) for name, value in zip(Ranks._fields, ranks, strict=True)))


def _locked(name: str, value: Any) -> Any:
    if not isinstance(value, np.ndarray) or name in ("may_prefill", "memory"):
        return value
    locked = value.view()
    locked.flags.writeable = False
    return locked

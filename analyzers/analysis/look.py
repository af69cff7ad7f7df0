"""The steps of a trace as its situation is told from them: which ranks hold load, wait, prefill or stand empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.known_part import KnownPart, Load
from lbal.analyzers.trace.trace import FloatArray, Resolution, StepArrays

Chosen = NDArray[np.bool_]
RANKS_NAMED = 4
"""Of more ranks than these only the first are named."""


@dataclass(frozen=True)
class Look:
    """The accounted steps of the ranks that were seen, (S, G), and what the accounts say of them."""

    steps: StepArrays
    ranks: Sequence[int]
    """The rank of each column."""
    lacks: Load | None = None
    slots: int | None = None
    """Most requests that a rank runs at once."""
    kv_capacity: int | None = None
    idle: float = 0.0
    """Barrier idle, as a share of rank-time."""
    causes: Mapping[str, float] = field(default_factory=dict)
    """Those that can be told, as shares of rank-time."""
    slow_ranks: Mapping[int, float] = field(default_factory=dict)
    """The columns of ranks that surely take longer than their load explains, and how many times as long."""
    resolution: Resolution = "step"

    @classmethod
    def of(cls, known: KnownPart, steps: StepArrays, **others: object) -> Look:
        """A look at these steps of the known part of a trace."""
        return cls(steps, known.ranks, known.lacks, **others)  # type: ignore[arg-type]

    @property
    def unit(self) -> str:
        """What a row is called."""
        return "steps" if self.resolution == "step" else "looks"

    @cached_property
    def running(self) -> FloatArray | None:
        """(S, G) running requests; None where they are not known."""
        return None if self.lacks == "num_running" else self.steps.num_running

    @cached_property
    def kv_tokens(self) -> FloatArray | None:
        """(S, G) KV tokens; None where they are not known."""
        return None if self.lacks == "kv_tokens" else self.steps.kv_tokens

    @cached_property
    def kv_share(self) -> FloatArray | None:
        """(S, G) used share of the KV cache, NaN where unknown; None where nothing is known of it."""
        share = self.steps.kv_fraction
        if share is None and self.kv_tokens is not None and self.kv_capacity is not None:
            share = self.kv_tokens / self.kv_capacity
        return None if share is None or np.isnan(share).all() else share

    @cached_property
    def waiting(self) -> FloatArray | None:
        """(S, G) waiting requests, 0 where the trace does not tell; None where it tells none at all."""
        waiting = self.steps.num_waiting
        return None if waiting is None or np.isnan(waiting).all() else np.nan_to_num(waiting)

    @cached_property
    def has_free_slot(self) -> Chosen | None:
        """(S, G) whether a rank could run one more request by its slots; None where slots or requests are unknown."""
        if self.running is None or self.slots is None:
            return None
        return np.asarray(self.running < self.slots)

    def named(self, chosen: Chosen) -> str:
        """`rank 3`, `ranks 0 and 2`, `ranks 0, 1, 2, 3 and 4 more` of (G,) chosen columns."""
        names = [str(rank) for rank, is_chosen in zip(self.ranks, chosen, strict=True) if is_chosen]
        if len(names) == 1:
            return f"rank {names[0]}"
        if len(names) > RANKS_NAMED + 1:
            names = [*names[:RANKS_NAMED], f"{len(names) - RANKS_NAMED} more"]
        return f"ranks {', '.join(names[:-1])} and {names[-1]}"


def over_mean(loads: FloatArray) -> float:
    """Mean of max/mean over the steps of (S, G) loads in which some rank holds load; 1 where none ever does."""
    loaded = loads[loads.max(axis=1) > 0]
    return float((loaded.max(axis=1) / loaded.mean(axis=1)).mean()) if len(loaded) else 1.0

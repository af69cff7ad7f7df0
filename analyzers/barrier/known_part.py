"""The part of a trace that can be accounted for, where loads or ranks are unknown; and what is then not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.whole_steps import whole_blocks
from lbal.analyzers.trace.step_blocks import StepBlocks, blocks_of
from lbal.analyzers.trace.trace import StepArrays, Trace

Load = Literal["kv_tokens", "num_running"]
LOAD_WORDS: Mapping[Load, str] = {"kv_tokens": "KV tokens", "num_running": "running requests"}
RANKS_SHOWN = 8
STANDS_IN: Mapping[Load, str] = {
    "kv_tokens": "the trace has no KV tokens: figures of tokens are n/a, and modelled idle is of numbers of requests "
    "only",
    "num_running": "the trace has no numbers of requests: figures of requests are n/a, and modelled idle is of KV "
    "tokens only",
}
"""What is said of a trace that lacks a load."""


@dataclass(frozen=True)
class KnownPart:
    """The whole steps of the ranks that were seen, fit for accounting.

    Where the trace lacks one of the two loads throughout, the other stands in for it and the step-time model counts
    that other one alone: without KV tokens the load of a rank is its requests, without requests each rank that holds
    tokens counts as one. Figures that need the unknown load must not be told (`lacks`).
    """

    steps: StepBlocks
    ranks: tuple[int, ...]
    """The rank of each column of the steps."""
    dp_size: int
    """Ranks of the cluster, seen or not."""
    lacks: Load | None
    notes: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every rank was seen and both loads are known."""
        return self.lacks is None and len(self.ranks) == self.dp_size

    def model(self, model: StepTimeModel) -> StepTimeModel:
        """The step-time model of the known load and the seen ranks."""
        if self.is_whole:
            return model
        place = {rank: index for index, rank in enumerate(self.ranks)}
        speeds = tuple((place[rank], speed) for rank, speed in model.rank_speeds if rank in place)
        model = replace(model, rank_speeds=speeds)
        if self.lacks is None:
            return model
        zero = {"kv_tokens": ("a",), "num_running": ("b", "b_mean")}[self.lacks]
        bands = tuple(band for band in model.bands if band.coefficient not in zero)
        if self.lacks == "kv_tokens":
            return replace(model, per_token_s=0.0, bands=bands)
        return replace(model, per_request_s=0.0, per_mean_request_s=0.0, bands=bands)

    def ranks_told(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Records of ranks under the numbers that the trace gives them, with null for means of an unknown load."""
        unknown = {} if self.lacks is None else {f"{self.lacks}_mean": None}
        if self.lacks is not None:
            records = [{key: value for key, value in record.items() if key != "idle_by_cause"} for record in records]
        return [{**record, "rank": self.ranks[record["rank"]], **unknown} for record in records]

    def steps_told(self, records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Records of the worst steps, the same way, without the unknown load."""
        names: dict[Load, tuple[str, ...]] = {
            "kv_tokens": ("kv_tokens_straggler", "kv_tokens_mean"),
            "num_running": ("num_running",),
        }
        unknown = () if self.lacks is None else names[self.lacks]
        known = [{key: value for key, value in record.items() if key not in unknown} for record in records]
        return [{**record, "straggler": self.ranks[record["straggler"]]} for record in known]


def known_part(trace: Trace) -> KnownPart:
    """The part of the steps of a trace that is known. Raises as `whole_blocks` does."""
    steps = blocks_of(trace)
    seen, lacks = _seen_and_lacking(*_told(steps))
    notes: list[str] = []
    if not seen.all() and seen.any():
        steps = steps.changed(lambda block: block.of_ranks(seen), len(steps), int(seen.sum()))
        notes.append(_lower_bound(np.flatnonzero(seen).tolist(), len(seen)))
    if lacks is not None:
        steps = steps.changed(partial(_stood_in, lacks=lacks), len(steps), steps.dp_size)
        notes.append(STANDS_IN[lacks])
    whole, found = whole_blocks(steps, trace.meta.source, lacks)
    ranks = np.flatnonzero(seen) if seen.any() else np.arange(len(seen))
    return KnownPart(whole, tuple(int(rank) for rank in ranks), len(seen), lacks, (*notes, *found))


def _told(steps: StepBlocks) -> tuple[Any, Any]:
    """(G,) whether any KV tokens, and any requests, of each rank are known."""
    tokens, running = np.zeros(steps.dp_size, np.bool_), np.zeros(steps.dp_size, np.bool_)
    for block in steps:
        tokens |= ~np.isnan(block.kv_tokens).all(axis=0)
        running |= ~np.isnan(block.num_running).all(axis=0)
        if tokens.all() and running.all():
            break
    return tokens, running


def _seen_and_lacking(tokens: Any, running: Any) -> tuple[Any, Load | None]:
    """Which ranks count, and which load is not used: one that some seen rank lacks, if the other is there."""
    seen = tokens | running
    if running[seen].all():
        return seen, None if tokens[seen].all() else "kv_tokens"
    if tokens[seen].all():
        return seen, "num_running"
    return running, None if tokens[running].all() else "kv_tokens"


def _stood_in(steps: StepArrays, lacks: Load) -> StepArrays:
    if lacks == "kv_tokens":
        return replace(steps, kv_tokens=steps.num_running)
    return replace(steps, num_running=np.where(np.isnan(steps.kv_tokens), np.nan, steps.kv_tokens > 0))


def _lower_bound(seen: Sequence[int], dp_size: int) -> str:
    named = ", ".join(map(str, seen[:RANKS_SHOWN])) + (", …" if len(seen) > RANKS_SHOWN else "")
    return (
        f"of {dp_size} ranks only {len(seen)} {'are' if len(seen) > 1 else 'is'} in the trace (rank "
        f"{named}): all figures are of {'those' if len(seen) > 1 else 'that one'}, and idle is a lower bound: the "
        "straggler may be on a rank that is not there"
    )

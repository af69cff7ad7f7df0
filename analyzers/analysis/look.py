"""The steps of a trace as its situation is told from them: which ranks hold load, wait, prefill or stand empty.

All of it are sums over the steps, taken in one pass, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.trace.trace import FloatArray, Resolution, StepArrays

Chosen = NDArray[np.bool_]
FULL, ROOMY = 0.95, 0.8
"""Used shares of the KV cache from which a rank is called full, and up to which it has room."""
RANKS_NAMED = 4
"""Of more ranks than these only the first are named."""


class Server(NamedTuple):
    """What is known of the ranks beside their steps."""

    ranks: Sequence[int]
    """The rank of each column of the steps."""
    lacks: Load | None = None
    slots: int | None = None
    """Most requests that a rank runs at once."""
    kv_capacity: int | None = None
    resolution: Resolution = "step"

    @property
    def unit(self) -> str:
        """What a row of the steps is called."""
        return "steps" if self.resolution == "step" else "looks"

    def named(self, chosen: Chosen) -> str:
        """`rank 3`, `ranks 0 and 2`, `ranks 0, 1, 2, 3 and 4 more` of (G,) chosen columns."""
        names = [str(rank) for rank, is_chosen in zip(self.ranks, chosen, strict=True) if is_chosen]
        if len(names) == 1:
            return f"rank {names[0]}"
        if len(names) > RANKS_NAMED + 1:
            names = [*names[:RANKS_NAMED], f"{len(names) - RANKS_NAMED} more"]
        return f"ranks {', '.join(names[:-1])} and {names[-1]}"


@dataclass
class MixedSteps:
    """Sums over steps whose times and prefill are known, loads or not: a rank that prefills may log no load."""

    steps: int = 0
    time_ms: float = 0.0
    mixed: int = 0
    """Steps in which some ranks prefill and some do not."""
    mixed_ms: float = 0.0
    waits: float = 0.0
    """Over these, the share of ranks that do not prefill, and this share times the time of the step."""
    waits_ms: float = 0.0
    decode: int = 0
    """Steps in which no rank prefills."""
    decode_ms: float = 0.0

    @classmethod
    def at(cls, blocks: Iterable[StepArrays]) -> MixedSteps:
        """Of steps, which may come in blocks."""
        found = cls()
        for block in blocks:
            found.add(block)
        return found

    def add(self, steps: StepArrays) -> None:
        """The next steps of the ranks that are seen."""
        if steps.prefill_tokens is None or steps.step_ms is None:
            return
        known = ~np.isnan(steps.step_ms)
        step_ms, prefills = steps.step_ms[known], np.nan_to_num(steps.prefill_tokens[known]) > 0
        waits = (~prefills).mean(axis=1)
        mixed, decode = prefills.any(axis=1) & (waits > 0), waits == 1
        self.steps += len(step_ms)
        self.time_ms += float(step_ms.sum())
        self.mixed += int(mixed.sum())
        self.mixed_ms += float(step_ms[mixed].sum())
        self.waits += float(waits[mixed].sum())
        self.waits_ms += float((step_ms * waits)[mixed].sum())
        self.decode += int(decode.sum())
        self.decode_ms += float(step_ms[decode].sum())


class Idle(NamedTuple):
    """What the accounts say of the idle."""

    fraction: float = 0.0
    causes: Mapping[str, float] = {}
    """Those that can be told, as shares of rank-time."""
    slow_ranks: Mapping[int, float] = {}
    """Columns of ranks that surely take longer than their load explains, and how many times as long."""


@dataclass
class Ratio:
    """The mean of max/mean over the steps in which some rank holds load."""

    total: float = 0.0
    steps: int = 0

    def add(self, loads: FloatArray) -> None:
        """The (S, G) loads of the next steps."""
        loaded = loads[loads.max(axis=1) > 0]
        self.total += float((loaded.max(axis=1) / loaded.mean(axis=1)).sum()) if len(loaded) else 0.0
        self.steps += len(loaded)

    @property
    def mean(self) -> float:
        """1 where no rank ever holds load."""
        return self.total / self.steps if self.steps else 1.0


@dataclass
class Look:
    """Sums over the accounted steps of the ranks that were seen; arrays of shape (G,) are of each rank."""

    server: Server
    idle: Idle
    prefill: MixedSteps
    steps: int = 0
    tells_running: bool = False
    tells_waiting: bool = False
    running: FloatArray = field(init=False)
    kv_tokens: FloatArray = field(init=False)
    waiting: FloatArray = field(init=False)
    waits: FloatArray = field(init=False)
    """Steps in which requests wait on the rank."""
    kv_share: FloatArray = field(init=False)
    kv_share_steps: FloatArray = field(init=False)
    """Steps in which its used share of the KV cache is known."""
    without_work: FloatArray = field(init=False)
    """Steps in which the rank runs nothing and another does."""
    some_without_work: int = 0
    running_ratio: Ratio = field(default_factory=Ratio)
    kv_tokens_ratio: Ratio = field(default_factory=Ratio)
    ratio_without_work: Ratio = field(default_factory=Ratio)
    """Of running requests, in the steps in which some rank has no work."""
    beside_room: int = 0
    """Steps in which requests wait on a rank while another, on which none waits, has room."""
    beside_room_waiting: float = 0.0
    beside_room_waits: FloatArray = field(init=False)
    beside_room_rooms: FloatArray = field(init=False)
    """Those of the steps in which the rank is the one with requests that wait, and the one with room."""
    beside_slot: int = 0
    """Rank-steps in which a request waits beside a free slot of its own rank, whose KV cache is not full."""
    beside_slot_kv_share: float = 0.0
    beside_slot_kv_known: int = 0

    def __post_init__(self) -> None:
        """Zeros of each rank."""
        for name in (
            "running", "kv_tokens", "waiting", "waits", "kv_share", "kv_share_steps", "without_work",
            "beside_room_waits", "beside_room_rooms",
        ):  # fmt: skip
            setattr(self, name, np.zeros(len(self.server.ranks)))

    @classmethod
    def at(
        cls,
        blocks: Iterable[StepArrays],
        server: Server,
        idle: Idle | None = None,
        prefill: MixedSteps | None = None,
    ) -> Look:
        """A look at steps, which may come in blocks."""
        look = cls(server, idle or Idle(), prefill or MixedSteps())
        for block in blocks:
            look.add(block)
        return look

    def add(self, steps: StepArrays) -> None:
        """The next steps."""
        self.steps += len(steps)
        if self.server.lacks != "kv_tokens":
            self.kv_tokens += steps.kv_tokens.sum(axis=0)
            self.kv_tokens_ratio.add(steps.kv_tokens)
        share = self._kv_share(steps)
        self.kv_share += np.nan_to_num(share).sum(axis=0)
        self.kv_share_steps += (~np.isnan(share)).sum(axis=0)
        if self.server.lacks != "num_running":
            self.tells_running = True
            self._add_running(steps.num_running, steps.prefill_tokens)
            if steps.num_waiting is not None and not np.isnan(steps.num_waiting).all():
                self.tells_waiting = True
                self._add_waiting(steps.num_running, np.nan_to_num(steps.num_waiting), share)

    def _kv_share(self, steps: StepArrays) -> FloatArray:
        if steps.kv_fraction is not None:
            return steps.kv_fraction
        if self.server.kv_capacity is None or self.server.lacks == "kv_tokens":
            return np.full(steps.num_running.shape, np.nan)
        return np.asarray(steps.kv_tokens / self.server.kv_capacity)

    def _add_running(self, running: FloatArray, prefill_tokens: FloatArray | None) -> None:
        self.running += running.sum(axis=0)
        self.running_ratio.add(running)
        without: Chosen = (running == 0) & (running.max(axis=1) > 0)[:, None]
        if prefill_tokens is not None:
            without &= ~(prefill_tokens > 0)
        some = without.any(axis=1)
        self.without_work += without.sum(axis=0)
        self.some_without_work += int(some.sum())
        self.ratio_without_work.add(running[some])

    def _add_waiting(self, running: FloatArray, waiting: FloatArray, kv_share: FloatArray) -> None:
        waits, slots = waiting >= 1, self.server.slots
        self.waiting += waiting.sum(axis=0)
        self.waits += waits.sum(axis=0)
        has_slot = np.ones_like(waits) if slots is None else running < slots
        # Where neither slots nor KV use is known, only a rank without any request surely has room.
        is_roomy = np.where(np.isnan(kv_share), (slots is not None) | (running < 1), kv_share <= ROOMY)
        room = ~waits & has_slot & is_roomy
        both = waits.any(axis=1) & room.any(axis=1)
        self.beside_room += int(both.sum())
        self.beside_room_waiting += float(waiting[both].sum())
        self.beside_room_waits += waits[both].sum(axis=0)
        self.beside_room_rooms += room[both].sum(axis=0)
        if slots is not None:
            beside = waits & has_slot & ~(kv_share >= FULL)
            known = kv_share[beside & ~np.isnan(kv_share)]
            self.beside_slot += int(beside.sum())
            self.beside_slot_kv_share += float(known.sum())
            self.beside_slot_kv_known += len(known)

"""Barrier accounting: what each step's barrier costs, on which ranks, and why.

For a step with rank times r_g (measured `compute_ms`, else a*L_g + b*n_g) the barrier idle of rank g is
max(r) - r_g. Everything else is sums of it. Attribution is exact and additive, per rank and step:

    idle = empty + count + length (+ unexplained, with measured times)

With l = sum(L)/sum(n) and c_g = (a*l + b)*n_g, over the ranks that have work: *count* is max(c) - c_g, the
idle that the numbers of requests alone would give; *length* is the rest of the modelled idle (signed); *empty* is
the modelled idle of ranks without work; *unexplained* is measured minus modelled idle.

Accounts of parts of a run add up, so a long run is accounted for in pieces that are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

from lbal.analyzers.steptime import StepTimeModel
from lbal.analyzers.trace import FloatArray, IntArray, StepArrays

CAUSES = ("empty", "count", "length", "unexplained")
CHUNK_CELLS = 1 << 18
"""Rank-steps that are worked on at once: small enough for the processor's caches."""


@dataclass(frozen=True)
class BarrierAccounts:
    """The accounts of S steps over G ranks; `a + b` are the accounts of both, in that order.

    Arrays of shape (S,) are per step, those of shape (G,) or (G, 4) are sums over the steps.
    """

    step: IntArray
    step_ms: FloatArray
    idle_ms: FloatArray
    """Barrier idle of the step, summed over ranks."""
    slowest_ms: FloatArray
    """The largest rank time."""
    max_kv_tokens: FloatArray
    total_kv_tokens: FloatArray
    running: FloatArray
    """Running requests, summed over ranks: the tokens that the step emits."""
    straggler: IntArray
    """The rank with the largest rank time (the lowest of equals)."""
    straggler_kv_tokens: FloatArray
    causes_ms: FloatArray
    """(S, 4) idle of the step by cause, in the order of `CAUSES`."""
    rank_idle_ms: FloatArray
    rank_work_ms: FloatArray
    rank_straggler: FloatArray
    """Steps in which the rank was the straggler; k equal ones count 1/k each."""
    rank_empty: FloatArray
    """Steps in which the rank had no work."""
    rank_kv_tokens: FloatArray
    rank_running: FloatArray
    rank_causes_ms: FloatArray
    over_step: int
    """Steps whose largest modelled rank time exceeds their measured wall time: the model does not fit them."""

    def __len__(self) -> int:
        return len(self.step)

    def __add__(self, other: Self) -> BarrierAccounts:
        return join([self, other])

    @property
    def dp_size(self) -> int:
        """G."""
        return len(self.rank_idle_ms)

    @property
    def idle_fraction(self) -> FloatArray:
        """(S,) share of each step's rank-time that is barrier idle."""
        return np.asarray(self.idle_ms / (self.dp_size * self.step_ms))

    @property
    def imbalance_tokens(self) -> FloatArray:
        """(S,) G*max(L) - sum(L)."""
        return np.asarray(self.dp_size * self.max_kv_tokens - self.total_kv_tokens)

    @property
    def balance_ratio(self) -> FloatArray:
        """(S,) mean(L)/max(L); 1 where no rank holds a token."""
        mean = self.total_kv_tokens / self.dp_size
        return np.divide(mean, self.max_kv_tokens, out=np.ones_like(mean), where=self.max_kv_tokens > 0)

    @property
    def balanced_ms(self) -> FloatArray:
        """(S,) what each step would last if every rank took the mean rank time."""
        return np.asarray(self.step_ms - self.idle_ms / self.dp_size)


def account(steps: StepArrays, model: StepTimeModel, *, measured: bool) -> BarrierAccounts:
    """The accounts of steps whose loads are all known (no NaN in `kv_tokens` and `num_running`).

    With `measured`, `compute_ms` are the rank times (all must be known); otherwise the model's are. Step times
    are the recorded `step_ms` where there are any, else the model's C and b_mean terms plus the largest rank time.
    """
    size = max(1, CHUNK_CELLS // steps.dp_size)
    parts = [
        _account_chunk(steps.part(slice(start, start + size)), model, measured)
        for start in range(0, max(len(steps), 1), size)
    ]
    return join(parts)


def join(parts: Iterable[BarrierAccounts]) -> BarrierAccounts:
    """The accounts of all parts in order: `a + b + …` without copying each sum. At least one part."""
    items = list(parts)
    if len(items) == 1:
        return items[0]
    joined: dict[str, Any] = {}
    for field in fields(BarrierAccounts):
        values = [getattr(item, field.name) for item in items]
        per_step = not (field.name.startswith("rank_") or field.name == "over_step")
        joined[field.name] = np.concatenate(values) if per_step else sum(values[1:], values[0])
    return BarrierAccounts(**joined)


def _account_chunk(steps: StepArrays, model: StepTimeModel, measured: bool) -> BarrierAccounts:
    tokens, running = steps.kv_tokens, steps.num_running
    modelled = model.rank_time_ms(tokens, running)
    rank_ms = modelled
    if measured:
        assert steps.compute_ms is not None
        rank_ms = steps.compute_ms
    slowest = rank_ms.max(axis=1)
    idle = slowest[:, None] - rank_ms
    step_ms = steps.step_ms if steps.step_ms is not None else model.common_ms(running) + slowest
    causes = _causes(tokens, running, modelled, idle, model)
    straggler = rank_ms.argmax(axis=1)
    is_slowest = rank_ms == slowest[:, None]
    rows = np.arange(len(straggler))
    return BarrierAccounts(
        step=steps.step,
        step_ms=step_ms,
        idle_ms=idle.sum(axis=1),
        slowest_ms=slowest,
        max_kv_tokens=tokens.max(axis=1),
        total_kv_tokens=tokens.sum(axis=1),
        running=running.sum(axis=1),
        straggler=straggler,
        straggler_kv_tokens=tokens[rows, straggler],
        causes_ms=causes.sum(axis=1),
        rank_idle_ms=idle.sum(axis=0),
        rank_work_ms=rank_ms.sum(axis=0),
        rank_straggler=(is_slowest / is_slowest.sum(axis=1, keepdims=True)).sum(axis=0),
        rank_empty=(running == 0).sum(axis=0).astype(np.float64),
        rank_kv_tokens=tokens.sum(axis=0),
        rank_running=running.sum(axis=0),
        rank_causes_ms=causes.sum(axis=0),
        over_step=int((slowest > step_ms * (1 + 1e-9)).sum()),
    )


def _causes(
    tokens: FloatArray, running: FloatArray, modelled: FloatArray, idle: FloatArray, model: StepTimeModel
) -> FloatArray:
    """(S, G, 4) idle by cause, in the order of `CAUSES`."""
    has_work = running > 0
    total = running.sum(axis=1)
    mean_length = np.divide(tokens.sum(axis=1), total, out=np.zeros_like(total), where=total > 0)
    by_count = (model.per_token_s * mean_length + model.per_request_s)[:, None] * 1e3 * running
    count = np.where(has_work, by_count.max(axis=1, keepdims=True) - by_count, 0.0)
    modelled_idle = modelled.max(axis=1, keepdims=True) - modelled
    empty = np.where(has_work, 0.0, modelled_idle)
    length = np.where(has_work, modelled_idle - count, 0.0)
    return np.stack([empty, count, length, idle - modelled_idle], axis=2)

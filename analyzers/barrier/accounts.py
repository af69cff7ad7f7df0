"""Barrier accounting: what each step's barrier costs, on which ranks, and why.

For a step with rank times r_g (measured `compute_ms`, else (a*L_g + b*n_g) / speed) the barrier idle of rank g is
max(r) - r_g. Everything else is sums of it. Attribution is exact and additive, per rank and step:

    idle = empty + count + length (+ prefill, where ranks prefill) (+ speed, with ranks of other speeds)
           (+ unexplained, with measured times)

With l = sum(L)/sum(n) and c_g = (a*l + b)*n_g, over the ranks that have work: *count* is max(c) - c_g, the
idle that the numbers of requests alone would give; *length* is the rest of the idle that equally fast ranks would have
(signed); *empty* is that idle of ranks without work; *speed* is what the speeds of the model change (signed);
*unexplained* is measured minus modelled idle. Measured rank times are c + w_g: the constant part c is the same on all
ranks that work and cancels in their idle; a rank without work saves it, so what it saves of c is *empty* too.

Where ranks prefill, modelled rank times have f_g = p*q_g + e*A_g more, and *prefill* is what of the idle would vanish
if every rank had the mean f of the step (signed: below 0 where prefill fell on the ranks that had least to decode).
Then all that is left is the idle of the decodes, which the other causes share as above; a rank that prefills and does
not decode has work. *Padding*, b times the requests that a rank computes for beyond its own, is computed, not waited:
it is in the rank times, and summed up apart.

Energy needs three more sums (see `analyzers/energy/power.py`): of f(n) = n/(n+h) over the ranks, of f(n)*idle, and of
(L/max(L))^gamma. A model of power says which h and gamma.

Accounts of parts of a run add up, so a long run is accounted for in pieces that are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.account_pass import (
    CAUSES,
    EMPTY,
    MIXED,
    PREFILL,
    UNEXPLAINED,
    PowerCurves,
    RankSums,
    StepSums,
    compiled_pass,
)
from lbal.analyzers.barrier.mixed_work import MixedWork, mixed_work
from lbal.analyzers.barrier.step_time import StepTimeModel, common_time
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays


def shares(part_ms: FloatArray, rank_ms: FloatArray) -> FloatArray:
    """Shares of rank-times; 0 where there is no time to share."""
    return np.divide(part_ms, rank_ms, out=np.zeros_like(rank_ms), where=rank_ms > 0)


@dataclass(frozen=True)
class BarrierAccounts:
    """The accounts of S steps over G ranks; `a + b` are the accounts of both, in that order.

    Arrays of shape (S,) are per step, those of shape (G,) or (G, 6) are sums over the steps.
    """

    step: IntArray
    step_ms: FloatArray
    idle_ms: FloatArray
    """Barrier idle of the step, summed over ranks."""
    slowest_ms: FloatArray
    """The largest rank time."""
    max_kv_tokens: FloatArray
    min_kv_tokens: FloatArray
    total_kv_tokens: FloatArray
    running: FloatArray
    """Running requests, summed over ranks: the tokens that the step emits."""
    max_running: FloatArray
    """Running requests of the rank that has most, and of the one that has fewest."""
    min_running: FloatArray
    straggler: IntArray
    """The rank with the largest rank time (the lowest of equals)."""
    straggler_kv_tokens: FloatArray
    power_curve: FloatArray
    """Sum over ranks of f(n) = n/(n+h); 0 without an h."""
    power_curve_idle_ms: FloatArray
    """Sum over ranks of f(n) times the rank's barrier idle."""
    power_curve_prefill_ms: FloatArray
    """Sum over ranks of f(n) times what its prefill takes."""
    load_curve: FloatArray
    """Sum over ranks of (L/max(L))^gamma, with 0 for ranks where no rank holds a token; 0 without a gamma."""
    prefill_tokens: FloatArray
    """Prompt tokens that the step computes, summed over ranks; 0 where they are not known."""
    prefill_ms: FloatArray
    """What they take under the model, summed over ranks."""
    padding_ms: FloatArray
    """What padding takes under the model, summed over ranks."""
    causes_ms: FloatArray
    """(S, 6) idle of the step by cause, in the order of `CAUSES`."""
    rank_idle_ms: FloatArray
    rank_straggler: FloatArray
    """Steps in which the rank was the straggler; k equal ones count 1/k each."""
    rank_empty: FloatArray
    """Steps in which the rank had no work."""
    rank_kv_tokens: FloatArray
    rank_running: FloatArray
    rank_prefill_tokens: FloatArray
    rank_prefill_ms: FloatArray
    rank_padding_ms: FloatArray
    rank_causes_ms: FloatArray
    over_step: int
    """Steps whose largest modelled rank time exceeds their measured wall time: the model does not fit them."""

    def __len__(self) -> int:
        return len(self.step)

    def part(self, where: slice | IntArray) -> BarrierAccounts:
        """The chosen steps; the sums over steps are those of all."""
        per_step: dict[str, Any] = {name: getattr(self, name)[where] for name in PER_STEP}
        return replace(self, **per_step)

    def __add__(self, other: Self) -> BarrierAccounts:
        return join([self, other])

    @property
    def dp_size(self) -> int:
        """G."""
        return len(self.rank_idle_ms)

    @property
    def has_prefill(self) -> bool:
        """Whether any rank is known to prefill in any step."""
        return bool(self.rank_prefill_tokens.any())

    @property
    def has_padding(self) -> bool:
        """Whether any rank computes for more requests than its own."""
        return bool(self.rank_padding_ms.any())

    @property
    def causes(self) -> dict[str, int]:
        """The causes that can be told, each with its index in the arrays of causes.

        Prefill is among them where there is some, and the model knows what it takes.
        """
        prefill_is_told = self.rank_prefill_ms.any()
        return {cause: index for index, cause in enumerate(CAUSES) if index != PREFILL or prefill_is_told}

    @property
    def idle_fraction(self) -> FloatArray:
        """(S,) share of each step's rank-time that is barrier idle; 0 in steps that take no time."""
        return shares(self.idle_ms, self.dp_size * self.step_ms)

    @property
    def imbalance_tokens(self) -> FloatArray:
        """(S,) G*max(L) - sum(L)."""
        return np.asarray(self.dp_size * self.max_kv_tokens - self.total_kv_tokens)

    @property
    def loaded(self) -> NDArray[np.bool_]:
        """(S,) whether some rank holds a token: without, no ratio says how even the loads are."""
        return np.asarray(self.max_kv_tokens > 0)

    @property
    def balance_ratio(self) -> FloatArray:
        """(S,) mean(L)/max(L); 1 where no rank holds a token."""
        mean = self.total_kv_tokens / self.dp_size
        return np.divide(mean, self.max_kv_tokens, out=np.ones_like(mean), where=self.max_kv_tokens > 0)

    @property
    def balanced_ms(self) -> FloatArray:
        """(S,) what each step would last if every rank took the mean rank time."""
        return np.asarray(self.step_ms - self.idle_ms / self.dp_size)


PER_STEP = tuple(
    field.name for field in fields(BarrierAccounts) if not field.name.startswith("rank_") and field.name != "over_step"
)
"""The fields of accounts that have a value for each step."""


def account(
    steps: StepArrays,
    model: StepTimeModel,
    *,
    measured: bool,
    curves: PowerCurves | None = None,
    constant_ms: float = 0.0,
) -> BarrierAccounts:
    """The accounts of steps whose loads are all known (no NaN in `kv_tokens` and `num_running`).

    With `measured`, `compute_ms` are the rank times (all must be known); otherwise the model's are. Step times
    are the recorded `step_ms` where there are any, else the model's C, C_x and b_mean terms plus the largest rank time.
    What of prefill and padding the steps know is in the modelled rank times.
    `curves` are those of the power model, if energy is asked for; `constant_ms` is the part of measured rank times that
    does not depend on load. Raises `UsageError` for a speed of a rank that is
    not there.
    """
    count, ranks = len(steps), steps.dp_size
    by_step = StepSums(
        **{name: np.empty(count) for name in StepSums._fields if name not in ("straggler", "causes_ms", *MIXED)},
        **{name: np.zeros(count) for name in MIXED},
        straggler=np.empty(count, np.int64),
        causes_ms=np.empty((count, len(CAUSES))),
    )
    by_rank = RankSums(
        **{name: np.zeros(ranks) for name in RankSums._fields if name != "causes_ms"},
        causes_ms=np.zeros((ranks, len(CAUSES))),
    )
    rank_ms = steps.compute_ms if measured else steps.kv_tokens
    assert rank_ms is not None
    loads = [np.ascontiguousarray(array) for array in (steps.kv_tokens, steps.num_running, rank_ms)]
    coefficients = model.coefficients_ms
    beside = mixed_work(steps, coefficients)
    mixed = (*loads, ()) if beside is None else (*map(np.ascontiguousarray, beside), (True,))
    settings = (coefficients, model.slowness(ranks), curves or PowerCurves())
    compiled_pass(mixed=beside is not None)(*loads, measured, *mixed, *settings, by_step, by_rank)
    if measured and constant_ms > 0:
        _count_constant_as_empty(steps, beside, constant_ms, by_step, by_rank)
    step_ms = steps.step_ms
    if step_ms is None:
        step_ms = common_time(by_step.running / ranks, coefficients) + by_step.slowest_ms
        if coefficients.graph_loss:
            step_ms = step_ms + coefficients.graph_loss * (by_step.prefill_tokens > 0)
    return BarrierAccounts(
        step=steps.step,
        step_ms=step_ms,
        **by_step._asdict(),
        **{f"rank_{name}": sums for name, sums in by_rank._asdict().items()},
        over_step=int((by_step.slowest_ms > step_ms * (1 + 1e-9)).sum()),
    )


def _count_constant_as_empty(
    steps: StepArrays, beside: MixedWork | None, constant_ms: float, by_step: StepSums, by_rank: RankSums
) -> None:
    """Ranks without work also save the constant part of a rank time, as far as they did not spend it."""
    assert steps.compute_ms is not None
    idle = (steps.num_running == 0) & (by_step.running > 0)[:, None]
    if beside is not None:
        works = (steps.num_running > 0) | (beside.prefill_tokens > 0)
        idle = ~works & works.any(axis=1, keepdims=True)
    saved = np.where(idle, np.maximum(constant_ms - steps.compute_ms, 0.0), 0.0)
    for sums, axis in ((by_step, 1), (by_rank, 0)):
        sums.causes_ms[:, EMPTY] += saved.sum(axis=axis)
        sums.causes_ms[:, UNEXPLAINED] -= saved.sum(axis=axis)


def join(parts: Iterable[BarrierAccounts]) -> BarrierAccounts:
    """The accounts of all parts in order: `a + b + …` without copying each sum. At least one part."""
    items = list(parts)
    if len(items) == 1:
        return items[0]
    joined: dict[str, Any] = {}
    for field in fields(BarrierAccounts):
        values = [getattr(item, field.name) for item in items]
        joined[field.name] = np.concatenate(values) if field.name in PER_STEP else sum(values[1:], values[0])
    return BarrierAccounts(**joined)

"""Barrier accounting: what each step's barrier costs, on which ranks, and why.

For a step with rank times r_g (measured `compute_ms`, else (a*L_g + b*n_g) / speed) the barrier idle of rank g is
max(r) - r_g. Everything else is sums of it. Attribution is exact and additive, per rank and step:

    idle = empty + count + length (+ speed, with ranks of other speeds) (+ unexplained, with measured times)

With l = sum(L)/sum(n) and c_g = (a*l + b)*n_g, over the ranks that have work: *count* is max(c) - c_g, the
idle that the numbers of requests alone would give; *length* is the rest of the idle that equally fast ranks would have
(signed); *empty* is that idle of ranks without work; *speed* is what the speeds of the model change (signed);
*unexplained* is measured minus modelled idle. Measured rank times are c + w_g: the constant part c is the same on all
ranks that work and cancels in their idle; a rank without work saves it, so what it saves of c is *empty* too.

Energy needs three more sums (see `analyzers/energy/power.py`): of f(n) = n/(n+h) over the ranks, of f(n)*idle, and of
(L/max(L))^gamma. A model of power says which h and gamma.

Accounts of parts of a run add up, so a long run is accounted for in pieces that are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.barrier.step_time import Coefficients, StepTimeModel, common_time, rank_time
from lbal.analyzers.jit import without_references
from lbal.analyzers.trace.trace import FloatArray, IntArray, StepArrays

CAUSES = ("empty", "count", "length", "speed", "unexplained")
EMPTY, COUNT, LENGTH, SPEED, UNEXPLAINED = range(5)


class PowerCurves(NamedTuple):
    """How power depends on load: what the energy sums of the accounts are taken of. 0 where it does not."""

    n_half: float = 0.0
    """h: requests at which f(n) = n/(n+h) is one half."""
    gamma: float = 0.0
    """Exponent of a rank's load over the largest."""


class StepSums(NamedTuple):
    """Sums of each step over the ranks, shape (S,); causes (S, 5). Meanings: `BarrierAccounts`."""

    idle_ms: FloatArray
    slowest_ms: FloatArray
    max_kv_tokens: FloatArray
    min_kv_tokens: FloatArray
    total_kv_tokens: FloatArray
    running: FloatArray
    max_running: FloatArray
    min_running: FloatArray
    straggler: IntArray
    straggler_kv_tokens: FloatArray
    power_curve: FloatArray
    power_curve_idle_ms: FloatArray
    load_curve: FloatArray
    causes_ms: FloatArray


def shares(part_ms: FloatArray, rank_ms: FloatArray) -> FloatArray:
    """Shares of rank-times; 0 where there is no time to share."""
    return np.divide(part_ms, rank_ms, out=np.zeros_like(rank_ms), where=rank_ms > 0)


class RankSums(NamedTuple):
    """Sums of each rank over the steps, shape (G,); causes (G, 5). Meanings: `BarrierAccounts`."""

    idle_ms: FloatArray
    straggler: FloatArray
    empty: FloatArray
    kv_tokens: FloatArray
    running: FloatArray
    causes_ms: FloatArray


@dataclass(frozen=True)
class BarrierAccounts:
    """The accounts of S steps over G ranks; `a + b` are the accounts of both, in that order.

    Arrays of shape (S,) are per step, those of shape (G,) or (G, 5) are sums over the steps.
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
    load_curve: FloatArray
    """Sum over ranks of (L/max(L))^gamma, with 0 for ranks where no rank holds a token; 0 without a gamma."""
    causes_ms: FloatArray
    """(S, 5) idle of the step by cause, in the order of `CAUSES`."""
    rank_idle_ms: FloatArray
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
    are the recorded `step_ms` where there are any, else the model's C and b_mean terms plus the largest rank time.
    `curves` are those of the power model, if energy is asked for; `constant_ms` is the part of measured rank times that
    does not depend on load. Raises `UsageError` for a speed of a rank that is
    not there.
    """
    count, ranks = len(steps), steps.dp_size
    by_step = StepSums(
        **{name: np.empty(count) for name in StepSums._fields if name not in ("straggler", "causes_ms")},
        straggler=np.empty(count, np.int64),
        causes_ms=np.empty((count, len(CAUSES))),
    )
    by_rank = RankSums(
        **{name: np.zeros(ranks) for name in RankSums._fields if name != "causes_ms"},
        causes_ms=np.zeros((ranks, len(CAUSES))),
    )
    rank_ms = steps.compute_ms if measured else steps.kv_tokens
    assert rank_ms is not None
    loads = (np.ascontiguousarray(array) for array in (steps.kv_tokens, steps.num_running, rank_ms))
    coefficients = model.coefficients_ms
    _sum_up()(*loads, measured, coefficients, model.slowness(ranks), curves or PowerCurves(), by_step, by_rank)
    if measured and constant_ms > 0:
        _count_constant_as_empty(steps, constant_ms, by_step, by_rank)
    step_ms = steps.step_ms
    if step_ms is None:
        step_ms = common_time(by_step.running / ranks, coefficients) + by_step.slowest_ms
    return BarrierAccounts(
        step=steps.step,
        step_ms=step_ms,
        **by_step._asdict(),
        **{f"rank_{name}": sums for name, sums in by_rank._asdict().items()},
        over_step=int((by_step.slowest_ms > step_ms * (1 + 1e-9)).sum()),
    )


def _count_constant_as_empty(steps: StepArrays, constant_ms: float, by_step: StepSums, by_rank: RankSums) -> None:
    """Ranks without work also save the constant part of a rank time, as far as they did not spend it."""
    assert steps.compute_ms is not None
    idle = (steps.num_running == 0) & (by_step.running > 0)[:, None]
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


class Work(NamedTuple):
    """What the ranks had to do, shape (S, G), and what tells their times."""

    tokens: FloatArray
    running: FloatArray
    measured_ms: FloatArray
    """Rank times; read only where `measured`."""
    measured: bool
    coefficients_ms: Coefficients
    slowness: FloatArray
    """(G,)"""
    curves: PowerCurves


class Whole(NamedTuple):
    """A step over all ranks: what the accounts of each rank are taken against."""

    tokens: float
    running: float
    max_tokens: float
    min_tokens: float
    max_running: float
    min_running: float
    slowest: float
    """The largest rank time."""
    slowest_modelled: float
    slowest_plain: float
    """The largest modelled one if all ranks had speed 1."""
    straggler: int


def rank_times(work: Work, step: int, rank: int) -> tuple[float, float, float]:
    """The time of a rank in ms: modelled with speed 1, modelled, and the one that counts. Written for compilation."""
    plain = rank_time(work.tokens[step, rank], work.running[step, rank], work.coefficients_ms)
    modelled = work.slowness[rank] * plain
    return plain, modelled, work.measured_ms[step, rank] if work.measured else modelled


def whole_step(work: Work, step: int) -> Whole:
    """Sums and maxima of a step over the ranks. Written for compilation."""
    tokens, running = 0.0, 0.0
    max_tokens, min_tokens, max_running, min_running = 0.0, np.inf, 0.0, np.inf
    slowest, slowest_modelled, slowest_plain, straggler = -1.0, 0.0, 0.0, 0
    for rank in range(work.tokens.shape[1]):
        plain, modelled, took = rank_times(work, step, rank)
        tokens += work.tokens[step, rank]
        running += work.running[step, rank]
        max_tokens = max(max_tokens, work.tokens[step, rank])
        min_tokens = min(min_tokens, work.tokens[step, rank])
        max_running = max(max_running, work.running[step, rank])
        min_running = min(min_running, work.running[step, rank])
        slowest_plain = max(slowest_plain, plain)
        slowest_modelled = max(slowest_modelled, modelled)
        if took > slowest:
            slowest, straggler = took, rank
    loads = (tokens, running, max_tokens, min_tokens, max_running, min_running)
    return Whole(*loads, slowest, slowest_modelled, slowest_plain, straggler)


def add_ranks(work: Work, step: int, whole: Whole, by_step: StepSums, by_rank: RankSums) -> None:
    """Split the idle of every rank by cause; add it to the rank and to the step. Written for compilation."""
    ranks = work.tokens.shape[1]
    mean_length = whole.tokens / whole.running if whole.running > 0 else 0.0
    per_request_ms = rank_time(mean_length, 1.0, work.coefficients_ms)
    slowest_by_count, equals = 0.0, 0
    for rank in range(ranks):
        slowest_by_count = max(slowest_by_count, per_request_ms * work.running[step, rank])
        equals += rank_times(work, step, rank)[2] == whole.slowest
    total_idle, total_empty, total_count, total_modelled, total_plain = 0.0, 0.0, 0.0, 0.0, 0.0
    for rank in range(ranks):
        active = work.running[step, rank]
        plain, modelled, took = rank_times(work, step, rank)
        idle, modelled_idle = whole.slowest - took, whole.slowest_modelled - modelled
        plain_idle = whole.slowest_plain - plain
        total_idle += idle
        total_modelled += modelled_idle
        total_plain += plain_idle
        by_rank.idle_ms[rank] += idle
        by_rank.kv_tokens[rank] += work.tokens[step, rank]
        by_rank.running[rank] += active
        if modelled_idle != plain_idle:
            by_rank.causes_ms[rank, SPEED] += modelled_idle - plain_idle
        by_rank.causes_ms[rank, UNEXPLAINED] += idle - modelled_idle
        if took == whole.slowest:
            by_rank.straggler[rank] += 1.0 / equals
        if active > 0:
            count = slowest_by_count - per_request_ms * active
            total_count += count
            by_rank.causes_ms[rank, COUNT] += count
            by_rank.causes_ms[rank, LENGTH] += plain_idle - count
        else:
            total_empty += plain_idle
            by_rank.empty[rank] += 1.0
            by_rank.causes_ms[rank, EMPTY] += plain_idle
    by_step.idle_ms[step] = total_idle
    by_step.causes_ms[step, EMPTY] = total_empty
    by_step.causes_ms[step, COUNT] = total_count
    by_step.causes_ms[step, LENGTH] = total_plain - total_empty - total_count
    by_step.causes_ms[step, SPEED] = total_modelled - total_plain
    by_step.causes_ms[step, UNEXPLAINED] = total_idle - total_modelled


def add_curves(work: Work, step: int, whole: Whole, by_step: StepSums) -> None:
    """The sums of a step that energy needs. Written for compilation."""
    n_half, gamma = work.curves.n_half, work.curves.gamma
    power_curve, power_curve_idle, load_curve = 0.0, 0.0, 0.0
    if n_half > 0:
        for rank in range(work.tokens.shape[1]):
            active = work.running[step, rank]
            share = active / (active + n_half)
            power_curve += share
            power_curve_idle += share * (whole.slowest - rank_times(work, step, rank)[2])
    if gamma > 0 and whole.max_tokens > 0:
        for rank in range(work.tokens.shape[1]):
            load_curve += (work.tokens[step, rank] / whole.max_tokens) ** gamma
    by_step.power_curve[step] = power_curve
    by_step.power_curve_idle_ms[step] = power_curve_idle
    by_step.load_curve[step] = load_curve


def sum_up(
    tokens: FloatArray,
    running: FloatArray,
    measured_ms: FloatArray,
    measured: bool,
    coefficients_ms: Coefficients,
    slowness: FloatArray,
    curves: PowerCurves,
    by_step: StepSums,
    by_rank: RankSums,
) -> None:
    """One pass over the steps: fills `by_step` and adds to `by_rank`. Written for compilation.

    The arguments are the fields of `Work`, apart because the loads may be arrays that cannot be written.
    """
    work = Work(tokens, running, measured_ms, measured, coefficients_ms, slowness, curves)
    for step in range(work.tokens.shape[0]):
        whole = whole_step(work, step)
        add_ranks(work, step, whole, by_step, by_rank)
        add_curves(work, step, whole, by_step)
        by_step.slowest_ms[step] = whole.slowest
        by_step.max_kv_tokens[step] = whole.max_tokens
        by_step.min_kv_tokens[step] = whole.min_tokens
        by_step.total_kv_tokens[step] = whole.tokens
        by_step.running[step] = whole.running
        by_step.max_running[step] = whole.max_running
        by_step.min_running[step] = whole.min_running
        by_step.straggler[step] = whole.straggler
        by_step.straggler_kv_tokens[step] = work.tokens[step, whole.straggler]


@cache
def _sum_up() -> Any:
    from numba import types

    record: Any = types.NamedTuple
    alike: Any = types.NamedUniTuple
    loads = types.Array(types.float64, 2, "C", readonly=True)
    floats, integers = types.Array(types.float64, 1, "C"), types.Array(types.int64, 1, "C")
    matrix = types.Array(types.float64, 2, "C")
    coefficients = alike(types.float64, len(Coefficients._fields), Coefficients)
    curves = alike(types.float64, len(PowerCurves._fields), PowerCurves)
    kinds = {"causes_ms": matrix, "straggler": integers}
    by_step = record([kinds.get(name, floats) for name in StepSums._fields], StepSums)
    by_rank = record([matrix if name == "causes_ms" else floats for name in RankSums._fields], RankSums)
    helpers = (rank_time, rank_times, whole_step, add_ranks, add_curves)
    return without_references(
        sum_up,
        types.void(loads, loads, loads, types.boolean, coefficients, floats, curves, by_step, by_rank),
        helpers=helpers,
    )

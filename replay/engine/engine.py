"""The replay: requests, a cluster and a policy in; a trace and its accounts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.barrier.account_pass import PowerCurves
from lbal.analyzers.barrier.accounts import BarrierAccounts, account, join
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import Parameter, PluginError, PolicyError, UsageError
from lbal.analyzers.registry import guarded, what_was_raised
from lbal.analyzers.trace.trace import MAX_TOKENS, FloatArray, IntArray, StepArrays, Trace, TraceMeta
from lbal.replay.engine import loop
from lbal.replay.engine.compiling import Rules, compiled_loop
from lbal.replay.engine.mixed import Mixed, Moments, Preempted, check_prefill
from lbal.replay.engine.mixed_loop import LOADS, MixedRows
from lbal.replay.policy.policy import Binding, Policy
from lbal.replay.policy.view import View
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload

Phase = Literal["ramp", "full", "drain"]
SIGNALS = ("kv_tokens", "num_running", "prompt_running", "num_waiting", "tokens_waiting", "prefill_pending")
"""What a policy sees of the ranks, and sees late where it says so."""
MOST_RANKS, MOST_SLOTS, MOST_STEPS = 1 << 16, 1 << 24, 20_000_000
"""Beyond these a size is a typing mistake, or a replay that no memory holds (some 120 bytes a step)."""
MOST_POOL = 1 << 32
LEAST_SCALE, MOST_SCALE = 1e-6, 1e9
"""Rate scales at which requests are hardly ever together, and all come at once."""
PHASES: tuple[Phase, Phase] = ("ramp", "full")


@dataclass(frozen=True)
class Progress:
    """How far a replay has come."""

    steps: int
    completed: int
    requests: int


@dataclass(frozen=True)
class Replay:
    """What a replay computed. `trace` has the steps only where they were kept."""

    policy: Policy
    binding: Binding
    step_model: StepTimeModel
    trace: Trace
    accounts: dict[Phase, BarrierAccounts]
    """`ramp`: before the first full occupancy; `full`: from there to the last admission; `drain`: after it.

    A phase without steps is absent. The step that begins with the last admission is the first of the drain.
    """
    start_ms: FloatArray
    """(S,) when each step started."""
    step_ms: FloatArray
    preempted: Preempted | None
    """Of a replay with prefill."""
    ended_prompts: FloatArray | None
    """(S,) prompts that ended with each step, and gave a token, of a replay with prefill."""
    moments: Moments
    """The steps in which each request was admitted, gave its first token and ended."""
    waited_steps: IntArray
    """(N,) steps between joining the pool or queue and admission."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """What the policy says of its decisions (`Policy.statistics`)."""
    stalled: NDArray[np.bool_] | None = None
    """(S, G) in which steps the decodes of a rank stood still beside its prompts; None where they never do."""
    also: tuple[dict[Phase, BarrierAccounts], ...] = ()
    """Accounts of the same trajectory under each of the other step-time models that were asked for."""

    @property
    def admitted_step(self) -> IntArray:
        """(N,) the step in which each request was admitted."""
        return self.moments.admitted_step

    @property
    def prefills(self) -> bool:
        """Whether it computed prompts."""
        return "prefill" in self.trace.meta.config


@dataclass
class _Trajectory:
    """Takes the rows as the loop hands them over: always accounts, and the rows themselves if kept."""

    model: StepTimeModel
    keep: bool
    immediate: bool
    curves: PowerCurves
    also: tuple[StepTimeModel, ...]
    """Models that the same loads are accounted for with, after the one of the replay."""
    on_steps: Callable[[StepArrays], None] | None = None
    stalls: bool = False
    """Whether decodes stall in the steps in which their rank computes prompts."""
    settled: dict[Phase, list[list[BarrierAccounts]]] = field(default_factory=lambda: {"ramp": [], "full": []})
    pending: dict[Phase, list[list[BarrierAccounts]]] = field(default_factory=lambda: {"ramp": [], "full": []})
    """Steps since the last admission so far: the drain, unless another admission follows."""
    kept: list[StepArrays] = field(default_factory=list)
    stalled: list[NDArray[np.uint8]] = field(default_factory=list)
    """In which steps each rank's decodes stall, as bits."""
    start_ms: list[FloatArray] = field(default_factory=list)
    step_ms: list[FloatArray] = field(default_factory=list)
    ended_prompts: list[FloatArray] = field(default_factory=list)
    """With prefill: prompts that ended with each step."""
    steps: int = 0

    def take(
        self,
        rows: loop.Rows,
        mixed: MixedRows | None,
        count: int,
        first_full_step: int,
        last_admission_step: int,
    ) -> None:
        """Account for the next `count` rows; those after the last admission so far are the drain, for now."""
        steps = StepArrays(
            step=np.arange(self.steps, self.steps + count),
            kv_tokens=rows.kv_tokens[:count],
            num_running=rows.num_running[:count],
            step_ms=rows.step_ms[:count].copy(),
            start_ms=rows.start_ms[:count].copy(),
            num_waiting=rows.num_waiting[:count] if self.immediate else None,
            **({} if mixed is None else {name: getattr(mixed, name)[:count] for name in LOADS}),
        )
        assert steps.step_ms is not None
        assert steps.start_ms is not None
        full_from = self._row_of(first_full_step, count) if first_full_step >= 0 else count
        drain_from = self._row_of(last_admission_step, count)
        if last_admission_step >= self.steps:
            for phase in PHASES:
                self.settled[phase] += self.pending[phase]
                self.pending[phase] = []
        for start, stop, parts in ((0, drain_from, self.settled), (drain_from, count, self.pending)):
            middle = min(max(full_from, start), stop)
            for phase, chosen in zip(PHASES, (slice(start, middle), slice(middle, stop)), strict=True):
                if chosen.start < chosen.stop:
                    parts[phase].append(self._account(steps.part(chosen)))
        if mixed is not None:
            self.ended_prompts.append(mixed.ended_prompts[:count].copy())
        self.start_ms.append(steps.start_ms)
        self.step_ms.append(steps.step_ms)
        self.steps += count
        if self.on_steps is not None:
            self.on_steps(steps)
        if self.stalls:
            assert steps.prefill_tokens is not None
            self.stalled.append(np.packbits(steps.prefill_tokens > 0, axis=1))
        if self.keep:
            self.kept.append(_copied(steps))

    def _account(self, steps: StepArrays) -> list[BarrierAccounts]:
        """The accounts under the model of the replay, then under the others, which give other step times."""
        first = account(steps, self.model, measured=False, curves=self.curves)
        untimed = replace(steps, step_ms=None)
        return [first, *[account(untimed, model, measured=False, curves=self.curves) for model in self.also]]

    def _row_of(self, step: int, count: int) -> int:
        """The row of a step among the next `count` ones, or the nearest end."""
        return min(max(step - self.steps, 0), count)

    def accounts(self, index: int = 0) -> dict[Phase, BarrierAccounts]:
        """The accounts of each phase that has steps, under the model of that index."""
        parts = {**self.settled, "drain": [*self.pending["ramp"], *self.pending["full"]]}
        return {phase: join([item[index] for item in items]) for phase, items in parts.items() if items}


def replay(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    conditions: Conditions,
    *,
    keep_steps: bool = True,
    curves: PowerCurves | None = None,
    also: Sequence[StepTimeModel] = (),
    on_steps: Callable[[StepArrays], None] | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
) -> Replay:
    """Serve the requests of a workload on a cluster under a policy.

    `keep_steps` keeps the loads of every step and rank in the trace; the accounts are there either way. `curves` are
    those of the power model whose energy is asked for. The same trajectory is accounted for under the models in `also`.
    `on_steps` sees all steps in their order, some at a time, in arrays that are written anew afterwards.
    Raises `UsageError` for conditions that cannot be and `PolicyError` where the policy's rule breaks the contract.
    """
    binding = _binding(policy, conditions)
    _check(workload, cluster, policy, conditions)
    parts = prepared(workload, cluster, policy, conditions)
    requests, slots, state, view, rows, settings, _mixed = parts
    rules = Rules(policy, view, state.pool, state.admitted, state.chosen_rank)
    _try(policy, cluster.dp_size)
    trajectory = _Trajectory(
        cluster.step_model,
        keep_steps,
        binding == "immediate",
        curves or PowerCurves(),
        tuple(also),
        on_steps,
        stalls=cluster.prefill is not None and not cluster.prefill.mixes,
    )
    mixed, run_loop = parts.mixed, compiled_loop()
    status = loop.ROWS_FULL
    while status == loop.ROWS_FULL:
        with _explained(policy):
            if mixed is None:
                status = run_loop(rules.choose, rules.place, rules.shown, view, requests, slots, state, rows, settings)
            else:
                status = mixed.run(rules, view, requests, slots, state, rows, settings)
        if status not in (loop.ROWS_FULL, loop.DONE):
            raise _failure(status, policy, workload, state, rules)
        counters = state.counters
        trajectory.take(
            rows,
            None if mixed is None else mixed.rows,
            int(counters[loop.ROWS]),
            int(counters[loop.FIRST_FULL_STEP]),
            int(counters[loop.LAST_ADMISSION_STEP]),
        )
        counters[loop.ROWS] = 0
        on_progress(Progress(trajectory.steps, int(counters[loop.COMPLETED]), len(workload)))
    with guarded("policy", type(policy)):
        statistics = policy.statistics(view.memory)
    moments = _moments(requests) if mixed is None else mixed.moments()
    return replace(
        _result(workload, cluster, policy, binding, conditions, requests, moments, trajectory),
        statistics=statistics,
        preempted=None if mixed is None else mixed.preempted,
    )


class Prepared(NamedTuple):
    """What the loop works on, before its first step."""

    requests: loop.Requests
    slots: loop.Slots
    state: loop.State
    view: View
    rows: loop.Rows
    settings: loop.Settings
    mixed: Mixed | None
    """Of a cluster with a prefill rule."""


def prepared(workload: Workload, cluster: Cluster, policy: Policy, conditions: Conditions) -> Prepared:
    """An empty cluster and requests that are all still to come."""
    requests = _requests(workload, cluster, conditions)
    slots = _slots(workload, cluster)
    state = _state(workload, cluster, requests, len(workload) if policy.lag_ms > 0 else 0)
    with guarded("policy", type(policy)):
        view = _view(workload, cluster, policy, conditions, requests, slots, state)
    settings = _settings(cluster, conditions, policy, _binding(policy, conditions))
    mixed, rule = None, cluster.prefill
    if rule is not None:
        mixed = Mixed.of(rule, workload, cluster, state, view, immediate=settings.immediate)
    return Prepared(requests, slots, state, view, _rows(cluster.dp_size), settings, mixed)


def _try(policy: Policy, dp_size: int) -> None:
    from lbal.replay.engine.trial import try_policies  # it runs the loop on what `prepared` returns

    try_policies([policy], dp_size)


@contextmanager
def _explained(policy: Policy) -> Iterator[None]:
    """Errors of a compiled rule that is not lbal's own, with what can be done about them."""
    try:
        with guarded("policy", type(policy)):
            yield
    except PluginError as error:
        if isinstance(error.__cause__, IndexError):
            raise PolicyError(
                f"policy {policy.name}: its rule reads or writes outside an array, expected a memory for all that it "
                "keeps (compiled = False shows the line)"
            ) from error
        raise


def _binding(policy: Policy, conditions: Conditions) -> Binding:
    if conditions.binding is None:
        return policy.bindings[0]
    if conditions.binding not in policy.bindings:
        raise UsageError(
            f"the policy {policy.name} cannot use it, expected {policy.bindings[0]}",
            parameter=Parameter("binding", conditions.binding),
        )
    return conditions.binding


def _check(workload: Workload, cluster: Cluster, policy: Policy, conditions: Conditions) -> None:
    for name, value, most in (
        ("dp_size", cluster.dp_size, MOST_RANKS),
        ("max_num_seqs", cluster.max_num_seqs, MOST_SLOTS),
        ("pool", conditions.pool, MOST_POOL),
        ("kv_capacity", cluster.kv_capacity, MAX_TOKENS),
    ):
        if value is not None and not 1 <= value <= most:
            size = "small" if value < 1 else "large"
            raise UsageError(
                f"{value} is too {size}, expected a whole number of at least 1 and at most {most:,}", parameter=name
            )
    if not LEAST_SCALE <= conditions.rate_scale <= MOST_SCALE:
        raise UsageError(
            f"{conditions.rate_scale} is no scale, expected {LEAST_SCALE:g} to {MOST_SCALE:g}", parameter="rate_scale"
        )
    longest = int(workload.output_tokens.max())
    if longest > MOST_STEPS:
        raise UsageError(
            f"{workload.source}: a request asks for {longest:,} output tokens, a step for each, "
            f"expected at most {MOST_STEPS:,}"
        )
    if policy.uses_recorded_rank:
        ranks = workload.recorded_rank
        if ranks is None or (ranks < 0).any():
            raise UsageError(
                f"{workload.source} names no rank for some requests, expected one for each",
                parameter=Parameter("policy", policy.name),
            )
        if ranks.max() >= cluster.dp_size:
            raise UsageError(
                f"{cluster.dp_size} is too small for the recorded rank {ranks.max()}, "
                f"expected at least {ranks.max() + 1}",
                parameter="dp_size",
            )
    if cluster.kv_capacity is not None:
        _check_capacity(workload, cluster, conditions.drift)
    if cluster.prefill is not None:
        check_prefill(cluster.prefill, workload, cluster)


def _check_capacity(workload: Workload, cluster: Cluster, drift: Drift) -> None:
    largest = drift.largest_load(workload.prompt_tokens, workload.output_tokens)
    capacity = cluster.admission_capacity
    of_them = f" (of {cluster.kv_capacity}, with the watermark)" if capacity != cluster.kv_capacity else ""
    if (largest > capacity).any():
        request = int(np.argmax(largest > capacity))
        raise UsageError(
            f"{capacity:.0f} tokens{of_them} can never hold request {workload.request_id[request]} of "
            f"{workload.source} ({workload.prompt_tokens[request]} prompt + {workload.output_tokens[request]} output "
            f"tokens), expected at least {largest.max()}",
            parameter="kv_capacity",
        )


def _requests(workload: Workload, cluster: Cluster, conditions: Conditions) -> loop.Requests:
    count, drift, prefills = len(workload), conditions.drift, cluster.prefill is not None
    prompts, outputs = workload.prompt_tokens, workload.output_tokens
    arriving, sessions = conditions.arriving, _sessions(workload, conditions)
    return loop.Requests(
        prompt_tokens=drift.entering_load(prompts),
        output_tokens=np.array(outputs, np.int64),
        growing_steps=drift.growing_steps(prompts, outputs),
        reserved_tokens=drift.entering_load(prompts) if cluster.grows else drift.largest_load(prompts, outputs),
        arrival_ms=conditions.arrival_ms(workload) if arriving.is_timed else np.zeros(0),
        arrived_step=np.full(count, loop.NONE, np.int64),
        joined=np.arange(count),
        waits_for=sessions.waits_for,
        delay_ms=sessions.delay_ms,
        followers_from=sessions.followers_from,
        followers=sessions.followers,
        rank=np.full(count, loop.NONE, np.int64),
        admitted_step=np.zeros(count, np.int64),
        next_queued=np.zeros(count, np.int64),
        prefill_tokens=np.array(prompts, np.int64) if prefills else np.zeros(0, np.int64),
        computed_tokens=np.zeros(count if prefills else 0, np.int64),
        given_tokens=np.zeros(count if prefills else 0, np.int64),
    )


class _Sessions(NamedTuple):
    """What `loop.Requests` holds of sessions."""

    waits_for: IntArray
    delay_ms: FloatArray
    followers_from: IntArray
    followers: IntArray


def _sessions(workload: Workload, conditions: Conditions) -> _Sessions:
    """Who waits for whom, by the request that is waited for; empty where the arrivals are no sessions."""
    count, none = len(workload), np.zeros(0, np.int64)
    waits = workload.waits if conditions.arriving.kind == "sessions" else None
    if waits is None:
        return _Sessions(none, np.zeros(0), none, none)
    return _Sessions(
        waits_for=np.bincount(waits.request, minlength=count),
        delay_ms=waits.delay_ms,
        followers_from=np.concatenate([[0], np.cumsum(np.bincount(waits.wait_for, minlength=count))]),
        followers=waits.request[np.argsort(waits.wait_for, kind="stable")],
    )


def _slots(workload: Workload, cluster: Cluster) -> loop.Slots:
    count = min(cluster.dp_size * cluster.max_num_seqs, len(workload))
    fields: dict[str, Any] = {name: np.zeros(count, np.int64) for name in loop.Slots._fields}
    fields["request"].fill(loop.NONE)
    return loop.Slots(**{**fields, "free": np.arange(count), "grows_to_the_end": np.zeros(count, np.bool_)})


def _state(workload: Workload, cluster: Cluster, requests: loop.Requests, sent: int) -> loop.State:
    """An empty cluster, with room to note `sent` requests as they are sent."""
    ranks, ready = cluster.dp_size, _ready(requests)
    counters = np.zeros(loop.NUM_COUNTERS, np.int64)
    counters[[loop.FIRST_FULL_STEP, loop.LAST_ADMISSION_STEP]] = loop.NONE
    counters[loop.READY] = np.count_nonzero(requests.waits_for == 0)
    slots = min(ranks * cluster.max_num_seqs, len(workload))
    calendar = int(workload.output_tokens.max()) + 1

    def zeros() -> IntArray:
        return np.zeros(ranks, np.int64)

    return loop.State(
        counters=counters,
        times=np.zeros(loop.NUM_TIMES),
        kv_tokens=np.zeros(ranks),
        num_running=zeros(),
        prompt_running=zeros(),
        generated=zeros(),
        growing=zeros(),
        reserved=zeros(),
        queue_head=zeros(),
        queue_tail=zeros(),
        num_waiting=zeros(),
        tokens_waiting=zeros(),
        prefill_pending=zeros(),
        ending=np.full(calendar, loop.NONE, np.int64),
        grown=np.full(calendar, loop.NONE, np.int64),
        pool=np.zeros(len(workload), np.int64),
        ready=ready,
        admitted=np.zeros(slots, np.int64),
        chosen_rank=np.zeros(slots, np.int64),
        slowness=cluster.step_model.slowness(ranks),
        sent_request=np.zeros(sent, np.int64),
        sent_rank=np.zeros(sent, np.int64),
        sent_ms=np.zeros(sent),
    )


def _ready(requests: loop.Requests) -> IntArray:
    """In sessions: the requests that wait for none, in the order in which they join (so a heap), then room for all."""
    first = np.flatnonzero(requests.waits_for == 0)
    ready = np.zeros(len(requests.waits_for), np.int64)
    ready[: len(first)] = first[np.argsort(requests.arrival_ms[first], kind="stable")]
    return ready


def _view(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    conditions: Conditions,
    requests: loop.Requests,
    slots: loop.Slots,
    state: loop.State,
) -> View:
    ranks, count = cluster.dp_size, len(workload)
    empty = np.zeros(0, np.int64)
    draws = np.random.default_rng(conditions.seed).random((count, 2)) if policy.uses_draws else np.zeros((0, 2))
    recorded = workload.recorded_rank if policy.uses_recorded_rank else None
    capacity = np.inf if cluster.kv_capacity is None else float(cluster.kv_capacity)
    live = {name: getattr(state, name) for name in SIGNALS}
    signals = {name: array.copy() for name, array in live.items()} if policy.staleness != (0, 0) else live
    return View(
        dp_size=ranks,
        max_num_seqs=cluster.max_num_seqs,
        kv_capacity=capacity,
        drift=conditions.drift.per_step,
        attention_window=conditions.drift.window,
        per_token_ms=cluster.step_model.coefficients_ms.per_token,
        per_request_ms=cluster.step_model.coefficients_ms.per_request,
        per_prefill_token_ms=0.0 if cluster.prefill is None else cluster.step_model.coefficients_ms.per_prefill_token,
        **signals,
        dispatched=np.zeros(ranks, np.int64),
        tokens_dispatched=np.zeros(ranks, np.int64),
        inflight=np.zeros(ranks, np.int64),
        behind=np.zeros(ranks, np.int64),
        eligible=np.ones(ranks, np.bool_),
        free_kv=np.full(ranks, capacity),
        prompt_tokens=requests.prompt_tokens,
        reserved_tokens=requests.reserved_tokens if cluster.kv_capacity is not None else np.zeros(count, np.int64),
        arrived_step=requests.arrived_step,
        joined=requests.joined,
        active=slots.request,
        rank=requests.rank,
        admitted_step=requests.admitted_step,
        output_tokens=requests.output_tokens if policy.uses_true_lengths else empty,
        survivors=np.zeros(requests.output_tokens.max(), np.int64) if policy.learns_lengths else empty,
        tokens_completed=np.zeros(1, np.int64) if policy.learns_lengths else empty,
        recorded_rank=np.array(recorded, np.int64) if recorded is not None else empty,
        draws=draws,
        parameters=policy.numbers(),
        memory=np.zeros(policy.memory_size(ranks)),
        clock=np.zeros(3),
    )


def _settings(cluster: Cluster, conditions: Conditions, policy: Policy, binding: Binding) -> loop.Settings:
    model = cluster.step_model
    stale_ms, stale_steps = policy.staleness
    arriving = conditions.arriving
    return loop.Settings(
        immediate=binding == "immediate",
        untimed=not arriving.is_timed,
        closed=arriving.in_flight is not None,
        sessions=arriving.kind == "sessions",
        by_steps=arriving.kind == "steps",
        selects=policy.selects,
        work_conserving=policy.work_conserving,
        target=arriving.in_flight or conditions.pool_size(cluster.dp_size),
        kv_capacity=cluster.admission_capacity,
        coefficients_ms=model.coefficients_ms,
        drift=conditions.drift.per_step,
        stale_ms=stale_ms,
        stale_steps=stale_steps,
        lag_ms=policy.lag_ms,
        prefills=cluster.prefill is not None,
    )


def _rows(dp_size: int) -> loop.Rows:
    count = loop.rows_of_buffer(dp_size)
    shape = (count, dp_size)
    return loop.Rows(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(count), np.zeros(count))


def _copied(steps: StepArrays) -> StepArrays:
    copies: dict[str, Any] = {name: None if array is None else array.copy() for name, array in vars(steps).items()}
    return StepArrays(**copies)


def _moments(requests: loop.Requests) -> Moments:
    """Without prefill a request gives a token with every step from the one that it is admitted in."""
    last_step = requests.admitted_step + requests.output_tokens - 1
    return Moments(requests.admitted_step, requests.admitted_step, last_step)


def _failure(status: int, policy: Policy, workload: Workload, state: loop.State, rules: Rules) -> BaseException:
    request, rank = (int(state.counters[index]) for index in (loop.BAD_REQUEST, loop.BAD_RANK))
    name = workload.request_id[request] if 0 <= request < len(workload) else request
    if status == loop.RULE_FAILED:
        if rules.error is None or isinstance(rules.error, KeyboardInterrupt):
            return rules.error or PolicyError(f"policy {policy.name}: its rule failed")
        reason = what_was_raised(rules.error)
        return PolicyError(f"policy {policy.name}: its rule raised {reason}").with_traceback(rules.error.__traceback__)
    if status == loop.BAD_PLACEMENT:
        return PolicyError(
            f"policy {policy.name}: it placed request {name} on rank {rank}, "
            "expected a waiting request and a rank with a free slot and room for it"
        )
    if status == loop.LEFT_SLOTS_EMPTY:
        return PolicyError(
            f"policy {policy.name}: it left request {name} waiting although rank {rank} could take it, "
            "expected a work-conserving placement (or work_conserving = False)"
        )
    return PolicyError(f"policy {policy.name}: it admits nothing although all ranks are empty and requests wait")


def _result(
    workload: Workload,
    cluster: Cluster,
    policy: Policy,
    binding: Binding,
    conditions: Conditions,
    requests: loop.Requests,
    moments: Moments,
    trajectory: _Trajectory,
) -> Replay:
    start_ms, step_ms = np.concatenate(trajectory.start_ms), np.concatenate(trajectory.step_ms)
    end_ms = start_ms + step_ms
    frame = pl.DataFrame(
        {
            "request_id": workload.request_id,
            "arrival_ms": requests.arrival_ms if len(requests.arrival_ms) else start_ms[requests.arrived_step],
            "prompt_tokens": workload.prompt_tokens,
            "output_tokens": workload.output_tokens,
            "rank": requests.rank,
            "admitted_ms": start_ms[moments.admitted_step],
            "first_token_ms": end_ms[moments.first_token_step],
            "finish_ms": end_ms[moments.last_step],
        }
    )
    meta = TraceMeta(
        source=f"replay of {workload.source}",
        format="replay",
        kind="replayed",
        engine=policy.label,
        dp_size=cluster.dp_size,
        max_num_seqs=cluster.max_num_seqs,
        time_unit="ms",
        seed=conditions.seed,
        step_model=cluster.step_model.as_dict(),
        config=_config(policy, binding, cluster, conditions),
    )
    steps = _joined(trajectory.kept).frame() if trajectory.keep else None
    return Replay(
        policy=policy,
        binding=binding,
        step_model=cluster.step_model,
        trace=Trace(meta, frame, steps),
        accounts=trajectory.accounts(),
        start_ms=start_ms,
        step_ms=step_ms,
        preempted=None,
        ended_prompts=np.concatenate(trajectory.ended_prompts) if trajectory.ended_prompts else None,
        moments=moments,
        waited_steps=moments.admitted_step - requests.arrived_step,
        stalled=_unpacked(trajectory.stalled, cluster.dp_size),
        also=tuple(trajectory.accounts(index) for index in range(1, 1 + len(trajectory.also))),
    )


def _config(policy: Policy, binding: Binding, cluster: Cluster, conditions: Conditions) -> dict[str, Any]:
    told = conditions.as_dict(cluster) | {"binding": binding}
    names = ("binding", "arrivals", "rate_scale", "pool", "kv_capacity", "drift")
    return {
        "policy": policy.name,
        "parameters": policy.parameters(),
        **{name: told[name] for name in names},
        **cluster.prefill_record,
    }


def _unpacked(parts: list[NDArray[np.uint8]], dp_size: int) -> NDArray[np.bool_] | None:
    return np.unpackbits(np.concatenate(parts), axis=1, count=dp_size).astype(np.bool_) if parts else None


def _joined(parts: list[StepArrays]) -> StepArrays:
    names = [name for name, array in vars(parts[0]).items() if array is not None]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return StepArrays(**joined)

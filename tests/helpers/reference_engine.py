"""The replay semantics in plain Python, one object per request: what the compiled loop must equal.

Written for reading, not for speed. It asks the same policy rules, uncompiled, through the same view.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lbal.replay.policy.policy import Policy, Selector
from lbal.replay.policy.view import NOW_MS, SIGNALS_TAKEN, STEP, View
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload


@dataclass
class Request:
    index: int
    prompt: int
    output: int
    arrival_ms: float
    waits_for: list[Request] = field(default_factory=list)
    delay_ms: float = 0.0
    arrived_step: int = -1
    rank: int = -1
    generated: int = 0
    token_ms: list[float] = field(default_factory=list)
    admitted_step: int = -1
    admitted_ms: float = 0.0
    finish_ms: float = 0.0
    sent_ms: float = np.inf

    def load(self, drift: Drift) -> float:
        return self.entering(drift) + drift.per_step * min(self.generated, self.growing_steps(drift))

    def entering(self, drift: Drift) -> int:
        return int(min(self.prompt, drift.window))

    def growing_steps(self, drift: Drift) -> int:
        return int(min(self.output, max(drift.window - self.prompt, 0)))

    def reserved(self, drift: Drift) -> int:
        return int(np.ceil(self.entering(drift) + drift.per_step * self.growing_steps(drift)))


@dataclass
class Rank:
    active: list[Request] = field(default_factory=list)
    queue: list[Request] = field(default_factory=list)


@dataclass
class Trajectory:
    kv_tokens: list[list[float]] = field(default_factory=list)
    num_running: list[list[int]] = field(default_factory=list)
    num_waiting: list[list[int]] = field(default_factory=list)
    step_ms: list[float] = field(default_factory=list)
    start_ms: list[float] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


class ReferenceEngine:
    def __init__(self, workload: Workload, cluster: Cluster, policy: Policy, conditions: Conditions) -> None:
        self.cluster, self.policy, self.conditions = cluster, policy, conditions
        self.arriving = conditions.arriving
        self.immediate = (conditions.binding or policy.bindings[0]) == "immediate"
        self.capacity = np.inf if cluster.kv_capacity is None else cluster.kv_capacity
        self.drift = conditions.drift
        self.stale_ms, self.stale_steps = policy.staleness
        self.seen_ms, self.seen_step = 0.0, 0
        arrivals = conditions.arrival_ms(workload) if self.arriving.is_timed else np.zeros(len(workload))
        self.requests = [
            Request(i, int(p), int(o), float(t))
            for i, (p, o, t) in enumerate(zip(workload.prompt_tokens, workload.output_tokens, arrivals, strict=True))
        ]
        if self.arriving.kind == "sessions":
            for follower, leader in zip(workload.waits.request, workload.waits.wait_for, strict=True):
                self.requests[follower].waits_for.append(self.requests[leader])
                self.requests[follower].delay_ms = float(workload.waits.delay_ms[follower])
        self.ranks = [Rank() for _ in range(cluster.dp_size)]
        self.pool: list[Request] = []
        self.joined: list[Request] = []
        self.admitted = 0
        self.step, self.now_ms = 0, 0.0
        self.view = self._view(workload)
        self.out = Trajectory(requests=self.requests)

    def run(self) -> Trajectory:
        while any(request.finish_ms == 0 for request in self.requests):
            self._join(self.now_ms, inclusive=True)
            if self.immediate:
                self._admit_from_queues()
            elif isinstance(self.policy, Selector):
                self._admit_selected()
            else:
                self._admit_in_order()
            if not any(rank.active for rank in self.ranks):
                following = self._next_arrival()
                assert following is not None
                self.now_ms = following.arrival_ms
                continue
            end_ms = self._record()
            if self.immediate and self.arriving.is_timed:
                self._join(end_ms, inclusive=False)
            self._advance(end_ms)
            self.step += 1
            self.now_ms = end_ms
        return self.out

    def _join(self, until_ms: float, *, inclusive: bool) -> None:
        while (request := self._next_arrival()) is not None:
            if self.arriving.kind == "closed":
                if sum(other.finish_ms == 0 for other in self.joined) >= self.arriving.in_flight:
                    break
                request.arrival_ms = until_ms
            elif self.arriving.kind == "backlog":
                if len(self.joined) - self.admitted >= (self.conditions.pool or 4 * self.cluster.dp_size):
                    break
                request.arrival_ms = until_ms
            elif request.arrival_ms > until_ms or (request.arrival_ms == until_ms and not inclusive):
                break
            request.arrived_step = self.step if inclusive else self.step + 1
            self.joined.append(request)
            if self.immediate:
                self._take_signals()
                self._show(eligible=[True] * len(self.ranks))
                rank = self.policy.choose(self.view, request.index)
                self.ranks[rank].queue.append(request)
                request.sent_ms = request.arrival_ms
                self._count_dispatch(request, rank)
            else:
                self.pool.append(request)

    def _next_arrival(self) -> Request | None:
        """Of the requests that have not joined, the one that does so first, as far as that is known."""
        known = [r for r in self.requests if r.arrived_step < 0 and all(other.finish_ms > 0 for other in r.waits_for)]
        for request in known:
            if request.waits_for:
                request.arrival_ms = max(other.finish_ms for other in request.waits_for) + request.delay_ms
        return min(known, key=lambda request: (request.arrival_ms, request.index), default=None)

    def _fits(self, request: Request, rank: Rank) -> bool:
        reserved = sum(other.reserved(self.drift) for other in rank.active)
        needed = request.reserved(self.drift)
        return len(rank.active) < self.cluster.max_num_seqs and reserved + needed <= self.capacity

    def _admit(self, request: Request, rank: int) -> None:
        assert self._fits(request, self.ranks[rank])
        request.rank, request.admitted_step, request.admitted_ms = rank, self.step, self.now_ms
        self.ranks[rank].active.append(request)
        self.admitted += 1
        if not self.immediate:
            request.sent_ms = self.now_ms
            self._count_dispatch(request, rank)

    def _admit_from_queues(self) -> None:
        for index, rank in enumerate(self.ranks):
            while rank.queue and self._fits(rank.queue[0], rank):
                self._admit(rank.queue.pop(0), index)

    def _admit_in_order(self) -> None:
        while self.pool:
            eligible = [self._fits(self.pool[0], rank) for rank in self.ranks]
            if not any(eligible):
                break
            self._show(eligible)
            self._admit(self.pool[0], self.policy.choose(self.view, self.pool[0].index))
            self.pool.pop(0)

    def _admit_selected(self) -> None:
        if not self.pool or all(len(rank.active) == self.cluster.max_num_seqs for rank in self.ranks):
            return
        self._show([True] * len(self.ranks))
        indices = np.array([request.index for request in self.pool])
        requests, ranks = np.zeros(len(indices), np.int64), np.zeros(len(indices), np.int64)
        for chosen in range(self.policy.place(self.view, indices, len(indices), requests, ranks)):
            self._admit(self.requests[requests[chosen]], int(ranks[chosen]))
        self.pool = [request for request in self.pool if request.rank < 0]

    def _record(self) -> float:
        self._take_signals()
        model = self.cluster.step_model
        tokens = [sum(r.load(self.drift) for r in rank.active) for rank in self.ranks]
        running = [len(rank.active) for rank in self.ranks]
        a, b = model.per_token_s * 1e3, model.per_request_s * 1e3
        speeds = dict(model.rank_speeds)
        slowest = max(
            1.0 / speeds.get(rank, 1.0) * (a * load + b * count)
            for rank, (load, count) in enumerate(zip(tokens, running, strict=True))
        )
        shared = model.shared_s * 1e3
        step_ms = shared + slowest + model.per_mean_request_s * 1e3 * (sum(running) / len(running))
        self.out.kv_tokens.append(tokens)
        self.out.num_running.append(running)
        self.out.num_waiting.append([len(rank.queue) for rank in self.ranks])
        self.out.step_ms.append(step_ms)
        self.out.start_ms.append(self.now_ms)
        return self.now_ms + step_ms

    def _advance(self, end_ms: float) -> None:
        for rank in self.ranks:
            for request in rank.active:
                request.generated += 1
                request.token_ms.append(end_ms)
                if request.generated == request.output:
                    request.finish_ms = end_ms
                    self.view.tokens_completed[0] += request.output
                    self.view.survivors[: request.output] += 1
            rank.active = [request for request in rank.active if request.generated < request.output]

    def _view(self, workload: Workload) -> View:
        ranks, count = len(self.ranks), len(self.requests)
        recorded = workload.recorded_rank
        return View(
            dp_size=ranks,
            max_num_seqs=self.cluster.max_num_seqs,
            kv_capacity=float(self.capacity),
            drift=self.drift.per_step,
            attention_window=float(self.drift.window),
            per_token_ms=self.cluster.step_model.per_token_s * 1e3,
            per_request_ms=self.cluster.step_model.per_request_s * 1e3,
            per_prefill_token_ms=0.0,
            kv_tokens=np.zeros(ranks),
            num_running=np.zeros(ranks, np.int64),
            prompt_running=np.zeros(ranks, np.int64),
            num_waiting=np.zeros(ranks, np.int64),
            tokens_waiting=np.zeros(ranks, np.int64),
            prefill_pending=np.zeros(ranks, np.int64),
            dispatched=np.zeros(ranks, np.int64),
            tokens_dispatched=np.zeros(ranks, np.int64),
            inflight=np.zeros(ranks, np.int64),
            behind=np.zeros(ranks, np.int64),
            eligible=np.ones(ranks, np.bool_),
            free_kv=np.zeros(ranks),
            prompt_tokens=np.array([r.entering(self.drift) for r in self.requests]),
            reserved_tokens=np.array(
                [r.reserved(self.drift) if np.isfinite(self.capacity) else 0 for r in self.requests]
            ),
            arrived_step=np.full(count, -1, np.int64),
            joined=np.zeros(count, np.int64),
            active=np.full(min(count, ranks * self.cluster.max_num_seqs), -1),
            rank=np.full(count, -1),
            admitted_step=np.zeros(count, np.int64),
            output_tokens=np.array([r.output for r in self.requests]),
            survivors=np.zeros(max(r.output for r in self.requests), np.int64),
            tokens_completed=np.zeros(1, np.int64),
            recorded_rank=np.zeros(count, np.int64) if recorded is None else recorded,
            draws=np.random.default_rng(self.conditions.seed).random((count, 2)),
            parameters=self.policy.numbers(),
            memory=np.zeros(self.policy.memory_size(ranks)),
            clock=np.zeros(3),
        )

    def _show(self, eligible: list[bool]) -> None:
        """Bring up to date what a policy sees at once; live signals too, late ones not."""
        view = self.view
        view.clock[STEP], view.clock[NOW_MS] = self.step, self.now_ms
        view.eligible[:] = eligible
        running = [request.index for rank in self.ranks for request in rank.active]
        view.active[:] = running + [-1] * (len(view.active) - len(running))
        view.rank[:] = [request.rank for request in self.requests]
        view.admitted_step[:] = [max(request.admitted_step, 0) for request in self.requests]
        view.arrived_step[:] = [request.arrived_step for request in self.requests]
        view.joined[: len(self.joined)] = [request.index for request in self.joined]
        for index, rank in enumerate(self.ranks):
            view.free_kv[index] = self.capacity - sum(r.reserved(self.drift) for r in rank.active)
            view.inflight[index] = len(rank.active) + len(rank.queue)
        if (self.stale_ms, self.stale_steps) == (0, 0):
            self._copy_signals()

    def _take_signals(self) -> None:
        if (self.stale_ms, self.stale_steps) == (0, 0):
            return
        if self.now_ms - self.seen_ms < self.stale_ms or self.step - self.seen_step < self.stale_steps:
            return
        self.seen_ms, self.seen_step = self.now_ms, self.step
        self.view.clock[SIGNALS_TAKEN] += 1
        self.view.dispatched[:] = 0
        self.view.tokens_dispatched[:] = 0
        self._copy_signals()

    def _copy_signals(self) -> None:
        view = self.view
        for index, rank in enumerate(self.ranks):
            active, queue = ([r for r in part if self._has_reached_its_rank(r)] for part in (rank.active, rank.queue))
            view.kv_tokens[index] = sum(r.load(self.drift) for r in active)
            view.num_running[index] = len(active)
            view.prompt_running[index] = sum(r.entering(self.drift) for r in active)
            view.num_waiting[index] = len(queue)
            view.tokens_waiting[index] = sum(r.entering(self.drift) for r in queue)

    def _has_reached_its_rank(self, request: Request) -> bool:
        return self.policy.lag_ms == 0 or request.sent_ms <= self.now_ms - self.policy.lag_ms

    def _count_dispatch(self, request: Request, rank: int) -> None:
        if (self.stale_ms, self.stale_steps) != (0, 0):
            self.view.dispatched[rank] += 1
            self.view.tokens_dispatched[rank] += request.entering(self.drift)

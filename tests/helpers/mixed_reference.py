"""The replay semantics with prefill in plain Python, one object per request: what the compiled loop must equal.

Written for reading, not for speed. It asks the same rules, uncompiled.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from reference_engine import Rank, ReferenceEngine, Request

from lbal.replay.policy.policy import Policy, Selector
from lbal.replay.policy.view import NOW_MS, STEP
from lbal.replay.prefill.ranks import Ranks
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

FAR = 1 << 62


@dataclass
class Prompt:
    """How far the prompt of a request has come."""

    computed: int = 0
    order: int = 0
    """The how many-th prompt that was begun was this; 0 before."""
    first_token_ms: float = 0.0


@dataclass
class Batch:
    """What a rank computes of prompts in a step."""

    tokens: int = 0
    pairs: float = 0.0
    ended: list[Request] = field(default_factory=list)


class MixedReferenceEngine(ReferenceEngine):
    def __init__(self, workload: Workload, cluster: Cluster, policy: Policy, conditions: Conditions) -> None:
        super().__init__(workload, cluster, policy, conditions)
        assert cluster.prefill is not None
        self.rule = cluster.prefill
        self.budget = self.rule.rank_budget(cluster.dp_size)
        self.prompts = [Prompt() for _ in self.requests]
        self.decoding: list[list[Request]] = [[] for _ in self.ranks]
        self.partial: list[Request | None] = [None for _ in self.ranks]
        self.bound: list[list[Request]] = [[] for _ in self.ranks]
        """Pool binding: those that hold a slot, and of whose prompt nothing is computed."""
        self.behind = [0 for _ in self.ranks]
        self.batches = [Batch() for _ in self.ranks]
        self.preempted = [False for _ in self.ranks]
        self.first_chunk: dict[int, float] = {}
        """When the first chunk of each request ran."""
        self.begun = self.preemptions = self.recomputed = 0
        self.limit = cluster.admission_capacity
        self.asked = self._ranks()
        if cluster.grows:
            self.view.reserved_tokens[:] = [request.entering(self.drift) for request in self.requests]
        self.view = self.view._replace(per_prefill_token_ms=cluster.step_model.per_prefill_token_s * 1e3)
        self.prefill_tokens: list[list[int]] = []
        self.prefill_pairs: list[list[float]] = []
        self.padded_running: list[list[int]] = []

    def run(self):
        while any(request.finish_ms == 0 for request in self.requests):
            self._join(self.now_ms, inclusive=True)
            if not self.immediate:
                if isinstance(self.policy, Selector):
                    self._admit_selected()
                else:
                    self._admit_in_order()
            if self.cluster.grows:
                for index in range(len(self.ranks)):
                    self._make_room(index)
            could = [self._could_prefill(index) for index in range(len(self.ranks))]
            if not any(self.decoding) and not any(could):
                following = self._next_arrival()
                assert following is not None
                self.now_ms = following.arrival_ms
                continue
            may = self._who_may_prefill(could)
            self.batches = [
                self._batch(index) if may[index] and could[index] else Batch() for index in range(len(self.ranks))
            ]
            for index, batch in enumerate(self.batches):
                self.asked.prefilled[index] = batch.tokens > 0
            end_ms = self._record()
            if self.immediate and self.arriving.is_timed:
                self._join(end_ms, inclusive=False)
            self._advance(end_ms)
            self.step += 1
            self.now_ms = end_ms
        return self.out

    def _line(self, index: int) -> list[Request]:
        """The requests of a rank of whose prompt nothing is computed."""
        return self.ranks[index].queue if self.immediate else self.bound[index]

    def _admit(self, request: Request, rank: int) -> None:
        super()._admit(request, rank)
        request.admitted_step = FAR
        if not self.immediate:
            self.bound[rank].append(request)

    def _fits(self, request: Request, rank: Rank) -> bool:
        if not self.cluster.grows:
            return super()._fits(request, rank)
        taken = np.ceil(sum(other.load(self.drift) for other in rank.active))
        return len(rank.active) < self.cluster.max_num_seqs and taken + request.entering(self.drift) <= self.limit

    def _next_fits(self, index: int) -> bool:
        line, rank = self._line(index), self.ranks[index]
        if not line or self.preempted[index]:
            return False
        if self.cluster.grows:
            has_slot = not self.immediate or len(rank.active) < self.cluster.max_num_seqs
            return has_slot and self._resident(index) + line[0].load(self.drift) <= self.limit
        return not self.immediate or self._fits(line[0], rank)

    def _started(self, index: int) -> list[Request]:
        return [r for r in self.ranks[index].active if self.prompts[r.index].order > 0]

    def _resident(self, index: int) -> float:
        return sum(r.load(self.drift) for r in self._started(index))

    def _make_room(self, index: int) -> None:
        self.preempted[index] = False
        while self._resident(index) > self.capacity:
            self._preempt(self._victim(index), index)
            self.preempted[index] = True

    def _victim(self, index: int) -> Request:
        if self.rule.victim == "last":
            return max(self._started(index), key=lambda r: self.prompts[r.index].order)
        return min(self.decoding[index], key=lambda r: (r.generated, -self.prompts[r.index].order))

    def _preempt(self, request: Request, index: int) -> None:
        prompt, rank = self.prompts[request.index], self.ranks[index]
        self.preemptions += 1
        if request in self.decoding[index]:
            self.decoding[index].remove(request)
            self.recomputed += request.prompt + request.generated
        else:
            self.partial[index] = None
            self.recomputed += prompt.computed
        prompt.computed = prompt.order = 0
        request.admitted_step = FAR
        if self.immediate:
            rank.active.remove(request)
            request.rank = -1
            self.admitted -= 1
        self._line(index).insert(0, request)

    def _to_compute(self, request: Request) -> int:
        return request.prompt + request.generated

    def _could_prefill(self, index: int) -> bool:
        return self.partial[index] is not None or self._next_fits(index)

    def _who_may_prefill(self, could: list[bool]) -> list[bool]:
        asked = self.asked
        asked.clock[STEP], asked.clock[NOW_MS] = self.step, self.now_ms
        for index, rank in enumerate(self.ranks):
            asked.could_prefill[index] = could[index]
            asked.has_partial[index] = self.partial[index] is not None
            asked.queued[index] = len(self._line(index))
            asked.pending_tokens[index] = self._pending(self._of_rank(index))
            asked.decoding[index] = len(self.decoding[index])
            begun = len(self.decoding[index]) + (self.partial[index] is not None)
            asked.free_slots[index] = self.cluster.max_num_seqs - begun
            reserved = sum(r.reserved(self.drift) for r in rank.active)
            asked.resident_tokens[index] = self._resident(index) if self.cluster.grows else reserved
        asked.may_prefill[:] = True
        self.rule.release(asked)
        return [True] * len(self.ranks) if not any(self.decoding) else asked.may_prefill.tolist()

    def _of_rank(self, index: int) -> list[Request]:
        return [*self.ranks[index].active, *self.ranks[index].queue]

    def _pending(self, requests: Iterable[Request]) -> int:
        prefilling = (r for r in requests if not any(r in part for part in self.decoding))
        return sum(self._to_compute(r) - self.prompts[r.index].computed for r in prefilling)

    def _batch(self, index: int) -> Batch:
        batch, begun = Batch(), 0
        left = self.budget - (len(self.decoding[index]) if self.rule.mixes else 0)
        if (partial := self.partial[index]) is not None:
            left -= self._chunk(partial, index, left, batch)
        while left > 0 and self._next_fits(index):
            request = self._line(index)[0]
            if not self.rule.chunks and self._to_compute(request) > left:
                break
            self._line(index).pop(0)
            if self.immediate:
                self._admit(request, index)
            self.first_chunk.setdefault(request.index, self.now_ms)
            begun += 1
            self.begun += 1
            self.prompts[request.index].order = self.begun
            left -= self._chunk(request, index, left, batch)
        self.asked.started[index] = begun
        self.asked.left_behind[index] = self.partial[index] is not None or bool(self._line(index))
        return batch

    def _chunk(self, request: Request, index: int, left: int, batch: Batch) -> int:
        prompt = self.prompts[request.index]
        took = min(self._to_compute(request) - prompt.computed, left)
        batch.tokens += took
        batch.pairs += sum(prompt.computed + nth + 0.5 for nth in range(took))
        prompt.computed += took
        if prompt.computed == self._to_compute(request):
            batch.ended.append(request)
            self.partial[index] = None
        else:
            self.partial[index] = request
        return took

    def _stalls(self, index: int) -> bool:
        return self.batches[index].tokens > 0 and not self.rule.mixes

    def _record(self) -> float:
        self._take_signals()
        model, ranks = self.cluster.step_model, range(len(self.ranks))
        decodes = [[] if self._stalls(index) else self.decoding[index] for index in ranks]
        tokens = [sum(r.load(self.drift) for r in part) for part in decodes]
        running = [len(part) for part in decodes]
        new = [batch.tokens for batch in self.batches]
        pairs = [batch.pairs for batch in self.batches]
        computed_for = self._padded(running)
        speeds = dict(model.rank_speeds)
        a, b, p, e = (
            value * 1e3
            for value in (
                model.per_token_s,
                model.per_request_s,
                model.per_prefill_token_s,
                model.per_prefill_pair_s,
            )
        )
        slowest = max(
            1.0 / speeds.get(g, 1.0) * ((a * tokens[g] + b * computed_for[g]) + (p * new[g] + e * pairs[g]))
            for g in ranks
        )
        mean = sum(running) / len(running)
        step_ms = model.shared_s * 1e3 + slowest + model.per_mean_request_s * 1e3 * mean
        if any(new):
            step_ms += model.graph_loss_s * 1e3
        self.out.kv_tokens.append(tokens)
        self.out.num_running.append(running)
        self.out.num_waiting.append([len(rank.queue) for rank in self.ranks])
        self.out.step_ms.append(step_ms)
        self.out.start_ms.append(self.now_ms)
        self.prefill_tokens.append(new)
        self.prefill_pairs.append(pairs)
        self.padded_running.append(computed_for)
        return self.now_ms + step_ms

    def _padded(self, running: list[int]) -> list[int]:
        """Requests that each rank computes for."""
        padding = "never" if self.cluster.padding is False else self.rule.padding
        if any(batch.tokens for batch in self.batches) or padding == "never":
            return running
        if padding == "half-full" and 2 * sum(running) < max(running) * len(running):
            return running
        return [max(running)] * len(running)

    def _advance(self, end_ms: float) -> None:
        for index, rank in enumerate(self.ranks):
            if self._stalls(index):
                self.behind[index] += 1
            else:
                for request in self.decoding[index]:
                    self._give_token(request, rank, end_ms)
            for request in self.batches[index].ended:
                prompt = self.prompts[request.index]
                prompt.first_token_ms = prompt.first_token_ms or end_ms
                self.decoding[index].append(request)
                self._give_token(request, rank, end_ms)
                request.admitted_step = self.step + 1 - self.behind[index] - request.generated
            self.decoding[index] = [r for r in self.decoding[index] if r.generated < r.output]

    def _give_token(self, request: Request, rank: Rank, end_ms: float) -> None:
        request.generated += 1
        request.token_ms.append(end_ms)
        if request.generated == request.output:
            request.finish_ms = end_ms
            rank.active.remove(request)
            self.view.tokens_completed[0] += request.output
            self.view.survivors[: request.output] += 1

    def _show(self, eligible: list[bool]) -> None:
        self.view.behind[:] = self.behind
        super()._show(eligible)
        if self.cluster.grows:
            for index, rank in enumerate(self.ranks):
                self.view.free_kv[index] = self.limit - np.ceil(sum(r.load(self.drift) for r in rank.active))
        self.view.admitted_step[:] = [request.admitted_step for request in self.requests]

    def _copy_signals(self) -> None:
        super()._copy_signals()
        for index in range(len(self.ranks)):
            there = [r for r in self._of_rank(index) if self._has_reached_its_rank(r)]
            self.view.prefill_pending[index] = self._pending(there)

    def _ranks(self) -> Ranks:
        count = len(self.ranks)
        flags = {name: np.zeros(count, np.bool_) for name in ("could_prefill", "has_partial", "left_behind")}
        flags |= {name: np.zeros(count, np.bool_) for name in ("prefilled", "may_prefill")}
        numbers = {name: np.zeros(count, np.int64) for name in ("queued", "pending_tokens", "decoding", "free_slots")}
        return Ranks(
            dp_size=count,
            max_num_seqs=self.cluster.max_num_seqs,
            budget=self.budget,
            kv_capacity=float(self.capacity),
            **flags,
            **numbers,
            started=np.zeros(count, np.int64),
            resident_tokens=np.zeros(count),
            parameters=self.rule.numbers(),
            memory=np.zeros(self.rule.memory.size(self.rule, count)),
            clock=np.zeros(3),
        )

"""What a replay with a prefill rule has beyond one without: its arrays, its loop, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.trace.trace import IntArray
from lbal.replay.engine import loop, mixed_loop
from lbal.replay.engine.compiling import Rules, compiled_mixed_loop, compiled_release
from lbal.replay.policy.view import View
from lbal.replay.prefill.ranks import Ranks, shown_to_rule
from lbal.replay.prefill.rule import PADDINGS, PrefillRule
from lbal.replay.scenario.cluster import Cluster
from lbal.replay.scenario.workload import Workload

LONGEST_CALENDAR, CALENDAR_CELLS = 1 << 13, 1 << 22
"""Rounds of a rank's calendar, and cells of all calendars together: what ends later goes round."""


class Moments(NamedTuple):
    """Steps of each request, shape (N,)."""

    admitted_step: IntArray
    """In which it was admitted; with prefill, in which the first chunk of its prompt ran."""
    first_token_step: IntArray
    """With which it gave its first token."""
    last_step: IntArray
    """With which it gave its last."""


class Preempted(NamedTuple):
    """What preemptions cost."""

    preemptions: int
    recomputed_tokens: int
    """Tokens of prompts, and such that had been given, that were computed again."""


@dataclass(frozen=True)
class Mixed:
    """The prefill of a replay: what the loop works on beside what it has without, before its first step."""

    ranks: Ranks
    prompts: mixed_loop.Prompts
    lanes: mixed_loop.Lanes
    rows: mixed_loop.MixedRows
    prefill: mixed_loop.Prefill
    release: Any

    @classmethod
    def of(
        cls, rule: PrefillRule, workload: Workload, cluster: Cluster, state: loop.State, view: View, *, immediate: bool
    ) -> Mixed:
        """The prefill of an empty cluster."""
        prompts, lanes = _prompts(len(workload)), _lanes(workload, cluster, state, immediate=immediate)
        padding = rule.padding if cluster.padding is not False else "never"
        prefill = mixed_loop.Prefill(
            budget=rule.rank_budget(cluster.dp_size),
            chunks=rule.chunks,
            mixes=rule.mixes,
            padding=PADDINGS.index(padding),
            grows=rule.grows and np.isfinite(view.kv_capacity),
            fewest_first=rule.victim == "fewest",
            kv_capacity=view.kv_capacity,
        )
        release = compiled_release(type(rule))
        return cls(_ranks(rule, cluster, state, lanes, view), prompts, lanes, _rows(cluster.dp_size), prefill, release)

    def run(
        self,
        rules: Rules,
        view: View,
        requests: loop.Requests,
        slots: loop.Slots,
        state: loop.State,
        rows: loop.Rows,
        settings: loop.Settings,
    ) -> int:
        """Go on with the replay; why it stopped, as `loop.run`."""
        status: int = compiled_mixed_loop()(
            rules.choose,
            rules.place,
            self.release,
            rules.shown,
            shown_to_rule(self.ranks),
            view,
            self.ranks,
            requests,
            self.prompts,
            slots,
            state,
            self.lanes,
            rows,
            self.rows,
            settings,
            self.prefill,
        )
        return status

    def moments(self) -> Moments:
        """When each request was admitted, gave its first token and ended."""
        return Moments(self.prompts.first_chunk_step, self.prompts.first_token_step, self.prompts.last_step)

    @property
    def preempted(self) -> Preempted:
        """How often requests were preempted, and what that cost."""
        counts = self.lanes.counts
        return Preempted(int(counts[mixed_loop.PREEMPTIONS]), int(counts[mixed_loop.RECOMPUTED]))


def check_prefill(rule: PrefillRule, workload: Workload, cluster: Cluster) -> None:
    """Raise `UsageError` for requests that could never be served under a rule."""
    prompts, budget = workload.prompt_tokens, rule.rank_budget(cluster.dp_size)
    given = Parameter("prefill", rule.label)
    if (prompts < 1).any():
        request = workload.request_id[int(np.argmax(prompts < 1))]
        raise UsageError(
            f"request {request} of {workload.source} has a prompt of 0 tokens, and its first token comes of none, "
            "expected at least 1",
            parameter=given,
        )
    if budget < 1:
        raise UsageError(
            f"its budget is 0 tokens for each of {cluster.dp_size} ranks, expected at least 1", parameter=given
        )
    if rule.mixes and budget < cluster.max_num_seqs:
        raise UsageError(
            f"its budget of {budget:,} tokens is below the {cluster.max_num_seqs:,} slots of a rank, each of which "
            "takes one, expected at least as many tokens",
            parameter=given,
        )
    if not rule.chunks and (prompts > budget).any():
        request = int(np.argmax(prompts > budget))
        raise UsageError(
            f"its budget of {budget:,} tokens can never take the prompt of request {workload.request_id[request]} of "
            f"{workload.source} ({prompts[request]:,} tokens), and it does not divide prompts, "
            f"expected at least {prompts.max():,}",
            parameter=given,
        )


def _prompts(count: int) -> mixed_loop.Prompts:
    prompts = mixed_loop.Prompts(*(np.zeros(count, np.int64) for _ in mixed_loop.Prompts._fields))
    prompts.first_chunk_step.fill(loop.NONE)
    return prompts


def _lanes(workload: Workload, cluster: Cluster, state: loop.State, *, immediate: bool) -> mixed_loop.Lanes:
    ranks, slots = cluster.dp_size, len(state.admitted)
    rounds = min(int(workload.output_tokens.max()) + 1, LONGEST_CALENDAR, max(CALENDAR_CELLS // ranks, 1))

    def zeros() -> IntArray:
        return np.zeros(ranks, np.int64)

    return mixed_loop.Lanes(
        queued=state.num_waiting if immediate else zeros(),
        partial=np.full(ranks, loop.NONE, np.int64),
        decoding=zeros(),
        prompt_not_decoding=zeros(),
        given_not_decoding=zeros(),
        prompt_bound=zeros(),
        given_bound=zeros(),
        preempted=np.zeros(ranks, np.bool_),
        prefill_tokens=zeros(),
        prefill_pairs=np.zeros(ranks),
        stalls=np.zeros(ranks, np.bool_),
        ending=np.full((ranks, rounds), loop.NONE, np.int64),
        grown=np.full((ranks, rounds), loop.NONE, np.int64),
        finished=np.zeros(slots, np.int64),
        counts=np.zeros(mixed_loop.NUM_COUNTS, np.int64),
    )


def _ranks(rule: PrefillRule, cluster: Cluster, state: loop.State, lanes: mixed_loop.Lanes, view: View) -> Ranks:
    count = cluster.dp_size

    def flags() -> Any:
        return np.zeros(count, np.bool_)

    return Ranks(
        dp_size=count,
        max_num_seqs=cluster.max_num_seqs,
        budget=rule.rank_budget(count),
        kv_capacity=view.kv_capacity,
        could_prefill=flags(),
        has_partial=flags(),
        queued=lanes.queued,
        pending_tokens=state.prefill_pending,
        decoding=lanes.decoding,
        free_slots=np.zeros(count, np.int64),
        resident_tokens=np.zeros(count),
        started=np.zeros(count, np.int64),
        left_behind=flags(),
        prefilled=flags(),
        may_prefill=flags(),
        parameters=rule.numbers(),
        memory=np.zeros(rule.memory.size(rule, count)),
        clock=view.clock,
    )


def _rows(dp_size: int) -> mixed_loop.MixedRows:
    shape = (loop.rows_of_buffer(dp_size), dp_size)
    return mixed_loop.MixedRows(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape[0]))

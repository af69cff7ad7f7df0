"""The metrics of steps: balance, throughput and use. Sums and means run over the steps of the window."""

from __future__ import annotations

import math

from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics.metric import Metric


def idle_fraction(totals: RunTotals, _per_token_s: float = 0.0) -> float:
    """Share of the rank-time that is barrier idle."""
    return totals.idle_ms / totals.rank_ms


def tokens_per_second(totals: RunTotals, _per_token_s: float = 0.0) -> float:
    """One token per running request and step, over the step times."""
    return totals.tokens / totals.time_ms * 1e3


def kv_time_fraction(totals: RunTotals, per_token_s: float) -> float:
    """Share of the step time that the straggler's KV tokens take."""
    return per_token_s * 1e3 * totals.straggler_kv_tokens / totals.time_ms


def processed_balance(steps: WindowSteps) -> float:
    """Mean balance ratio of the tokens that steps process; NaN where they process none."""
    processed = steps.tokens_processed
    return processed.ratio / processed.steps if processed.steps else math.nan


def speed_of_light(steps: WindowSteps) -> float:
    """Tokens per second if every step had taken its time * balance ratio of the tokens that it processes."""
    sol_ms = steps.tokens_processed.sol_ms
    return steps.totals.tokens / sol_ms * 1e3 if sol_ms > 0 else math.nan


def balance_speedup(time_ms: float, balanced_ms: float) -> float:
    """How much faster perfect balance would be; infinite where nothing but waiting takes time."""
    return time_ms / balanced_ms if balanced_ms > 0 else math.inf


def slot_use(steps: WindowSteps) -> float:
    """Share of all slots that running requests take."""
    assert steps.max_num_seqs is not None
    return steps.totals.tokens / steps.totals.steps / (steps.totals.dp_size * steps.max_num_seqs)


def kv_use(steps: WindowSteps) -> float:
    """Share of all KV tokens that fit which running requests hold."""
    assert steps.kv_capacity is not None
    return steps.totals.kv_tokens / steps.totals.steps / (steps.totals.dp_size * steps.kv_capacity)


BALANCE = [
    Metric(
        "barrier_idle_fraction",
        "fraction",
        "lower",
        "barrier idle",
        "sum over steps and ranks of (max rank time - rank time) / (G * sum of step times)",
        rests_on=("rank_times", "step_times"),
        of_steps=lambda steps: idle_fraction(steps.totals),
        of_totals=idle_fraction,
        ratio=("idle_ms", "time_ms"),
        shown={"comparison": 10, "page_tiles": 10, "page_rows": 10, "markdown_rows": 10, "bands": 30},
    ),
    *[
        Metric(
            f"barrier_idle_fraction_p{share}",
            "fraction",
            "lower",
            f"barrier idle p{share} over steps",
            f"p{share} over steps with work of idle / (G * step time)",
            needs_every_step=True,
            undefined="no rank has work in any step",
            rests_on=("rank_times", "step_times"),
            of_steps=lambda steps, share=share: steps.fold.idle_percentile(share),  # type: ignore[misc]
        )
        for share in (50, 90, 99)
    ],
    Metric(
        "barrier_idle_rank_seconds",
        "rank-seconds",
        "lower",
        "barrier idle in total",
        "sum over steps and ranks of (max rank time - rank time)",
        needs_every_step=True,
        rests_on=("rank_times",),
        of_steps=lambda steps: steps.totals.idle_ms / 1e3,
    ),
    Metric(
        "imbalance_tokens_mean",
        "KV tokens",
        "lower",
        "imbalance, mean",
        "mean over steps of G*max(L) - sum(L)",
        needs_loads=("kv_tokens",),
        rests_on=("loads",),
        of_steps=lambda steps: steps.totals.imbalance_tokens / steps.totals.steps,
        ratio=("imbalance_tokens", "steps"),
        shown={"comparison": 20, "page_rows": 20},
    ),
    Metric(
        "balance_ratio_mean",
        "ratio",
        "higher",
        "balance ratio, mean",
        "mean over steps with load of mean(L)/max(L)",
        needs_loads=("kv_tokens",),
        rests_on=("loads",),
        undefined="no rank holds load in any step",
        of_steps=lambda steps: steps.totals.loaded_mean(steps.totals.balance_ratio),
        ratio=("balance_ratio", "loaded_steps"),
        shown={"comparison": 30, "markdown_rows": 70},
    ),
    Metric(
        "imbalance_ratio_mean",
        "ratio",
        "lower",
        "imbalance ratio, mean",
        "mean over steps with load of max(L)/mean(L)",
        needs_loads=("kv_tokens",),
        rests_on=("loads",),
        undefined="no rank holds load in any step",
        of_steps=lambda steps: steps.totals.loaded_mean(steps.totals.imbalance_ratio),
        ratio=("imbalance_ratio", "loaded_steps"),
    ),
    Metric(
        "imbalance_requests_mean",
        "requests",
        "lower",
        "imbalance of requests, mean",
        "mean over steps of G*max(n) - sum(n), where KV tokens are not known",
        rests_on=("loads",),
        only_without="kv_tokens",
        of_steps=lambda steps: steps.totals.imbalance_tokens / steps.totals.steps,
    ),
    Metric(
        "request_imbalance_ratio_mean",
        "ratio",
        "lower",
        "imbalance ratio of requests, mean",
        "mean over steps with load of max(n)/mean(n), where KV tokens are not known",
        rests_on=("loads",),
        only_without="kv_tokens",
        undefined="no rank holds load in any step",
        of_steps=lambda steps: steps.totals.loaded_mean(steps.totals.imbalance_ratio),
    ),
    Metric(
        "tokens_per_second",
        "tokens/s",
        "higher",
        "throughput",
        "sum of running requests / sum of step times",
        needs_loads=("num_running",),
        rests_on=("loads", "step_times"),
        of_steps=lambda steps: tokens_per_second(steps.totals),
        of_totals=tokens_per_second,
        ratio=("tokens", "time_ms"),
        shown={"comparison": 40, "page_tiles": 20, "page_rows": 30, "markdown_rows": 20, "bands": 10},
    ),
    Metric(
        "processed_balance_ratio_mean",
        "ratio",
        "higher",
        "balance ratio of tokens processed",
        "mean over steps with work of mean(t)/max(t), t = n + tokens that the step prefills",
        needs_loads=("num_running",),
        rests_on=("loads",),
        of_steps=processed_balance,
        undefined="no rank has work",
    ),
    Metric(
        "sol_tokens_per_second",
        "tokens/s",
        "neither",
        "speed-of-light throughput",
        "sum of running requests / sum of step time * mean(t)/max(t), as if all of a step followed its tokens",
        needs_loads=("num_running",),
        rests_on=("loads", "step_times", "model"),
        of_steps=speed_of_light,
    ),
]
USE = [
    Metric(
        "slot_use",
        "fraction",
        "neither",
        "slot use",
        "mean over steps of running requests / (G * max_num_seqs)",
        needs_loads=("num_running",),
        rests_on=("loads",),
        of_steps=slot_use,
        needs_size="max_num_seqs",
        ratio=("tokens", "steps"),
        shown={"comparison": 100},
    ),
    Metric(
        "kv_use",
        "fraction",
        "neither",
        "KV use",
        "mean over steps of KV tokens of running requests / (G * kv_capacity)",
        needs_loads=("kv_tokens",),
        rests_on=("loads",),
        of_steps=kv_use,
        needs_size="kv_capacity",
        shown={"comparison": 105},
    ),
    Metric(
        "makespan_s",
        "s",
        "lower",
        "makespan",
        "end of the last step - start of the first",
        needs_every_step=True,
        rests_on=("step_times",),
        undefined="the clock of the steps does not tell it",
        of_steps=lambda steps: steps.makespan_ms / 1e3,
        shown={"comparison": 230, "page_rows": 90},
    ),
    Metric(
        "steps",
        "steps",
        "neither",
        "steps",
        "decode steps in the window",
        rests_on=("loads",),
        of_steps=lambda steps: float(steps.totals.steps),
        shown={"comparison": 240},
    ),
    Metric(
        "requests_completed",
        "requests",
        "neither",
        "requests completed",
        "requests that got all their tokens",
        rests_on=("requests",),
        shown={"comparison": 250},
    ),
    Metric(
        "perfect_balance_speedup",
        "ratio",
        "neither",
        "speed-up with perfect balance",
        "sum of step times / sum of step times with every rank at the mean rank time",
        rests_on=("rank_times", "step_times"),
        of_steps=lambda steps: balance_speedup(steps.totals.time_ms, steps.totals.balanced_ms),
        of_totals=lambda totals, _per_token_s: balance_speedup(totals.time_ms, totals.work_ms / totals.dp_size),
        ratio=("time_ms", "balanced_ms"),
        shown={"comparison": 120},
    ),
    Metric(
        "perfect_balance_throughput_fraction",
        "fraction",
        "higher",
        "share of perfect-balance throughput",
        "throughput / throughput with every rank at the mean rank time, same admissions",
        rests_on=("rank_times", "step_times"),
        of_steps=lambda steps: steps.totals.balanced_ms / steps.totals.time_ms,
        ratio=("balanced_ms", "time_ms"),
    ),
    Metric(
        "kv_time_fraction",
        "fraction",
        "neither",
        "step time that is KV",
        "sum of a * KV tokens of the straggler / sum of step times",
        needs_loads=("kv_tokens",),
        of_steps=lambda steps: kv_time_fraction(steps.totals, steps.model.per_token_s),
        of_totals=kv_time_fraction,
        shown={"comparison": 110},
    ),
]

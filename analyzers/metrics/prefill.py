"""The metrics of prefill and padding: how much of the steps they are, and what of the idle comes of prefill.

Those of steps are there only where ranks prefill, or are padded. Of logs that have nothing on decode it is only told
how evenly new tokens fall on the ranks.
"""

from __future__ import annotations

import math

from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.metrics.metric import Metric


def tokens_per_step(totals: RunTotals) -> float:
    """Prompt tokens that a step computes on all ranks; NaN where none does."""
    return totals.prefill_tokens / totals.steps if totals.prefill_steps else math.nan


def step_fraction(totals: RunTotals) -> float:
    """Share of the steps in which any rank prefills; NaN where none does."""
    return totals.prefill_steps / totals.steps if totals.prefill_steps else math.nan


def idle_of_prefill(totals: RunTotals) -> float:
    """Share of the rank-time that is idle for uneven prefill; NaN without prefill, or where nobody knows its time."""
    return totals.prefill_idle_ms / totals.rank_ms if totals.prefill_ms else math.nan


def padding_fraction(totals: RunTotals) -> float:
    """Share of the rank-time in which ranks compute for requests that they do not have; NaN without padding."""
    return totals.padding_ms / totals.rank_ms if totals.padding_ms else math.nan


PREFILL = [
    Metric(
        "prefill_tokens_per_step",
        "tokens",
        "neither",
        "prefill, mean",
        "mean over steps of sum(q), q = prompt tokens that a rank computes in the step",
        rests_on=("loads",),
        of_steps=lambda steps: tokens_per_step(steps.totals),
        needs_every_step=True,
        shown={"comparison": 46},
    ),
    Metric(
        "prefill_step_fraction",
        "fraction",
        "neither",
        "steps with prefill",
        "share of steps in which any rank prefills",
        rests_on=("loads",),
        of_steps=lambda steps: step_fraction(steps.totals),
        needs_every_step=True,
        shown={"comparison": 47},
    ),
    Metric(
        "prefill_idle_fraction",
        "fraction",
        "lower",
        "barrier idle of uneven prefill",
        "(sum of barrier idle - sum of what it were if every rank's p*q + e*A were the mean of its step) "
        "/ (G * sum of step times)",
        of_steps=lambda steps: idle_of_prefill(steps.totals),
        needs_loads=("kv_tokens", "num_running"),
        shown={"comparison": 48},
    ),
    Metric(
        "padding_fraction",
        "fraction",
        "lower",
        "computed padding",
        "sum over steps and ranks of b * (requests that the rank computes for - n) / (G * sum of step times)",
        of_steps=lambda steps: padding_fraction(steps.totals),
        needs_loads=("num_running",),
        shown={"comparison": 49},
    ),
    Metric(
        "prefill_tokens_per_rank",
        "tokens",
        "neither",
        "new tokens of a rank, mean",
        "mean over ranks of the new tokens of all their prefills, of a log of prefill alone",
        rests_on=("loads",),
    ),
    Metric(
        "prefill_imbalance_ratio",
        "ratio",
        "lower",
        "imbalance ratio of new tokens",
        "max(Q)/mean(Q) over ranks of their new tokens in all, of a log of prefill alone",
        rests_on=("loads",),
    ),
    Metric(
        "prefill_imbalance_ratio_mean",
        "ratio",
        "lower",
        "imbalance ratio of new tokens, mean over steps",
        "mean over steps (passes or seconds) of max(q)/mean(q), of a log of prefill alone",
        rests_on=("loads",),
    ),
]

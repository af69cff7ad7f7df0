"""The metrics of prefill: how evenly new tokens fall on the ranks. Only of logs that have nothing on decode."""

from __future__ import annotations

from lbal.analyzers.metrics.metric import Metric

PREFILL = [
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

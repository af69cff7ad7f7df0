"""A log of prefill alone, such as that of a prefill server: how evenly new tokens fall on the ranks, and no more."""

from __future__ import annotations

import numpy as np

from lbal.analyzers.metrics import Measure, measure
from lbal.analyzers.result.result import Result, Run, input_record
from lbal.analyzers.trace.step_blocks import blocks_of
from lbal.analyzers.trace.trace import FloatArray, Trace

NO_DECODE = "the log has prefill lines alone"
ASKED_FOR = ("barrier_idle_fraction", "imbalance_tokens_mean", "balance_ratio_mean", "tokens_per_second")
"""What a reader looks for first, and does not find."""
RANKS_TOLD = 64


def has_prefill_alone(trace: Trace) -> bool:
    """Whether nothing is known of decode in any step, but new tokens are."""
    steps = blocks_of(trace)
    return steps.tells("prefill_tokens") and all(
        bool(np.isnan(block.kv_tokens).all() and np.isnan(block.num_running).all()) for block in steps
    )


def prefill_result(trace: Trace) -> Result:
    """What such a log says: new tokens of each rank. Barrier idle and all else of decode is n/a."""
    tokens = trace.step_arrays().prefill_tokens
    assert tokens is not None
    ranks = np.flatnonzero(~np.isnan(tokens).all(axis=0))
    tokens = np.nan_to_num(tokens[:, ranks])  # a rank without a line in a step had no prefill there
    totals = tokens.sum(axis=0)
    told = {str(rank): int(total) for rank, total in zip(ranks, totals, strict=True)}
    run = Run(
        label=trace.meta.engine or "recorded",
        metrics=_figures(tokens, totals),
        details={"unavailable": dict.fromkeys(ASKED_FOR, NO_DECODE), "new_tokens": told},
    )
    listing = ", ".join(f"rank {rank} {total:,}" for rank, total in list(told.items())[:RANKS_TOLD])
    return Result(
        command="analyze",
        inputs=[input_record(trace)],
        config={"dp_size": trace.meta.dp_size, "max_num_seqs": trace.meta.max_num_seqs},
        runs=[run],
        headline=_headline(ranks.tolist(), totals),
        notes=[*trace.meta.warnings, f"new tokens: {listing}{', …' if len(told) > RANKS_TOLD else ''}"],
    )


def _figures(tokens: FloatArray, totals: FloatArray) -> dict[str, Measure]:
    figures = {"prefill_tokens_per_rank": float(totals.mean())}
    if len(totals) > 1 and totals.any():
        most, mean = tokens.max(axis=1), tokens.mean(axis=1)
        figures["prefill_imbalance_ratio"] = float(totals.max() / totals.mean())
        figures["prefill_imbalance_ratio_mean"] = float((most[most > 0] / mean[most > 0]).mean())
    return {name: measure(name, value, "measured") for name, value in figures.items()}


def _headline(ranks: list[int], totals: FloatArray) -> str:
    text = "The log has prefill lines alone, so barrier idle of decode is n/a"
    if len(ranks) == 1:
        return f"{text}; only rank {ranks[0]} is there: nothing to compare."
    if not totals.any():
        return f"{text}; no rank got new tokens."
    text += f"; the busiest of {len(ranks)} ranks got {totals.max() / totals.mean():.3f} times the mean of new tokens"
    if totals.min() > 0:
        text += f", {totals.max() / totals.min():.3f} times those of the least busy one"
    return f"{text} (measured)."

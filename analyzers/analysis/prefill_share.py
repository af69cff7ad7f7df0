"""Prefill on some of the ranks: the others, which decode, wait for it in every such step."""

from __future__ import annotations

import numpy as np

from lbal.analyzers.analysis.look import Look
from lbal.analyzers.wording.numbers import percent


def prefill_on_some_ranks(look: Look) -> str | None:
    """Steps in which some ranks prefill and others do not last longer, by more rank-time than decode loads make idle.

    What they last longer is against the median step without prefill; in that time the ranks that do not prefill wait.
    It needs every step, times of steps, and steps of both kinds.
    """
    tokens, step_ms = look.steps.prefill_tokens, look.steps.step_ms
    if tokens is None or step_ms is None or look.resolution != "step" or len(look.ranks) < 2:
        return None
    prefills = np.nan_to_num(tokens) > 0
    mixed = prefills.any(axis=1) & ~prefills.all(axis=1)
    decode_ms = step_ms[~prefills.any(axis=1)]
    if not mixed.any() or not len(decode_ms):
        return None
    usual_ms = float(np.median(decode_ms))
    longer_ms = np.maximum(step_ms[mixed] - usual_ms, 0.0)
    lost = float((longer_ms * (~prefills[mixed]).mean(axis=1)).sum() / step_ms.sum())
    if lost <= max(look.idle, 0.01):
        return None
    mixed_ms = float(np.median(step_ms[mixed]))
    return (
        f"Prefill on some ranks holds up the others: {percent(mixed.mean())} of steps mix both, and take "
        f"{mixed_ms:,.3g} ms against {usual_ms:,.3g} ms of decode alone (medians), which costs up to {percent(lost)} "
        "of rank-time: smaller chunks, prefill on all ranks at once, or on servers of its own, act on it"
    )

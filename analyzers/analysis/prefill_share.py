"""Prefill on some of the ranks: the others, which decode, wait for it in every such step."""

from __future__ import annotations

from lbal.analyzers.analysis.look import Look
from lbal.analyzers.wording.numbers import percent


def prefill_on_some_ranks(look: Look) -> str | None:
    """Steps in which some ranks prefill and others do not last longer, by more rank-time than decode loads make idle.

    What they last longer is against the mean step without prefill; in that time the ranks that do not prefill wait.
    It needs every step, times of steps, and steps of both kinds.
    """
    steps = look.prefill
    if look.server.resolution != "step" or not steps.mixed or not steps.decode:
        return None
    usual_ms = steps.decode_ms / steps.decode
    lost = (steps.waits_ms - usual_ms * steps.waits) / steps.time_ms
    if lost <= max(look.idle.fraction, 0.01):
        return None
    mixed_ms = steps.mixed_ms / steps.mixed
    return (
        f"Prefill on some ranks holds up the others: {percent(steps.mixed / steps.steps)} of steps mix both, and take "
        f"{mixed_ms:,.3g} ms against {usual_ms:,.3g} ms of decode alone (means), which costs up to {percent(lost)} of "
        "rank-time: smaller chunks, prefill on all ranks at once, or on servers of its own, act on it"
    )

"""Prefill on some of the ranks: the others, which decode, wait for it in every such step."""

from __future__ import annotations

from lbal.analyzers.analysis.look import Look
from lbal.analyzers.wording.numbers import percent

REMEDY = "smaller chunks, prefill on all ranks at once, or on servers of its own, act on it"


def prefill_on_some_ranks(look: Look) -> str | None:
    """Steps in which some ranks prefill and others do not last longer, by more rank-time than decode loads make idle.

    What they last longer is against the mean step without prefill; in that time the ranks that do not prefill wait.
    It needs every step, times of steps, and steps of both kinds. Where the model knows what prefill takes, the accounts
    tell its share of the idle, and this estimate is left out.
    """
    steps = look.prefill
    if "prefill" in look.idle.causes:
        return None
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
        f"rank-time: {REMEDY}"
    )


def uneven_prefill(look: Look) -> str:
    """Prefill is what most idle comes of: in how many steps only some ranks prefill, as far as that is known."""
    steps, how_often = look.prefill, ""
    if look.server.resolution == "step" and steps.mixed:
        how_often = f": {percent(steps.mixed / steps.steps)} of steps have prefill on some of them only"
    return f"Prefill falls unevenly on the ranks{how_often}; {REMEDY}"

"""What the loads of a log say in words that its reader can act on: counts beside KV use, requests that wait."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from lbal.analyzers.trace.trace import FloatArray

UNEVEN = 1.1
"""Largest load over mean load from which ranks are called uneven."""
FULL = 0.95
"""Used share of the KV space from which a rank is called full."""
ROOMY = 0.8


def load_words(columns: Mapping[str, FloatArray], *, slots: int | None) -> list[str]:
    """Sentences on mean loads of the ranks; `columns` have shape (S, G), `slots` is max_num_seqs where known."""
    running, kv, waiting = (_means(columns.get(name)) for name in ("num_running", "kv_fraction", "num_waiting"))
    known = (running, kv, waiting, _means(columns.get("prefill_tokens")))
    seen = [np.flatnonzero(np.isfinite(means)) for means in known if means is not None]
    if not seen or max(map(len, seen)) < 2:
        return ["only one rank is there: nothing to compare, and nothing can be said of balance"]
    words = []
    if running is not None and kv is not None:
        tokens = _means(columns.get("kv_tokens"))
        words += _counts_beside_kv(running, kv, kv if tokens is None else tokens, slots)
    if waiting is not None:
        words += _waiting(waiting, running, kv, slots)
    return words


def _counts_beside_kv(running: FloatArray, kv: FloatArray, tokens: FloatArray, slots: int | None) -> list[str]:
    counts, shares = _over_mean(running), max(_over_mean(kv), _over_mean(tokens))
    if not counts >= UNEVEN > shares:
        return []
    text = (
        f"numbers of requests differ ({counts:.3f} times the mean on the busiest rank), KV use does not ({shares:.3f})"
    )
    full = np.flatnonzero(kv >= FULL)
    if len(full) and len(full) == np.isfinite(kv).sum():
        text += f": all {len(full)} ranks are full of KV"
        if slots is not None and (running < slots).any():
            free = ", ".join(f"{slots - count:.0f}" for count in running[full][:8])
            text += f" while {free} of {slots} slots are free"
        text += ", so shorter or fewer requests per rank, or more KV space, help and other routing does not"
    return [text]


def _waiting(waiting: FloatArray, running: FloatArray | None, kv: FloatArray | None, slots: int | None) -> list[str]:
    ranks = np.flatnonzero(waiting >= 1)
    if not len(ranks):
        return []
    count = f"{np.nansum(waiting):,.0f}"
    text = f"{count} request{' waits' if count == '1' else 's wait'} on average, on {_named(ranks)}"
    room = np.zeros(len(waiting), np.bool_)
    if kv is not None:
        room = (kv < ROOMY) & (waiting < 1)
    if running is not None:
        room = room & (running < slots) if slots is not None else room | (waiting < 1) & (running == 0)
    beside = np.flatnonzero(room)
    return [f"{text}, while {_named(beside)} could take more"] if len(beside) else [text]


def _means(matrix: FloatArray | None) -> FloatArray | None:
    if matrix is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a rank that tells none has no mean
        means: FloatArray = np.nanmean(matrix, axis=0)
    return means


def _over_mean(means: FloatArray) -> float:
    mean = float(np.nanmean(means)) if np.isfinite(means).any() else 0.0
    return float(np.nanmax(means)) / mean if mean > 0 else 1.0


def _named(ranks: FloatArray | np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> str:
    listing = ", ".join(str(rank) for rank in ranks[:8]) + (", …" if len(ranks) > 8 else "")
    return f"rank{'s' * (len(ranks) > 1)} {listing}"

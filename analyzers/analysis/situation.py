"""The situation that a trace shows, in a sentence that its reader can act on: what is wrong, where, and what helps.

Each sentence is found by one function, from figures that stand in it. The first that is found leads: it goes to the
headline, and the others are notes. Thresholds are below; none of them is fitted to anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lbal.analyzers.analysis.look import RANKS_NAMED, Chosen, Look, over_mean
from lbal.analyzers.analysis.prefill_share import prefill_on_some_ranks
from lbal.analyzers.trace.trace import FloatArray
from lbal.analyzers.wording.numbers import count, listed, percent

FULL, ROOMY = 0.95, 0.8
"""Used shares of the KV cache from which a rank is called full, and up to which it has room."""
OFTEN = 0.1
"""A share of the steps, or of a rank's steps, from which something happens often."""
UNEVEN = 1.1
"""Largest load over mean load from which ranks are called uneven."""
NOTABLE_IDLE = 0.01
"""Below this share of rank-time the causes of idle are not worth acting on."""


def situations(look: Look) -> tuple[str | None, list[str]]:
    """The sentence that leads, if there is any, and notes on the others, which begin in lower case."""
    found = [sentence for find in SITUATIONS if (sentence := find(look))]
    beside = [*found[1:], *[sentence for find in BESIDE if (sentence := find(look))]]
    return (found[0] if found else None), [sentence[0].lower() + sentence[1:] for sentence in beside]


def full_of_kv(look: Look) -> str | None:
    """Every rank is full of KV, so slots stay free, or requests wait, whatever the router does."""
    if look.kv_share is None:
        return None
    shares = _means(look.kv_share)
    waiting = 0.0 if look.waiting is None else float(look.waiting.sum(axis=1).mean())
    free = None if look.running is None or look.slots is None else look.slots - look.running.mean(axis=0)
    is_held_up = waiting >= 1 or (free is not None and free.max() >= 1)
    if np.isnan(shares).any() or not (shares >= FULL).all() or not is_held_up:
        return None
    who = {1: f"Rank {look.ranks[0]} is", 2: "Both ranks are"}.get(len(shares), f"All {len(shares)} ranks are")
    held_up = []
    if free is not None and free.max() >= 1:
        assert look.slots is not None
        few = len(free) <= RANKS_NAMED
        told = listed([f"{each:,.0f}" for each in free]) if few else f"{free.sum():,.0f}"
        held_up.append(f"{told} of {look.slots * (1 if few else len(free)):,} slots are free")
    if waiting >= 1:
        held_up.append(f"{count(round(waiting), 'request')} wait{'s' * (round(waiting) == 1)}")
    apart = ""
    if len(shares) > 1 and look.running is not None and (counts := over_mean(look.running)) >= UNEVEN:
        apart = f"; numbers of requests differ ({counts:.3f} times the mean on the busiest rank), KV use does not"
    others = "; other routing would not" if len(shares) > 1 else ""
    text = f"{who} full of KV ({_percents(shares)}) while {' and '.join(held_up)}{apart}"
    return f"{text}: more KV space, or shorter requests, would help{others}"


def waiting_beside_room(look: Look) -> str | None:
    """Requests wait on some ranks while others, on which none waits, could take more."""
    if look.waiting is None or look.running is None or len(look.ranks) < 2:
        return None
    room = look.waiting < 1
    if look.has_free_slot is not None:
        room &= look.has_free_slot
    elif look.kv_share is None:
        room &= look.running < 1
    if look.kv_share is not None:
        room &= ~(look.kv_share > ROOMY)
    waits = look.waiting >= 1
    both = waits.any(axis=1) & room.any(axis=1)
    if not both.mean() >= OFTEN:
        return None
    where, could = (_often(chosen[both]) for chosen in (waits, room))
    many = look.waiting[both].sum(axis=1).mean()
    return (
        f"Requests wait on {look.named(where)} ({many:,.1f} on average) while {look.named(could)} could take more, "
        f"in {percent(both.mean())} of {look.unit}: a router that sees free slots would place them"
    )


def waiting_beside_free_slots(look: Look) -> str | None:
    """Requests wait on a rank that has free slots itself: what limits it is neither the router nor, if known, KV."""
    return _beside_free_slots(look, OFTEN)


def _beside_free_slots(look: Look, least: float) -> str | None:
    if look.waiting is None or look.running is None or look.has_free_slot is None:
        return None
    beside = (look.waiting >= 1) & look.has_free_slot
    if look.kv_share is not None:
        beside &= ~(look.kv_share >= FULL)
    if not beside.any() or beside.mean() < least:
        return None
    assert look.slots is not None
    use = float(look.running.mean()) / look.slots
    why = "the trace does not tell whether KV memory is full there"
    if look.kv_share is not None and not np.isnan(held := look.kv_share[beside]).all():
        why = f"KV memory is {percent(float(np.nanmean(held)))} full there"
    lost = f"; with all slots taken throughput would be at most {percent(1 / use - 1)} higher" if use > 0 else ""
    return (
        f"In {beside.sum():,} of {beside.size:,} rank-{look.unit} a request waits beside a free slot of its rank "
        f"({why}); {percent(use)} of the slots are taken on average{lost}"
    )


def cause_of_idle(look: Look) -> str | None:
    """The largest cause of the idle: on which ranks, by how much, and what acts on it."""
    if look.idle < NOTABLE_IDLE or len(look.ranks) < 2 or not look.causes:
        return None
    cause = max(look.causes, key=lambda name: look.causes[name])
    return CAUSES[cause](look) if look.causes[cause] > 0 else None


def _empty(look: Look) -> str:
    running = look.running
    assert running is not None
    without: Chosen = (running == 0) & (running.max(axis=1) > 0)[:, None]
    some = without.any(axis=1)
    whom = _often(without[some])
    named, are_several = look.named(whom), whom.sum() > 1
    share = percent(float(without[:, whom].mean())) + (f" of {look.unit} each" if are_several else f" of {look.unit}")
    return (
        f"{named[0].upper()}{named[1:]} {'have' if are_several else 'has'} no work in {share} while others do, and the "
        f"busiest rank then runs {over_mean(running[some]):.3f} times the mean number of requests: routing has to look "
        "at running requests"
    )


def _count(look: Look) -> str | None:
    assert look.running is not None
    if (counts := over_mean(look.running)) < UNEVEN:
        return None
    return (
        f"Numbers of requests differ: the busiest rank runs {counts:.3f} times the mean, "
        f"{_most_and_least(look, look.running, 'requests')}: routing has to look at running requests"
    )


def _length(look: Look) -> str | None:
    assert look.running is not None
    assert look.kv_tokens is not None
    counts, tokens = over_mean(look.running), over_mean(look.kv_tokens)
    if tokens < UNEVEN:
        return None
    extremes = _most_and_least(look, look.kv_tokens, "tokens")
    also = "running requests and KV tokens" if counts >= UNEVEN else "KV tokens, as requests are even"
    return (
        f"Lengths of requests differ: the fullest rank holds {tokens:.3f} times the mean KV tokens, the busiest runs "
        f"{counts:.3f} times the mean number of requests, {extremes}: routing has to look at {also}"
    )


def _unexplained(look: Look) -> str:
    if not look.slow_ranks:
        return "Most idle is not explained by load: look at prefill, hosts and hardware of the stragglers"
    column = max(look.slow_ranks, key=lambda rank: look.slow_ranks[rank])
    factor = look.slow_ranks[column]
    return f"Rank {look.ranks[column]} is slow: it takes {factor:.2f} times as long as its load explains"


def _speed(look: Look) -> str:
    return "Ranks differ in speed, as they were told to: routing has to weigh load by speed"


CAUSES: dict[str, Callable[[Look], str | None]] = {
    "empty": _empty,
    "count": _count,
    "length": _length,
    "speed": _speed,
    "unexplained": _unexplained,
}


def rarely_beside_free_slots(look: Look) -> str | None:
    """The same, where it is so rare that it does not lead."""
    return None if waiting_beside_free_slots(look) else _beside_free_slots(look, 0.0)


def waiting_at_all(look: Look) -> str | None:
    """How many requests wait, where nothing worse can be said of them."""
    if look.waiting is None or any(find(look) for find in (full_of_kv, waiting_beside_room, waiting_beside_free_slots)):
        return None
    total = float(look.waiting.sum(axis=1).mean())
    if total < 1:
        return None
    return (
        f"{count(round(total), 'request')} wait on average, on {look.named(look.waiting.mean(axis=0) >= 0.5 * OFTEN)}"
    )


SITUATIONS: tuple[Callable[[Look], str | None], ...] = (
    full_of_kv,
    waiting_beside_room,
    waiting_beside_free_slots,
    prefill_on_some_ranks,
    cause_of_idle,
)
"""In the order of what outweighs what: where memory or slots hold requests up, balance is not what to mend first."""
BESIDE: tuple[Callable[[Look], str | None], ...] = (rarely_beside_free_slots, waiting_at_all)
"""Never the first thing to say."""


def _means(matrix: FloatArray) -> FloatArray:
    """(G,) means over the steps that are known; NaN for a rank of which nothing is."""
    known = ~np.isnan(matrix)
    total = np.where(known, matrix, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, known.sum(axis=0), out=np.full(len(total), np.nan), where=known.any(axis=0)))


def _often(chosen: Chosen) -> Chosen:
    """(G,) the columns that are chosen often; those that are so most often where none is."""
    shares = chosen.mean(axis=0)
    return np.asarray(shares >= OFTEN) if (shares >= OFTEN).any() else np.asarray(shares == shares.max())


def _percents(shares: FloatArray) -> str:
    if len(shares) <= RANKS_NAMED:
        return listed([percent(float(share)) for share in shares])
    return f"{percent(float(shares.mean()))} on average, {percent(float(shares.min()))} at least"


def _most_and_least(look: Look, loads: FloatArray, unit: str) -> str:
    """The ranks that hold most and least over all, with their means."""
    means = loads.mean(axis=0)
    most, least = int(means.argmax()), int(means.argmin())
    shown = [f"{means[column]:,.0f}" if means[column] >= 100 else f"{means[column]:.1f}" for column in (most, least)]
    return f"rank {look.ranks[most]} {shown[0]} {unit} on average against {shown[1]} of rank {look.ranks[least]}"

"""The situation that a trace shows, in a sentence that its reader can act on: what is wrong, where, and what helps.

Each sentence is found by one function, from figures that stand in it. The first that is found leads: it goes to the
headline, and the others are notes. Thresholds are below; none of them is fitted to anything.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lbal.analyzers.analysis.look import FULL, RANKS_NAMED, Chosen, Look
from lbal.analyzers.analysis.prefill_share import prefill_on_some_ranks, uneven_prefill
from lbal.analyzers.trace.trace import FloatArray
from lbal.analyzers.wording.numbers import count, listed, percent

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
    shares, ranks, slots = _kv_shares(look), look.server.ranks, look.server.slots
    if shares is None or not (shares >= FULL).all():
        return None
    held_up = []
    if slots is not None and look.tells_running and (free := slots - look.running / look.steps).max() >= 1:
        few = len(free) <= RANKS_NAMED
        told = listed([f"{each:,.0f}" for each in free]) if few else f"{free.sum():,.0f}"
        held_up.append(f"{told} of {slots * (1 if few else len(free)):,} slots are free")
    if (waiting := look.waiting.sum() / look.steps) >= 1:
        held_up.append(_waits(waiting))
    if not held_up:
        return None
    who = {1: f"Rank {ranks[0]} is", 2: "Both ranks are"}.get(len(ranks), f"All {len(ranks)} ranks are")
    apart = ""
    if look.running_ratio.mean >= UNEVEN:
        apart = (
            f"; numbers of requests differ ({look.running_ratio.mean:.3f} times the mean on the busiest rank), KV use "
            "does not"
        )
    others = "; other routing would not" if len(ranks) > 1 else ""
    text = f"{who} full of KV ({_percents(shares)}) while {' and '.join(held_up)}{apart}"
    return f"{text}: more KV space, or shorter requests, would help{others}"


def waiting_beside_room(look: Look) -> str | None:
    """Requests wait on some ranks while others, on which none waits, could take more."""
    steps = look.beside_room
    if not steps or steps < OFTEN * look.steps:
        return None
    where, could = (
        look.server.named(_often(each / steps)) for each in (look.beside_room_waits, look.beside_room_rooms)
    )
    many = look.beside_room_waiting / steps
    return (
        f"Requests wait on {where} ({many:,.1f} on average) while {could} could take more, in "
        f"{percent(steps / look.steps)} of {look.server.unit}: a router that sees free slots would place them"
    )


def waiting_beside_free_slots(look: Look) -> str | None:
    """Requests wait on a rank that has free slots itself: what limits it is neither the router nor, if known, KV."""
    return _beside_free_slots(look, OFTEN)


def _beside_free_slots(look: Look, least: float) -> str | None:
    total = look.steps * len(look.server.ranks)
    if not look.beside_slot or look.beside_slot < least * total:
        return None
    assert look.server.slots is not None
    use = float(look.running.sum()) / total / look.server.slots
    why = "the trace does not tell whether KV memory is full there"
    if look.beside_slot_kv_known:
        why = f"KV memory is {percent(look.beside_slot_kv_share / look.beside_slot_kv_known)} full there"
    lost = f"; with all slots taken throughput would be at most {percent(1 / use - 1)} higher" if use > 0 else ""
    return (
        f"In {look.beside_slot:,} of {total:,} rank-{look.server.unit} a request waits beside a free slot of its rank "
        f"({why}); {percent(use)} of the slots are taken on average{lost}"
    )


def cause_of_idle(look: Look) -> str | None:
    """The largest cause of the idle: on which ranks, by how much, and what acts on it."""
    causes = look.idle.causes
    if look.idle.fraction < NOTABLE_IDLE or len(look.server.ranks) < 2 or not causes:
        return None
    if full_of_kv(look):  # then numbers follow from lengths, and no routing evens them out
        return None
    cause = max(causes, key=lambda name: causes[name])
    return CAUSES[cause](look) if causes[cause] > 0 else None


def _empty(look: Look) -> str | None:
    if not look.some_without_work:
        return None
    whom = _often(look.without_work / look.some_without_work)
    named, are_several = look.server.named(whom), int(whom.sum()) > 1
    share = percent(float(look.without_work[whom].mean()) / look.steps)
    of = f"of {look.server.unit}{' each' if are_several else ''}"
    without = f"{named[0].upper()}{named[1:]} {'have' if are_several else 'has'} no work in {share} {of}"
    return (
        f"{without} while others do, and the busiest rank then runs {look.ratio_without_work.mean:.3f} times the mean "
        "number of requests: routing has to look at running requests"
    )


def _count(look: Look) -> str | None:
    counts, shares = look.running_ratio.mean, _kv_shares(look)
    if counts < UNEVEN:
        return None
    kv, acts = "", "routing has to look at running requests"
    if shares is not None and shares.max() > 0:
        full = float(shares.max() / shares.mean())
        kv = f" and the fullest uses {full:.3f} times the mean KV space"
        acts = acts if full >= UNEVEN else "routing evens out KV space alone, and has to look at running requests too"
    extremes = _most_and_least(look, look.running, "requests")
    return f"Numbers of requests differ: the busiest rank runs {counts:.3f} times the mean{kv}, {extremes}: {acts}"


def _length(look: Look) -> str | None:
    counts, tokens = look.running_ratio.mean, look.kv_tokens_ratio.mean
    if tokens < UNEVEN:
        return None
    extremes = _most_and_least(look, look.kv_tokens, "tokens")
    also = "running requests and KV tokens" if counts >= UNEVEN else "KV tokens, as requests are even"
    return (
        f"Lengths of requests differ: the fullest rank holds {tokens:.3f} times the mean KV tokens, the busiest runs "
        f"{counts:.3f} times the mean number of requests, {extremes}: routing has to look at {also}"
    )


def _unexplained(look: Look) -> str:
    slow = look.idle.slow_ranks
    if not slow:
        others = "hosts" if "prefill" in look.idle.causes else "prefill, hosts"
        return f"Most idle is not explained by load: look at {others} and hardware of the stragglers"
    column = max(slow, key=lambda rank: slow[rank])
    return f"Rank {look.server.ranks[column]} is slow: it takes {slow[column]:.2f} times as long as its load explains"


def _speed(_look: Look) -> str:
    return "Ranks differ in speed, as they were told to: routing has to weigh load by speed"


CAUSES: dict[str, Callable[[Look], str | None]] = {
    "empty": _empty,
    "count": _count,
    "length": _length,
    "prefill": uneven_prefill,
    "speed": _speed,
    "unexplained": _unexplained,
}


def rarely_beside_free_slots(look: Look) -> str | None:
    """The same as `waiting_beside_free_slots`, where it is so rare that it does not lead."""
    return None if waiting_beside_free_slots(look) else _beside_free_slots(look, 0.0)


def waiting_at_all(look: Look) -> str | None:
    """How many requests wait, where nothing worse can be said of them."""
    if any(find(look) for find in (full_of_kv, waiting_beside_room, waiting_beside_free_slots)):
        return None
    total = look.waiting.sum() / look.steps
    return (
        f"{_waits(total)} on average, on {look.server.named(_often(look.waits / look.steps))}" if total >= 1 else None
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


def _kv_shares(look: Look) -> FloatArray | None:
    """(G,) mean used shares of the KV cache; None where that of some rank is not known."""
    if not look.steps or not look.kv_share_steps.all():
        return None
    return np.asarray(look.kv_share / look.kv_share_steps)


def _often(shares: FloatArray) -> Chosen:
    """(G,) the columns with a large share; those with the largest where none is."""
    return np.asarray(shares >= OFTEN) if (shares >= OFTEN).any() else np.asarray(shares == shares.max())


def _waits(requests: float) -> str:
    return f"{count(round(requests), 'request')} wait{'s' * (round(requests) == 1)}"


def _percents(shares: FloatArray) -> str:
    if len(shares) <= RANKS_NAMED:
        return listed([percent(float(share)) for share in shares])
    return f"{percent(float(shares.mean()))} on average, {percent(float(shares.min()))} at least"


def _most_and_least(look: Look, sums: FloatArray, unit: str) -> str:
    """The ranks that hold most and least over all, with their means."""
    means = sums / look.steps
    most, least = int(means.argmax()), int(means.argmin())
    shown = [f"{means[column]:,.0f}" if means[column] >= 100 else f"{means[column]:.1f}" for column in (most, least)]
    ranks = look.server.ranks
    return f"{shown[0]} {unit} on average on rank {ranks[most]} against {shown[1]} on rank {ranks[least]}"

"""Step numbers that a rank did not log: passes without work, or lines that were lost?

A log that numbers all passes shows a rank without work by silence, and a lost line looks the same. A rank that had
requests before the missing numbers and goes on with them behind was not without work: its lines are lost, and what it
did there is unknown. Only a rank that starts anew behind them was without work.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lbal.analyzers.trace.trace import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
GROWTH_RANGE = (0.5, 1.5)
"""How far from the usual tokens in so many passes requests may grow, as drafts of speculative decoding vary."""
GOES_ON = 0.5
"""A rank that has at least this share of its former requests and tokens goes on with them."""
NEAR_STEPS = 1
"""Lines of different ranks may be out of order by so many steps."""
MOST_LIKELY_LOST = 8.0
"""So many lines of a rank that are missing in a row are no chance: fewer requests than that may have ended at once."""


@dataclass(frozen=True)
class RankLines:
    """The numbered lines of all ranks of one log, as columns of one length; unknown is NaN."""

    run: FloatArray
    rank: FloatArray
    step: FloatArray
    num_running: FloatArray
    """Requests in decoding; of a prefill line, those that were running beside it."""
    kv_tokens: FloatArray
    tokens_per_request: FloatArray
    """Tokens that a request gets in a pass: above 1 with speculative decoding."""
    is_prefill: BoolArray
    is_damaged: BoolArray
    """Lines of which only the place can be read."""


@dataclass(frozen=True)
class MissingNumbers:
    """What the step numbers mean that are missing before each line."""

    idle_before: BoolArray
    """For each line: the numbers missing since the rank's last line are passes without work."""
    follows_decode: BoolArray
    """For each line: the rank's line of the pass before is there, and is one of decode; or nothing is known before."""
    lost: int
    """Numbers that are missing because lines are lost, or may be."""


def missing_numbers(lines: RankLines, *, others_damaged: bool) -> MissingNumbers:
    """Tell lost lines from passes without work.

    `others_damaged` says that there are damaged lines whose place cannot be read. Where the log has prefill lines, a
    rank without work comes back with one, and with no request running beside it. Else it comes back with other
    requests. Where the log is shown to lose lines, gaps as short as those may be lost lines as well.
    """
    order = np.lexsort((lines.step, lines.rank, lines.run))
    before, behind = order[:-1], order[1:]
    same = _same(lines.rank, before, behind) & _same(lines.run, before, behind)
    missing = np.where(same, lines.step[behind] - lines.step[before] - 1, 0)
    gap = np.flatnonzero(missing > 0)
    before_gap, behind_gap, length = before[gap], behind[gap], missing[gap]
    damaged = lines.is_damaged[before_gap] | lines.is_damaged[behind_gap]
    if lines.is_prefill.any():
        anew = lines.is_prefill[behind_gap] & ~(lines.num_running[behind_gap] > 0)
    else:
        most_ended = _most_ended(lines, before[same & (missing == 0)], behind[same & (missing == 0)])
        anew = ~_goes_on(lines, before_gap, behind_gap, length, most_ended)
    shown = min(float(length[~anew & ~damaged].max(initial=0)), MOST_LIKELY_LOST)
    longest_lost = max(shown, float(others_damaged or lines.is_damaged.any()))
    idle = anew & ~damaged & (length > longest_lost)
    idle_before = np.zeros(len(order), np.bool_)
    idle_before[behind_gap[idle]] = True
    follows_decode = np.ones(len(order), np.bool_)
    follows_decode[behind[same]] = (missing == 0)[same] & ~(lines.is_prefill | lines.is_damaged)[before[same]]
    return MissingNumbers(idle_before, follows_decode, int(length[~idle].sum()))


def idle_away_from(damaged: FloatArray, run: FloatArray, rank: FloatArray, step: FloatArray) -> FloatArray:
    """1 for records with no damaged line near the numbers that are missing since the rank's last record, else 0.

    `damaged` are the step numbers that the log was at where its damaged lines stand.
    """
    order = np.lexsort((step, rank, run))
    before, behind = order[:-1], order[1:]
    same = _same(rank, before, behind) & _same(run, before, behind)
    damaged = np.sort(damaged[np.isfinite(damaged)])
    first = np.searchsorted(damaged, step[before] - NEAR_STEPS)
    last = np.searchsorted(damaged, step[behind] + NEAR_STEPS, side="right")
    idle = np.ones(len(order))
    idle[behind[same & (last > first)]] = 0.0
    return idle


def _same(values: FloatArray, before: IntArray, behind: IntArray) -> BoolArray:
    one, other = values[before], values[behind]
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))


def _most_ended(lines: RankLines, before: IntArray, behind: IntArray) -> float:
    """The most requests by which a rank got fewer from one pass to the next: so many may end at once."""
    ended = lines.num_running[before] - lines.num_running[behind]
    return float(np.nanmax(ended, initial=1.0)) if len(ended) else 1.0


def _goes_on(lines: RankLines, before: IntArray, behind: IntArray, length: FloatArray, most_ended: float) -> BoolArray:
    """Whether a rank goes on behind a gap with the requests that it had.

    It does with as many requests whose tokens grew as in so many passes; and if more would have to end at once than
    ever did (or than lines are missing, as it takes as much chance to lose so many), while it has about as many
    requests and tokens as before.
    """
    had, has = lines.num_running[before], lines.num_running[behind]
    held, holds = lines.kv_tokens[before], lines.kv_tokens[behind]
    usual, page = had * (length + 1) * np.fmax(lines.tokens_per_request[before], 1.0), _page_tokens(lines.kv_tokens)
    least, most = (usual * end for end in GROWTH_RANGE)
    grew = (holds - held >= least - had * (page - 1)) & (holds - held <= most + had * (page - 1))
    same = (has == had) & (grew | (holds == held))
    many = had > np.maximum(most_ended, np.minimum(length, MOST_LIKELY_LOST))
    alike = many & (has >= GOES_ON * had) & (holds >= GOES_ON * held)
    return np.asarray(same | alike)


def _page_tokens(kv_tokens: FloatArray) -> float:
    """Tokens of a page of KV space, as far as the figures show it: they are whole pages."""
    known = kv_tokens[kv_tokens > 0]
    return float(np.gcd.reduce(known.astype(np.int64))) if len(known) else 1.0

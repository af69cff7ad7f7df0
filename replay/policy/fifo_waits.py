"""Limits on waiting as multiples of how long FIFO would let requests wait, known while a policy admits them otherwise.

Slots become free as they do, whoever takes them; first come, first served, the i-th to join is admitted in the step in
which the number of admissions passes i. A policy that overtakes can thus hold its waits against those of FIFO as it
goes: the largest one so far, and the 99th percentile (from a histogram whose bins are 1% wide).
"""

from __future__ import annotations

import math

from lbal.analyzers.trace.trace import IntArray
from lbal.replay.policy.compilable import frugal
from lbal.replay.policy.named import Memory
from lbal.replay.policy.view import STEP, View

OCTAVE, NUM_BINS = 64, 1024
MEMORY = Memory(admitted=1, late=1, longest=1, usual=1, bins=NUM_BINS)
"""With what the memory of a policy that uses this begins: admissions so far, those of them that waited long, FIFO's
longest wait and its p99 in steps, and the histogram of its waits."""
M = MEMORY.places
EARLY_USUAL, EARLY_WORST = 0.9, 0.85
"""Shares of the limits at which requests are due: not all that are can be admitted in the same step."""
OUTLYING = 1.4
"""FIFO's longest wait counts up to that many times its p99: a single one may be chance."""
NEARLY = 0.97
"""Share of the usual limit from which on a wait counts as late: FIFO's p99 is known to some 1%."""
LATE_FREELY, LATE_AT_MOST = 0.005, 0.008
"""Shares of late requests up to which the usual limit does not bind, and from which on it does in full."""


@frugal
def waited(view: View, request: int) -> float:
    """Steps since a request joined the pool."""
    return float(view.clock[STEP] - view.arrived_step[request])


@frugal
def worst_limit(view: View, times: float) -> float:
    """Steps after which any request is due; infinite for 0 times."""
    longest = max(min(view.memory[M.longest], OUTLYING * view.memory[M.usual]), 1.0)
    return EARLY_WORST * times * longest if times > 0 else math.inf


@frugal
def usual_limit(view: View, times: float, worst: float) -> float:
    """Steps after which most requests are due: `worst` while few have been late, and for 0 times."""
    if times == 0 or worst == math.inf:
        return worst
    usual = min(EARLY_USUAL * times * max(view.memory[M.usual], 1.0), worst)
    late = view.memory[M.late] / max(view.memory[M.admitted], 1.0)
    freedom = min(max((LATE_AT_MOST - late) / (LATE_AT_MOST - LATE_FREELY), 0.0), 1.0)
    return float(usual * (worst / usual) ** freedom)


@frugal
def note_admissions(view: View, requests: IntArray, count: int, times: float) -> None:
    """Take this step's admissions into account: late are those beyond that many times FIFO's p99, in whole steps."""
    memory = view.memory
    limit = math.ceil(NEARLY * times * max(memory[M.usual], 1.0))
    for index in range(count):
        memory[M.late] += waited(view, requests[index]) > limit
    first = int(memory[M.admitted])
    for place in range(first, first + count):
        wait = waited(view, view.joined[place])
        memory[M.longest] = max(memory[M.longest], wait)
        memory[M.bins + min(math.ceil(OCTAVE * math.log2(1.0 + wait)), NUM_BINS - 1)] += 1.0
    memory[M.admitted] += count
    below = 0.0
    for index in range(NUM_BINS):
        below += memory[M.bins + index]
        if below >= 0.99 * memory[M.admitted]:
            memory[M.usual] = math.floor(2.0 ** (index / OCTAVE)) - 1.0
            break


def check_limits(usual_wait: float, worst_wait: float) -> None:
    """Raise `ValueError` for limits that cannot be."""
    for name, value in (("usual_wait", usual_wait), ("worst_wait", worst_wait)):
        if not (value == 0 or 1 <= value < math.inf):
            raise ValueError(f"{name}: {value} is no multiple of FIFO's wait, expected at least 1, or 0 for no limit")

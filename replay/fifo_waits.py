"""How long requests would wait if they were admitted in order, known exactly while a policy admits them otherwise.

Slots become free as they do, whoever takes them; first come, first served, request i is admitted in the step in which
the number of admissions passes i. A policy that overtakes can thus hold its waits against those of FIFO as it goes:
the largest one so far, and the 99th percentile (from a histogram whose bins are 1% wide).
"""

from __future__ import annotations

import math

from lbal.analyzers.trace import FloatArray, IntArray
from lbal.replay.jitable import frugal
from lbal.replay.view import STEP, View

ADMITTED, LATE, LONGEST, USUAL, BINS = 0, 1, 2, 3, 4
"""Places in the memory: admissions so far, those of them that waited long, FIFO's longest wait and its p99 in steps."""
OCTAVE, NUM_BINS = 64, 1024
SIZE = BINS + NUM_BINS
"""Numbers of memory that are needed, from its first place on."""


@frugal
def waited(view: View, request: int) -> float:
    """Steps since a request joined the pool."""
    return float(view.clock[STEP] - view.arrived_step[request])


@frugal
def late_share(memory: FloatArray) -> float:
    """Share of the admissions that were counted as late."""
    return float(memory[LATE] / max(memory[ADMITTED], 1.0))


@frugal
def note_admissions(view: View, requests: IntArray, count: int, late: float) -> None:
    """Take this step's admissions into account: late are those beyond `late` times FIFO's p99, in whole steps."""
    memory = view.memory
    limit = math.ceil(late * max(memory[USUAL], 1.0))
    for index in range(count):
        memory[LATE] += waited(view, requests[index]) > limit
    first = int(memory[ADMITTED])
    for request in range(first, first + count):
        wait = waited(view, request)
        memory[LONGEST] = max(memory[LONGEST], wait)
        memory[BINS + min(math.ceil(OCTAVE * math.log2(1.0 + wait)), NUM_BINS - 1)] += 1.0
    memory[ADMITTED] += count
    below = 0.0
    for index in range(NUM_BINS):
        below += memory[BINS + index]
        if below >= 0.99 * memory[ADMITTED]:
            memory[USUAL] = math.floor(2.0 ** (index / OCTAVE)) - 1.0
            break

"""Who is active in which step is told for any stretch of the steps as for all of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.analysis.active import ActiveRequests, Growth
from lbal.analyzers.barrier.bounds import Admissions
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import StepArrays

REQUESTS = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 12), st.integers(1, 50)), min_size=1, max_size=25)


def steps_of(running):
    return StepArrays(np.arange(len(running)), np.ones((len(running), 1)), np.array(running, float)[:, None])


def blocks_of(steps, cuts):
    edges = [0, *sorted({cut for cut in cuts if cut < len(steps)}), len(steps)]
    return [(start, steps.part(slice(start, stop))) for start, stop in pairwise(edges)]


@settings(deadline=None)
@given(REQUESTS, st.lists(st.integers(0, 1), min_size=30, max_size=30), st.lists(st.integers(1, 29), max_size=4))
def test_stretches_of_steps_tell_what_a_walk_through_all_requests_tells(requests, more, cuts):
    first, count, prompts = (np.array(numbers) for numbers in zip(*requests, strict=True))
    active = ActiveRequests(Admissions(first, count, prompts), Growth())
    inside = [[p + step - f for f, c, p in requests if f <= step < f + c] for step in range(30)]
    steps = steps_of([len(held) + extra for held, extra in zip(inside, more, strict=True)])
    parts = blocks_of(steps, cuts)
    missing = np.concatenate([active.missing(row, block) for row, block in parts])
    assert missing.tolist() == more
    single = [active.single_loads(row, block) for row, block in parts]
    largest, smallest = (np.concatenate([getattr(part, name) for part in single]) for name in ("largest", "smallest"))
    np.testing.assert_array_equal(largest, [max(held, default=np.nan) for held in inside])
    all_there = [held if not extra else [] for held, extra in zip(inside, more, strict=True)]
    np.testing.assert_array_equal(smallest, [min(held, default=np.nan) for held in all_there])
    blocks = StepBlocks(30, 1, lambda: (block for _row, block in parts))
    assert active.account_for(blocks) == (not any(more))

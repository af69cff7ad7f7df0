"""Ways to arrive, and requests that wait for others, for tests of the two engines."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lbal.replay.scenario.workload import Waits

ARRIVALS = ["trace", "backlog", "sessions", "sessions", "closed:1", "closed:7", "poisson:60", "gamma:40,2.5"]


@st.composite
def waits(draw, count):
    """Requests that wait for some that stand before or behind them, in an order of their own without circles."""
    order = draw(st.permutations(range(count)))
    pairs = [
        (order[place], order[leader])
        for place in range(1, count)
        for leader in draw(st.sets(st.integers(0, place - 1), max_size=3 if draw(st.booleans()) else 0))
    ]
    delays = np.array(draw(st.lists(st.sampled_from([0.0, 3.0, 45.5]), min_size=count, max_size=count)))
    request, wait_for = np.array(pairs, np.int64).reshape(-1, 2).T
    return Waits(request, wait_for, delays)

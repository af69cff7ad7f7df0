"""Times between tokens are those of a list of all tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.requests.token_gaps import TokenSteps, token_gaps


@st.composite
def cases(draw):
    """Steps, and requests of which every token falls into a step in which its rank decodes."""
    count, ranks = draw(st.integers(12, 40)), draw(st.integers(1, 3))
    step_ms = np.array(draw(st.lists(st.sampled_from([1.0, 2.5, 4.0, 40.0]), min_size=count, max_size=count)))
    end_ms = np.cumsum(step_ms) + np.cumsum(draw(st.lists(st.sampled_from([0, 0, 9]), min_size=count, max_size=count)))
    stalled = None
    if draw(st.booleans()):
        flags = draw(st.lists(st.booleans(), min_size=count * ranks, max_size=count * ranks))
        stalled = np.array(flags).reshape(count, ranks)
    requests = []
    for _ in range(draw(st.integers(1, 12))):
        first, rank = draw(st.integers(0, count - 1)), draw(st.integers(0, ranks - 1))
        rounds = np.arange(count) if stalled is None else np.flatnonzero(~stalled[:, rank])
        after = rounds[rounds > first]
        requests.append((first, rank, [first, *after[: draw(st.integers(0, len(after)))]]))
    return end_ms, stalled, requests


@given(case=cases())
def test_gaps_are_those_of_a_list_of_all_tokens(case):
    end_ms, stalled, requests = case
    first, rank = (np.array(part) for part in list(zip(*requests, strict=True))[:2])
    tokens = np.array([len(steps) for *_rest, steps in requests])
    last = np.array([steps[-1] for *_rest, steps in requests])
    found = token_gaps(end_ms, TokenSteps(first, last, tokens, rank), stalled)
    gaps = [np.diff(end_ms[steps]) for *_rest, steps in requests]
    if tokens.max() == 1:
        assert not len(found.count)
        assert np.isnan(found.longest_ms).all()
        return
    everything = np.concatenate(gaps)
    assert sorted(np.repeat(found.gap_ms, found.count)) == pytest.approx(sorted(everything))
    for percentile in (0, 50, 90, 99, 100):
        assert found.percentile(percentile) == pytest.approx(np.percentile(everything, percentile))
    longest = [each.max() if len(each) else np.nan for each in gaps]
    np.testing.assert_allclose(found.longest_ms, longest)


def test_the_gaps_of_a_request_that_was_interrupted_are_unknown():
    steps = TokenSteps(*(np.array([value]) for value in (0, 5, 3, 0)))
    assert token_gaps(np.arange(1.0, 7.0), steps, None) is None

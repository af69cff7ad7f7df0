"""Holds the gaps between the tokens of a replay against a list of all tokens."""

from __future__ import annotations

import numpy as np
import pytest

from lbal.analyzers.requests.latency import request_metrics, unavailable_latencies
from lbal.replay.engine.engine import Replay
from lbal.replay.experiment.windowed import Windowed


def assert_gaps_between_tokens(replayed: Replay, token_ms: list[list[float]]) -> None:
    """That the longest gap of every request and the percentiles of all gaps are those of these tokens."""
    times = Windowed.of(replayed, "all").times
    if times.gaps is None:
        assert replayed.preempted is not None
        assert replayed.preempted.preemptions > 0
        assert unavailable_latencies(times).keys() >= {"itl_ms_p50", "longest_gap_ms_max"}
        return
    gaps = [np.diff(each) for each in token_ms]
    longest = [each.max() if len(each) else np.nan for each in gaps]
    np.testing.assert_allclose(times.longest_gap_ms, longest, rtol=1e-12)
    after_first = [each.sum() / len(each) if len(each) else np.nan for each in gaps]
    np.testing.assert_allclose(times.tpot_after_first_ms, after_first, rtol=1e-9)
    figures = request_metrics(times)
    assert ("itl_ms_p50" in figures) == any(map(len, gaps))
    for rank in (50, 99) if any(map(len, gaps)) else ():
        assert figures[f"itl_ms_p{rank}"] == pytest.approx(np.percentile(np.concatenate(gaps), rank), rel=1e-9)

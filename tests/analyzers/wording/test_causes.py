"""A headline names a cause only if it alone explains the idle; otherwise the two largest, with their signs."""

from __future__ import annotations

import pytest

from lbal.analyzers.wording.findings import cause_clause


@pytest.mark.parametrize(
    ("idle", "causes", "said"),
    [
        (0.10, {"count": 0.085, "length": 0.015}, ", most of it because of uneven numbers of requests (8.50%)"),
        (
            0.10,
            {"count": 0.06, "length": 0.04},
            ": uneven numbers of requests +6.00, uneven lengths of requests +4.00 points",
        ),
        (
            0.0514,
            {"count": 0.0622, "length": -0.0108},
            ": uneven numbers of requests +6.22, uneven lengths of requests -1.08 points (they cancel in part)",
        ),
        (
            0.0001,
            {"empty": 0.0, "count": 0.0191, "length": -0.019},
            ": uneven numbers of requests +1.91, uneven lengths of requests -1.90 points (they cancel in part)",
        ),
        (0.00004, {"count": 0.0191, "length": -0.019}, ""),
    ],
)
def test_causes_of_the_headline(idle, causes, said):
    assert cause_clause(idle, causes) == said

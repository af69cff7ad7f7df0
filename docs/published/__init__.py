"""Figures that others published, and what lbal says of the same: docs/fidelity.md, one file a source.

A figure is one record (`Row`); `docs/refresh.py fidelity` computes it, and tests/project/test_fidelity.py holds it to
its bound.
"""

from __future__ import annotations

from published import adp_balance, balance_route, dwdp, left_out, prefill_cadence, schedule_simulator, unpredicted
from published.row import Comparison

COMPARISONS: list[Comparison] = [
    adp_balance.COMPARISON,
    prefill_cadence.COMPARISON,
    left_out.COMPARISON,
    dwdp.COMPARISON,
    schedule_simulator.COMPARISON,
    balance_route.COMPARISON,
    unpredicted.CHUNKS,
    unpredicted.TICKS,
]

"""Figures that others published, and what lbal says of the same: docs/fidelity.md, one file a source.

A figure is one record (`Row`); `docs/refresh.py fidelity` computes it, and tests/project/test_fidelity.py holds it to
its bound.
"""

from __future__ import annotations

from published import balance_route, dwdp, schedule_simulator
from published.row import Comparison

COMPARISONS: list[Comparison] = [dwdp.COMPARISON, schedule_simulator.COMPARISON, balance_route.COMPARISON]

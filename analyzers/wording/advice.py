"""How advice tells changes: which figures, and how they are written."""

from __future__ import annotations

GAIN = "tokens_per_second"
"""What the settings of an engine are ranked by."""
BESIDE = ("ttft_ms_p99", "tpot_ms_mean", "queue_wait_ms_max", "energy_joules_per_token")
"""What is told beside it: latency, fairness and energy."""


def signed(change: float) -> str:
    """A relative change as `+1.2%`; never -0.0%."""
    return f"{round(change, 3) + 0.0:+.1%}"


def span(low: float, high: float) -> str:
    """The range of a change, as `-0.2% to +1.2%`."""
    return f"{signed(low)} to {signed(high)}"

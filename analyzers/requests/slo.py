"""Limits on the latency of requests, and the goodput under them: what `--slo` names."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.errors import UsageError
from lbal.analyzers.requests.latency import RequestTimes
from lbal.analyzers.trace.trace import FloatArray

LIMITS = ("ttft", "tpot", "itl", "e2e")
MOST_MS = 1e9
EXPECTED = f"NAME=MS,… with {', '.join(LIMITS[:-1])} or {LIMITS[-1]}"


@dataclass(frozen=True)
class Slo:
    """The largest latencies that a request may have, in ms, by name.

    `ttft`: from its arrival to its first token; `tpot`: mean time of the tokens after the first; `itl`: its longest
    time between two tokens; `e2e`: from its arrival to its end. A request of one token meets any `tpot` and `itl`.
    """

    limits_ms: dict[str, float] = field(hash=False)

    def met(self, times: RequestTimes) -> NDArray[np.bool_] | None:
        """(N,) which requests meet all limits; None where a time that it takes is unknown."""
        found: dict[str, FloatArray | None] = {
            "ttft": times.ttft_ms,
            "tpot": times.tpot_after_first_ms,
            "itl": times.longest_gap_ms,
            "e2e": times.e2e_ms,
        }
        met = np.ones(times.count, np.bool_)
        for name, limit_ms in self.limits_ms.items():
            values = found[name]
            if values is None:
                return None
            met &= ~(values > limit_ms)
        return met


def goodput(slo: Slo, times: RequestTimes, duration_ms: float) -> dict[str, float]:
    """Share of the requests that meet all limits, and how many do per second of a duration, by metric name.

    Nothing where there are no requests or a time that a limit is on is unknown.
    """
    met = slo.met(times)
    if met is None or not len(met):
        return {}
    return {
        "goodput_fraction": float(met.mean()),
        "goodput_requests_per_second": float(met.sum() / duration_ms * 1e3),
    }


def parse_slo(text: str) -> Slo:
    """The limits that `--slo` names. Raises `UsageError`."""
    limits: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in LIMITS:
            raise UsageError(f"{part!r} is not known, expected {EXPECTED}", parameter="slo")
        if name in limits:
            raise UsageError(f"{name} stands twice, expected each limit once", parameter="slo")
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = math.nan
        if not 0 < limits[name] <= MOST_MS:
            raise UsageError(f"{name}: {value!r} does not fit, expected ms above 0", parameter="slo")
    return Slo(limits)

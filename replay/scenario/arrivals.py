"""How requests arrive: what `--arrivals` names, and the times that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.trace import FloatArray

Kind = Literal["trace", "sessions", "backlog", "closed", "poisson", "gamma", "steps"]
EXPECTED = "trace, backlog, closed:N, poisson:RATE or gamma:RATE,CV"
OF_LIBRARY = ("sessions", "steps")
"""Kinds for workloads that are made in Python: no format tells who waits for whom, or times in steps."""
MOST_IN_FLIGHT = 1 << 32
LEAST_RATE, MOST_RATE = 1e-6, 1e9
"""Requests per second beyond which a rate is a typing mistake."""
MOST_CV = 100.0
OWN_DRAWS = 1
"""Tells the draws of arrivals from those of policies and of repeats, which have the same seed."""


@dataclass(frozen=True)
class Arrivals:
    """When requests join.

    - `trace`: at the times of the trace;
    - `sessions`: at the times of the trace, or a delay after the end of the requests that they wait for;
    - `backlog`: in file order, whenever fewer than so many requests wait;
    - `closed`: in file order, whenever fewer than `in_flight` requests have joined and not ended;
    - `poisson`, `gamma`: in file order with gaps drawn from an exponential or a gamma distribution;
    - `steps`: at times that are numbers of steps.
    """

    kind: Kind
    in_flight: int | None = None
    rate_per_s: float | None = None
    cv: float = 1.0
    """Standard deviation of the gaps between arrivals over their mean."""

    @property
    def is_timed(self) -> bool:
        """Whether requests join at times, not as others leave."""
        return self.kind not in ("backlog", "closed")

    @property
    def can_be_scaled(self) -> bool:
        """Whether the times are those of the trace, so that their rate can be multiplied."""
        return self.is_timed and not self.are_drawn

    @property
    def in_words(self) -> str:
        """What these arrivals are, for messages."""
        if self.are_drawn:
            return "a drawn rate"
        return {"backlog": "a backlog", "closed": "a closed loop"}.get(self.kind, "arrival times")

    @property
    def are_drawn(self) -> bool:
        """Whether the times are drawn, at a rate of their own."""
        return self.rate_per_s is not None

    def drawn_ms(self, count: int, seed: int) -> FloatArray:
        """(N,) arrival times in ms at the rate, the first at 0: a gap is a gamma variate of shape 1/cv^2.

        The same seed gives the same gaps at every rate, but for their scale.
        """
        assert self.rate_per_s is not None
        shape = self.cv**-2
        gaps = np.random.default_rng([seed, count, OWN_DRAWS]).standard_gamma(shape, size=count - 1)
        return np.concatenate([[0.0], np.cumsum(gaps) * (1e3 / (self.rate_per_s * shape))])


def asked_arrivals(text: str) -> Arrivals:
    """The arrivals that a user names for a trace. Raises `UsageError`."""
    arrivals = parse_arrivals(text)
    if arrivals.kind in OF_LIBRARY:
        raise _unknown(text)
    return arrivals


@lru_cache
def parse_arrivals(text: str) -> Arrivals:
    """The arrivals that `--arrivals` names. Raises `UsageError`."""
    head, colon, rest = text.partition(":")
    values = rest.split(",") if colon else []
    try:
        match head, values:
            case ("trace" | "sessions" | "backlog" | "steps") as kind, []:
                return Arrivals(kind)
            case "closed", [number]:
                return Arrivals("closed", in_flight=_in_flight(number))
            case "poisson", [rate]:
                return Arrivals("poisson", rate_per_s=_number(rate, "RATE", LEAST_RATE, MOST_RATE))
            case "gamma", [rate, cv]:
                per_s = _number(rate, "RATE", LEAST_RATE, MOST_RATE)
                return Arrivals("gamma", rate_per_s=per_s, cv=_number(cv, "CV", 1 / MOST_CV, MOST_CV))
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}", parameter="arrivals") from error
    raise _unknown(text)


def _unknown(text: str) -> UsageError:
    return UsageError(f"{text!r} is not known, expected {EXPECTED}", parameter="arrivals")


def _in_flight(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MOST_IN_FLIGHT):
        raise ValueError(f"{text!r} does not fit, expected closed:N with a whole number N of at least 1")
    return int(text)


def _number(text: str, name: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ValueError(f"{text!r} does not fit, expected a {name} from {least:g} to {most:g}")
    return value

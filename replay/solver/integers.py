"""A step's loads and costs as integers for CP-SAT, rounded so that no placement's J is overestimated.

With M_h = base_h + z_h / load_scale, the integer cost of a placement is sum_h prices_h * z_h - sum_i values_i, and

    true J - rounding <= constant + (integer cost) / cost_scale <= true J.

Where loads, profiles and costs are whole numbers the scales are 1 and nothing is rounded. Otherwise loads are rounded
by at most 2**-22 of the largest profile or excess, and costs by at most 2**-48 of the largest cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.solver.reduced import Reduced
from lbal.replay.solver.relaxation import Tightened

LOAD_RANGE = 2.0**22
COST_RANGE = 2.0**48
LARGEST_WHOLE = 2.0**31
"""Whole numbers up to this size are used as they are."""


@dataclass(frozen=True)
class Integers:
    """The numbers of the integer model; K classes, G' ranks, H' steps."""

    profiles: IntArray
    """(K, H') rounded down."""
    slack: IntArray
    """(G', H') what fits below the base, rounded up."""
    beyond: IntArray
    """(K, G', H') by how much one request alone exceeds the base, rounded down, at least 0."""
    may_exceed: NDArray[np.bool_]
    """(G', H') whether the slots of a rank can exceed the base."""
    most_excess: IntArray
    """(H',) bound of z_h, rounded up."""
    prices: IntArray
    """(H',) cost of a unit of excess, rounded down."""
    values: IntArray
    """(K,) what placing a request takes off the cost, rounded up."""
    cost_scale: float
    """Integer cost per unit of J."""
    constant: float
    """J where no load exceeds the base and nothing is placed."""
    rounding: float
    """The most by which an integer cost is below the true one, in the unit of J."""

    @classmethod
    def of(cls, tight: Tightened, placed: int) -> Integers:
        """The numbers for a problem with tightened bounds where `placed` requests are placed."""
        reduced = tight.reduced
        whole = is_whole(reduced)
        base, ceiling = reduced.base, np.maximum(tight.ceiling, reduced.base)
        if _all_whole(reduced.loads, reduced.profiles):
            load_scale = 1.0
            base, ceiling = np.ceil(base - 1e-6), np.floor(ceiling + 1e-6)
        else:
            load_scale = LOAD_RANGE / max(reduced.profiles.max(initial=0.0), (ceiling - base).max(initial=0.0), 1e-300)
        most_excess = np.ceil(np.maximum(ceiling - base, 0.0) * load_scale).astype(np.int64)
        prices = reduced.prices / load_scale
        largest_cost = float(prices @ most_excess) + placed * float(np.abs(reduced.values).max(initial=0.0))
        cost_scale = 1.0 if whole else COST_RANGE / max(largest_cost, 1e-300)
        above = (reduced.loads - base) * load_scale
        return cls(
            profiles=np.floor(reduced.profiles * load_scale).astype(np.int64),
            slack=np.ceil(-above).astype(np.int64),
            beyond=np.maximum(np.floor(reduced.profiles[:, None] * load_scale + above[None]), 0).astype(np.int64),
            may_exceed=reduced.loads + reduced.largest_added() > base,
            most_excess=most_excess,
            prices=np.floor(prices * cost_scale).astype(np.int64),
            values=np.ceil(reduced.values * cost_scale).astype(np.int64),
            cost_scale=cost_scale,
            constant=float(reduced.constant + reduced.prices @ base),
            rounding=0.0 if whole else _rounding(reduced, load_scale, most_excess, placed, cost_scale),
        )


def is_whole(reduced: Reduced) -> bool:
    """Whether every J of the problem is a whole number, and small enough to be exact."""
    return _all_whole(reduced.loads, reduced.profiles, reduced.prices, reduced.values, reduced.base) and _all_whole(
        np.array([reduced.constant])
    )


def _all_whole(*arrays: FloatArray) -> bool:
    return all(bool(((np.abs(array) < LARGEST_WHOLE) & (array == np.floor(array))).all()) for array in arrays)


def _rounding(reduced: Reduced, load_scale: float, most_excess: IntArray, placed: int, cost_scale: float) -> float:
    """Each placed profile and the load below it lose less than a unit; so do each price and each value."""
    exact_loads = load_scale == 1.0
    of_loads = 0.0 if exact_loads else (float(reduced.slots.max(initial=0)) + 2) * float(reduced.prices.sum())
    return of_loads / load_scale + (float(most_excess.sum()) + placed + 2) / cost_scale

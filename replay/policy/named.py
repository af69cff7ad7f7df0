"""Names for what compiled rules reach by place: the parameters of a policy, and the parts of its memory.

A rule reads `view.parameters` and `view.memory`, arrays of numbers. The places in them follow from the declarations, so
that a field or a part that is put in between moves the others and shifts nothing:

    P, M = parameters_of(MyPolicy), MyPolicy.memory.places      below the class, for its rule
    view.parameters[P.horizon], view.memory[M.turn], view.memory[M.counts + rank]

`P` and `M` are named tuples of whole numbers, which numba takes for constants.
"""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from collections.abc import Callable
from typing import Any

Size = int | Callable[[Any, int], int]
"""How many numbers a part has, or a function of (the policy, number of ranks) that says so."""


def parameters_of(policy: type[Any]) -> Any:
    """The place in `view.parameters` of each parameter of a policy, by its name."""
    return _places([field.name for field in dataclasses.fields(policy)], range(len(dataclasses.fields(policy))))


def per_rank(_policy: Any, dp_size: int) -> int:
    """The size of a part with a number for each rank."""
    return dp_size


class Memory:
    """What a policy keeps between decisions, in named parts: `Memory(turn=1, counts=per_rank)`; all start at 0.

    Only the last part may have a size that depends on the cluster or the parameters, since the places of those before
    it are constants of the compiled rule. Raises `ValueError` otherwise.
    """

    def __init__(self, **sizes: Size) -> None:
        self.sizes = sizes
        for name, size in list(sizes.items())[:-1]:
            if callable(size):
                raise ValueError(f"memory: {name}: its size is a function, expected that of the last part only")

    def with_parts(self, **more: Size) -> Memory:
        """These parts, where they are, and more behind them."""
        return Memory(**self.sizes, **more)

    @property
    def places(self) -> Any:
        """The first place of each part in `view.memory`, by its name."""
        places, place = [], 0
        for size in self.sizes.values():
            places.append(place)
            place += 0 if callable(size) else size
        return _places(list(self.sizes), places)

    def size(self, policy: Any, dp_size: int) -> int:
        """Numbers in all parts together."""
        return sum(size(policy, dp_size) if callable(size) else size for size in self.sizes.values())


def _places(names: list[str], places: Any) -> Any:
    return namedtuple("Places", names)(*places)

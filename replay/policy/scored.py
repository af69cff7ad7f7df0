"""Routers that give every rank a score: the least one gets the request."""

from __future__ import annotations

import types
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from lbal.replay.policy import compilable
from lbal.replay.policy.named import Memory
from lbal.replay.policy.policy import WAIT, Router
from lbal.replay.policy.view import View

Ties = Literal["lowest", "random", "rotating"]
TURN = Memory(turn=1)
"""Memory of routers with rotating ties: where the scan starts. Theirs begins with it."""
_HOOKS = ("score", "before", "after")


class Scored(Router):
    """Sends a request to the eligible rank with the least score, a number or a tuple of numbers.

    A subclass defines `score`, and may define what happens before and after a decision. All three are static and may
    call marked helpers (`compilable`); `score`, called most, makes no arrays.
    """

    ties: ClassVar[Ties] = "lowest"
    """Of equal scores: the `lowest` rank, a `random` one by the request's first draw, or the first of a scan whose
    start is `rotating`, one rank further with each decision."""

    @staticmethod
    @abstractmethod
    def score(view: View, request: int, rank: int) -> Any:
        """What the rank costs; the least wins. Asked for eligible ranks, and once for one that need not be."""

    @staticmethod
    def before(view: View, request: int) -> None:
        """Called once before the scores of a request are asked for."""

    @staticmethod
    def after(view: View, request: int, rank: int) -> None:
        """Called once with the rank that was chosen, `WAIT` where none was eligible."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.ties == "random":
            cls.uses_draws = True
        if cls.ties == "rotating" and not cls.memory.sizes:
            cls.memory = TURN
        own = vars(cls)
        if any(name in own for name in (*_HOOKS, "ties")):
            cls.choose = staticmethod(_rule(cls.ties, cls.score, cls.before, cls.after))  # type: ignore[method-assign]


def _rule(ties: Ties, score: Callable[..., Any], before: Callable[..., None], after: Callable[..., None]) -> Any:
    """`choose` for that score: in the file of the score as far as numba is concerned, whose cache looks at one file."""
    home = score.__code__.co_filename
    for function in (score, before, after):
        compilable.mark_part(function, home, frugally=function is score)
    made = {"lowest": _lowest, "random": _random, "rotating": _rotating}[ties](score, before, after)
    rule = types.FunctionType(
        made.__code__.replace(co_filename=home), made.__globals__, "choose", None, made.__closure__
    )
    rule.__qualname__, rule.__module__ = f"{score.__qualname__}.{ties}", score.__module__
    return rule


def _lowest(score: Any, before: Any, after: Any) -> Any:
    def choose(view: View, request: int) -> int:
        before(view, request)
        best, least = WAIT, score(view, request, 0)
        for rank in range(view.dp_size):
            if view.eligible[rank]:
                value = score(view, request, rank)
                if best == WAIT or value < least:
                    best, least = rank, value
        after(view, request, best)
        return best

    return choose


def _random(score: Any, before: Any, after: Any) -> Any:
    def choose(view: View, request: int) -> int:
        before(view, request)
        best, equals, least = WAIT, 0, score(view, request, 0)
        for rank in range(view.dp_size):
            if view.eligible[rank]:
                value = score(view, request, rank)
                if best == WAIT or value < least:
                    best, equals, least = rank, 1, value
                elif value == least:
                    equals += 1
        left = int(view.draws[request, 0] * equals)
        if left > 0:
            for rank in range(best + 1, view.dp_size):
                if left > 0 and view.eligible[rank] and score(view, request, rank) == least:
                    best = rank
                    left -= 1
        after(view, request, best)
        return best

    return choose


def _rotating(score: Any, before: Any, after: Any) -> Any:
    def choose(view: View, request: int) -> int:
        before(view, request)
        first, best, least = int(view.memory[0]), WAIT, score(view, request, 0)
        for offset in range(view.dp_size):
            rank = (first + offset) % view.dp_size
            if view.eligible[rank]:
                value = score(view, request, rank)
                if best == WAIT or value < least:
                    best, least = rank, value
        view.memory[0] = (first + 1) % view.dp_size
        after(view, request, best)
        return best

    return choose

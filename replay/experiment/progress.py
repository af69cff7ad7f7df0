"""How a caller follows long replays: the library prints nothing, and tells whoever wants to show it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from lbal.replay.engine.engine import Progress


class Display(Protocol):
    """Shows how far replays have come."""

    def replaying(self, label: str, requests: int) -> AbstractContextManager[Callable[[Progress], None]]:
        """While a replay of so many requests runs: a function that is told how far it has come."""
        ...

    def repeating(self, repeats: int) -> AbstractContextManager[Callable[[], None]]:
        """While that many seeds run: a function that is called after each."""
        ...


class NoDisplay:
    """Shows nothing."""

    def replaying(self, label: str, requests: int) -> AbstractContextManager[Callable[[Progress], None]]:
        """A function that does nothing."""
        return nullcontext(_ignore)

    def repeating(self, repeats: int) -> AbstractContextManager[Callable[[], None]]:
        """A function that does nothing."""
        return nullcontext(_ignore)


def _ignore(_progress: Progress | None = None) -> None:
    pass

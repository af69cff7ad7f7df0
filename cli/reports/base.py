"""What a report must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lbal.analyzers.result.result import Result


class Report(ABC):
    """A way to show a result. Subclasses live in one file each, are found by `name`, and only render."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    """File names that ask for it; the first is the usual one."""
    content: ClassVar[str]
    """What it is, in a few words."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """What it draws beside the figures, of each run: `series` (thinned) or `timeline` (single steps)."""

    @abstractmethod
    def render(self, result: Result) -> str:
        """The whole report, ending in a line end."""

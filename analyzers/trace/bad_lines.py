"""The bad lines of a file: one error tells the first, how many there are, and where the next ones stand."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable

from lbal.analyzers.errors import InputError

MOST_SHOWN = 5
"""Bad lines that an error names; the others are counted."""


class BadLinesError(InputError):
    """An `InputError` that tells of all bad lines: it can be put together with those of other parts of a file."""

    bad: BadLines


class BadLines:
    """Counts the bad lines of a file and keeps the first fault, so that one error can tell of all.

    Lines may come in any order; each comes once. `what` is what is counted: lines, or rows of an input without lines.
    """

    def __init__(self, what: str = "lines") -> None:
        self.count = 0
        self._what = what
        self._first: InputError | None = None
        self._lines: list[int] = []

    def add(self, error: InputError) -> None:
        """Take the fault of a further line, or of all lines of which a `BadLinesError` tells."""
        if isinstance(error, BadLinesError):
            first, count, lines = error.bad._first, error.bad.count, error.bad._lines
        else:
            first, count, lines = error, 1, [] if error.line is None else [error.line]
        self.add_lines(first or error, lines, count)

    def add_lines(self, first: InputError, lines: Iterable[int], count: int) -> None:
        """Take `count` bad lines: the first fault, and the numbers of the first ones."""
        self.count += count
        if self._first is None or (first.line is not None and first.line < (self._first.line or 0)):
            self._first = first
        for line in lines:
            insort(self._lines, line)
        del self._lines[MOST_SHOWN:]

    def enforce(self) -> None:
        """Raise the first fault, with the number of bad lines and the first ones, if there was any."""
        if self._first is None:
            return
        error, problem = self._first, self._first.problem
        if self.count > 1:
            named = ", ".join(map(str, self._lines)) + (", …" if self.count > len(self._lines) else "")
            problem += f" ({self.count:,} {self._what} are bad: {named})"
        told = BadLinesError(error.file, problem, line=error.line, field=error.field, expected=error.expected)
        told.bad = self
        raise told

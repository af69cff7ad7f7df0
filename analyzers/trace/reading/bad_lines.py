"""The bad lines of a file: one error tells the first, how many there are, and where the next ones stand."""

from __future__ import annotations

from lbal.analyzers.errors import InputError

MOST_SHOWN = 5
"""Bad lines that an error names; the others are counted."""


class BadLines:
    """Counts the bad lines of a file and keeps the fault of the first ones, so that one error can tell of all."""

    def __init__(self) -> None:
        self.count = 0
        self._first: InputError | None = None
        self._lines: list[int] = []

    def add(self, error: InputError) -> None:
        """Take the fault of a further line."""
        self.count += 1
        self._first = self._first or error
        if len(self._lines) < MOST_SHOWN and error.line is not None:
            self._lines.append(error.line)

    def enforce(self) -> None:
        """Raise the first fault, with the number of bad lines and the first ones, if there was any."""
        if self._first is None:
            return
        error = self._first
        problem = error.problem
        if self.count > 1:
            listing = ", ".join(map(str, self._lines)) + (", …" if self.count > len(self._lines) else "")
            problem = f"{problem} ({self.count:,} lines are bad: {listing})"
        raise InputError(error.file, problem, line=error.line, field=error.field, expected=error.expected)

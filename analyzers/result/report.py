"""What a report must offer, and the registry that finds them: those of `lbal.cli.reports`, and of other packages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from lbal.analyzers.registry import Registry
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


REPORTS: Registry[Report] = Registry("report", "lbal.cli.reports", Report, group="lbal.cli.reports")  # type: ignore[type-abstract]


def report_suffixes() -> dict[str, str]:
    """Suffixes of the reports, and what each one is."""
    return {suffix: report.content for report in REPORTS.classes() for suffix in report.suffixes}


def report_of(suffix: str) -> type[Report]:
    """The report that files of that suffix ask for."""
    return next(cls for cls in REPORTS.classes() if suffix in cls.suffixes)

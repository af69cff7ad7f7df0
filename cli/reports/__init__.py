"""The outputs, one file each, found by the registry."""

from __future__ import annotations

from lbal.analyzers.registry import Registry
from lbal.cli.reports.base import Report

REPORTS: Registry[Report] = Registry("report", "lbal.cli.reports", Report, group="lbal.cli.reports")  # type: ignore[type-abstract]

__all__ = ["REPORTS", "Report"]

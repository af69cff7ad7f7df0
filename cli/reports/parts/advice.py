"""The table of advice: what each setting of an engine changes, and its flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lbal.analyzers.metrics import METRICS
from lbal.analyzers.wording.advice import BESIDE, GAIN, signed, span

TITLE = "Settings: changes against the default"
LEFT_COLUMNS = 3


def advice_table(advice: Mapping[str, Any]) -> tuple[list[str], list[list[str]], int]:
    """Columns, rows, and how many columns are text: a row of each setting, with ranges where the bands give some."""
    columns = ["setting", "flags", "verdict", *[METRICS[name].label for name in (GAIN, *BESIDE)]]
    rows = [
        [each["label"], each["flags"], each["verdict"], *[_cell(each["changes"].get(name)) for name in (GAIN, *BESIDE)]]
        for each in advice["settings"]
        if each["changes"]
    ]
    return columns, rows, LEFT_COLUMNS


def _cell(change: Mapping[str, float] | None) -> str:
    if change is None:
        return "n/a"
    nominal = signed(change["nominal"])
    if "low" not in change or "high" not in change:
        return nominal
    return f"{nominal} ({span(change['low'], change['high'])})"

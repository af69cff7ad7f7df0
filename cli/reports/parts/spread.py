"""How far apart the ranks are in a step: a small table, in the terms that users of engines print themselves."""

from __future__ import annotations

from lbal.analyzers.metrics import METRICS, SPREAD_ROWS, SPREAD_SHARES
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import shown_unit, shown_value

TITLE = "How far apart the ranks are: percentiles over steps with load"
SAMPLED_TITLE = "How far apart the ranks are: percentiles over looks at them"


def spread_title(run: Run) -> str:
    """What the figures are over: every step, or samples."""
    bases = {run.metrics[name].basis for _label, names in SPREAD_ROWS for name in names if name in run.metrics}
    return SAMPLED_TITLE if "sampled" in bases else TITLE


def spread_table(run: Run) -> tuple[list[str], list[list[str]], int]:
    """Columns, rows, and how many columns are text; no rows where there is nothing to compare.

    Figures that are n/a altogether, all for the same reason, share one row.
    """
    columns = ["per step, over ranks", "unit", "basis", *[f"p{share}" for share in SPREAD_SHARES]]
    if len(run.ranks) < 2 or not any(name in run.metrics for _label, names in SPREAD_ROWS for name in names):
        return columns, [], 3
    rows = [_row(run, label, names) for label, names in SPREAD_ROWS]
    merged: list[list[str]] = []
    for row in rows:
        load = row[0].partition(",")[0]
        if merged and set(row[3:]) == {"n/a"} == set(merged[-1][3:]) and merged[-1][2] == row[2]:
            merged[-1][:2] = [load, ""]
        else:
            merged.append(row)
    return columns, merged, 3


def _row(run: Run, label: str, names: list[str]) -> list[str]:
    values = [run.metrics.get(name) for name in names]
    unit = METRICS[names[0]].unit
    reasons = run.details.get("unavailable", {})
    basis = dict.fromkeys([value.basis for value in values if value is not None])
    missing = dict.fromkeys(reasons[name] for name in names if name in reasons)
    told = [*basis, *[f"n/a: {reason}" if basis else reason for reason in missing]]
    cells = [shown_value(None if value is None else value.value, unit) for value in values]
    return [label, shown_unit(unit), "; ".join(told), *cells]

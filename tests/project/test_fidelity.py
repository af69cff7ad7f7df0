"""Every row of the fidelity page is as near to the published figure as it says, and of a class that it may claim."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs"))

from published import COMPARISONS

ROWS = [pytest.param(row, id=f"{told.title}: {row.figure}") for told in COMPARISONS for row in told.rows]
PREDICTED = [row for row in ROWS if row.values[0].found is not None]


@pytest.mark.parametrize("row", PREDICTED)
def test_a_figure_is_as_near_to_the_published_one_as_its_row_says(row):
    assert 0 < row.within <= 1
    assert abs(row.error()) <= row.within


@pytest.mark.parametrize("row", ROWS)
def test_a_row_without_a_figure_says_why(row):
    assert (row.found is None) == (row.kind == "cannot be predicted") == bool(row.reason)


def test_no_figure_stands_twice():
    assert len({row.id for row in ROWS}) == len(ROWS)

"""Numbers as people read them: digits, thousands and units at the edges where the way of writing changes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.wording.numbers import count, listed, percent, shown_unit, shown_value


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "s", "n/a"),
        (math.nan, "tokens", "n/a"),
        (0.0, "fraction", "0.0"),
        (0.0312, "fraction", "3.12"),
        (0.1, "fraction", "10.0"),
        (0.09999, "fraction", "10.0"),
        (1.2345, "ratio", "1.234"),
        (99.94, "J/token", "99.9"),
        (12.34, "J/token", "12.3"),
        (100.0, "J/token", "100"),
        (1234.5, "g", "1,234"),
        (99.994, "ms", "99.99"),
        (100.0, "ms", "100.0"),
        (9_999.94, "s", "9,999.9"),
        (10_000.0, "ms/token", "10,000"),
        (-10_000.0, "ms", "-10,000"),
        (3.0, "steps", "3"),
        (99.96, "steps", "100"),
        (2.345, "requests", "2.35"),
        (1_234_567.0, "KV tokens", "1,234,567"),
    ],
)
def test_a_value_has_as_many_digits_as_one_compares_by(value, unit, shown):
    assert shown_value(value, unit) == shown


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [(0.0, "0.0%"), (-0.0, "0.0%"), (0.00004, "0.0%"), (-0.00004, "0.0%"), (0.00005001, "0.01%"), (0.0999, "9.99%"),
     (0.1, "10.0%"), (-0.1, "-10.0%"), (1.0, "100.0%")],
)  # fmt: skip
def test_a_share_has_more_digits_where_it_is_small_and_zero_has_no_sign(fraction, shown):
    assert percent(fraction) == shown


@given(st.floats(0, 1))
def test_a_share_is_shown_within_half_of_its_last_digit(fraction):
    text = percent(fraction)
    half = 0.5 * 10.0 ** -len(text.rstrip("%").partition(".")[2])
    assert abs(float(text.rstrip("%")) - fraction * 100) <= half * (1 + 1e-9) + 0.005


@pytest.mark.parametrize(("number", "shown"), [(0, "0 steps"), (1, "1 step"), (2000, "2,000 steps")])
def test_a_count_has_its_plural(number, shown):
    assert count(number, "step") == shown


@pytest.mark.parametrize(
    ("names", "shown"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_names_are_listed_with_commas_and_an_and(names, shown):
    assert listed(names) == shown


def test_units_are_those_of_the_shown_values():
    assert [shown_unit(unit) for unit in ("fraction", "ms/token", "s")] == ["%", "ms", "s"]

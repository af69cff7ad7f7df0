"""Results go to JSON and back without a change, and what is no result is refused by the field that does not fit."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.barrier.thinned import StepSeries
from lbal.analyzers.errors import InputError
from lbal.analyzers.result.json_text import json_text, plain
from lbal.analyzers.result.result import Result
from tests.helpers.result_examples import result_of, run_of

NUMBERS = st.none() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    NUMBERS | st.booleans() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=20, deadline=None)
@given(count=st.integers(1, 1_500), ranks=st.integers(1, 150), seed=st.integers(0, 99), text=st.text(max_size=9))
def test_a_result_comes_back_from_its_record_and_from_its_text(count, ranks, seed, text):
    record = result_of([run_of("a", count, ranks, seed), run_of("b", 3, ranks, seed)], text).as_dict()
    assert Result.from_dict(record).as_dict() == record
    assert json_text(Result.from_dict(json.loads(json_text(record))).as_dict()) == json_text(record)


def test_unknown_numbers_come_back_as_unknown():
    run = run_of("a")
    record = result_of([run]).as_dict()
    record["runs"][0]["metrics"]["steps"]["value"] = None
    record["runs"][0]["drawn"]["imbalance_ratio"][0] = None
    found = Result.from_dict(record)
    assert np.isnan(found.runs[0].metrics["steps"].value)
    assert np.isnan(found.runs[0].drawn.imbalance_ratio[0])
    assert found.as_dict() == record


def test_additions_are_accepted_and_those_of_a_run_are_kept():
    record = result_of([run_of("a")]).as_dict()
    record["something_new"] = record["runs"][0]["something_new"] = {"x": 1}
    assert Result.from_dict(record).as_dict()["runs"][0]["something_new"] == {"x": 1}


def test_what_is_drawn_comes_back_and_rounding_twice_changes_nothing():
    drawn = run_of("a", 700, 9).drawn
    again = StepSeries.from_dict(drawn.as_dict())
    for name in ("first_step", "last_step", "idle_fraction", "idle_fraction_max", "imbalance_ratio", "idle_bins"):
        assert np.array_equal(getattr(again, name), getattr(drawn, name)), name
    assert np.array_equal(again.loads.kv_tokens, drawn.loads.kv_tokens)


@pytest.mark.parametrize(("count", "ranks"), [(1, 1), (5_000, 8), (3_000, 64), (2_000, 200)])
def test_what_is_stored_of_the_steps_is_bounded(count, ranks):
    assert len(json_text(run_of("a", count, ranks).drawn.as_dict())) < 64_000


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["runs"], None, "runs: None does not fit, expected a list"),
        (["runs", 0], 3, "runs[0]: 3 does not fit, expected an object"),
        (["runs", 1, "label"], 3, "runs[1].label: 3 does not fit, expected text"),
        (["runs", 1, "label"], ..., "runs[1].label: None does not fit, expected text"),
        (["runs", 1, "metrics", "steps", "value"], "x", "runs[1].metrics.steps.value: 'x' is not a number"),
        (["runs", 0, "ranks", 2, "idle_fraction"], "x", "runs[0].ranks[2].idle_fraction: 'x' is not a number"),
        (["runs", 0, "ranks", 2, "rank"], -1, "runs[0].ranks[2].rank: -1 does not fit, expected a whole number >= 0"),
        (["runs", 0, "series"], {"columns": {"steps": [1], "x": [[]]}}, "runs[0].series.columns.x[0]: [] is not a"),
        (["runs", 0, "series"], {"columns": {"steps": [1], "x": []}}, "runs[0].series.columns: its lists differ in"),
        (["runs", 0, "drawn", "idle_fraction", 0], [], "runs[0].drawn.idle_fraction[0]: [] is not a number"),
        (["runs", 0, "drawn", "last_step"], [1], "runs[0].drawn: its lists differ in length"),
        (["runs", 0, "drawn", "idle_bins"], [0, 0], "runs[0].drawn.idle_bins: they hold no step"),
        (["runs", 0, "drawn", "loads", "kv_tokens", 1], [1], "runs[0].drawn.loads.kv_tokens: its lists differ"),
        (["runs", 1, "label"], "a", "runs: two runs are called 'a'"),
        (["energy", "findings"], "x", "energy.findings: 'x' does not fit, expected a list"),
        (["config"], 3, "config: 3 does not fit, expected an object"),
        (["notes", 0], 3, "notes[0]: 3 does not fit, expected text"),
    ],
)
def test_a_field_that_does_not_fit_is_named(path, value, message):
    record = copy.deepcopy(result_of([run_of("a"), run_of("b")]).as_dict())
    part = record
    for key in path[:-1]:
        part = part[key]
    if value is ...:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    with pytest.raises(InputError) as refused:
        Result.from_dict(record)
    assert f"the record: {message}" in str(refused.value)


@settings(max_examples=200, deadline=None)
@given(record=st.dictionaries(st.sampled_from(["runs", "config", "inputs", "notes", "x"]), JSON), run=JSON)
def test_no_record_ends_in_anything_but_a_result_or_one_line(record, run):
    for tried in (record, {**record, "runs": [run]}, {"runs": [{"label": "a", "drawn": run, "metrics": run}]}):
        assert "\n" not in refusal_of(tried)


def refusal_of(record):
    """What is wrong with a record; empty where it is a result."""
    try:
        Result.from_dict(record)
    except InputError as error:
        return str(error)
    return ""


@given(record=st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_json_text_reads_back_as_what_it_was_made_of(record):
    assert json.loads(json_text(record)) == plain(record)

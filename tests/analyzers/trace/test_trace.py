"""What `Trace.of` lets through, mends and refuses, and the steps as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.trace import REQUEST_COLUMNS, STEP_COLUMNS, StepArrays, Trace, TraceMeta

META = TraceMeta("t", "native")


def requests(**columns: list[Any]) -> pl.DataFrame:
    size = len(next(iter(columns.values()), [0, 0]))
    default = {"request_id": list(range(size)), "prompt_tokens": [5] * size, "output_tokens": [2] * size}
    return pl.DataFrame(default | columns)


def steps(**columns: list[Any]) -> pl.DataFrame:
    default = {"step": [0, 0, 1, 1], "rank": [0, 1, 0, 1], "kv_tokens": [5, 6, 7, 8], "num_running": [1, 1, 1, 1]}
    return pl.DataFrame(default | columns)


def refusal(*tables: pl.DataFrame | None, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        Trace.of(META, *tables, **options)
    return str(caught.value)


def test_columns_get_their_types_and_unknown_ones_are_left_out() -> None:
    trace = Trace.of(META, requests(arrival_ms=[0, 1], colour=[1, 2]), steps(step_ms=[3, 3, 4, 4], colour=[1, 2, 3, 4]))
    assert trace.requests is not None
    assert trace.steps is not None
    assert trace.requests.columns == ["request_id", "arrival_ms", "prompt_tokens", "output_tokens"]
    assert trace.steps.columns == ["step", "rank", "kv_tokens", "num_running", "step_ms"]
    assert all(REQUEST_COLUMNS[name] == kind for name, kind in list(trace.requests.schema.items())[1:])
    assert all(STEP_COLUMNS[name] == kind for name, kind in trace.steps.schema.items())
    assert (trace.num_requests, trace.num_steps, trace.meta.dp_size) == (2, 2, 2)


def test_a_table_without_rows_counts_as_absent() -> None:
    trace = Trace.of(META, requests().clear(), steps())
    assert trace.requests is None
    assert trace.num_requests == 0
    assert trace.requests is None
    assert (
        refusal(requests().clear(), steps().clear())
        == refusal()
        == ("t: no requests and no steps, expected at least one of either")
    )


def test_requests_are_put_in_order_of_arrival_and_equal_times_keep_theirs() -> None:
    trace = Trace.of(META, requests(arrival_ms=[3, 1, 2, 1]))
    assert trace.requests is not None
    assert trace.requests["request_id"].to_list() == [1, 3, 2, 0]
    assert trace.meta.warnings == ("2 arrival times run backwards; requests were sorted by arrival",)


def test_strict_refuses_times_that_run_backwards() -> None:
    problem = refusal(requests(arrival_ms=[3, 1]), strict=True, line_of_request=lambda row: row + 10)
    assert (
        problem
        == "t:11: arrival_ms: runs backwards from the request before it, expected times in order (or no --strict, to sort them)"
    )


def test_steps_and_ranks_are_put_in_order() -> None:
    trace = Trace.of(META, None, steps(step=[1, 0, 0, 1], rank=[1, 1, 0, 0]))
    assert trace.steps is not None
    assert trace.steps.select("step", "rank").rows() == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert trace.steps["kv_tokens"].to_list() == [7.0, 6.0, 8.0, 5.0]


def test_the_line_of_a_bad_rank_is_the_line_before_sorting() -> None:
    table = requests(arrival_ms=[3, 1, 2], rank=[0, 1, 9])
    assert refusal(table, steps(), line_of_request=lambda row: row + 2) == (
        "t:4: rank: 9 is out of range, expected a rank in 0..1"
    )


def test_a_rank_beyond_the_known_size_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"t: rank: 1 is out of range \(2 rows are bad: 2, 4\), expected a rank in 0..0"
    ):
        Trace.of(TraceMeta("t", "native", dp_size=1), None, steps())


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"prompt_tokens": [-1]}, "prompt_tokens: -1 is negative (row 1), expected a whole number of at least 0"),
        ({"output_tokens": [0]}, "output_tokens: 0 is below 1 (row 1), expected a whole number of at least 1"),
        ({"output_tokens": [2**41]}, "output_tokens: 2199023255552 is too large (row 1), expected at most 2**40"),
        ({"output_tokens": [1, None]}, "output_tokens: is missing (row 2), expected a value"),
        ({"output_tokens": [1.5]}, "output_tokens: 1.5 is not a whole number (row 1), expected a whole number"),
        ({"output_tokens": ["1"]}, "output_tokens: has values of type String, expected numbers"),
        ({"arrival_ms": [0, None]}, "arrival_ms: is missing (row 2), expected a time on every request or on none"),
        ({"finish_ms": [float("inf")]}, "finish_ms: inf is not a finite number (row 1), expected milliseconds"),
        ({"rank": [-1]}, "rank: -1 is out of range (row 1), expected a rank from 0"),
        ({"request_id": ["a", "b", "a"]}, "request_id: 'a' stands twice (row 3), expected unique ids"),
    ],
)
def test_a_bad_request_is_refused(columns: dict[str, list[Any]], problem: str) -> None:
    assert refusal(requests(**columns)) == f"t: {problem}"


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"step": [0, 0, -1, -1]}, "step: -1 is missing or negative (2 rows are bad: 3, 4), expected a number from 0"),
        (
            {"kv_tokens": [1, -2, 3, 4]},
            "kv_tokens: -2.0 is negative (row 2), expected a number of at least 0, or null for a gap",
        ),
        (
            {"step_ms": [1, 1, 0, 0]},
            "step_ms: 0.0 is not positive (2 rows are bad: 3, 4), expected the wall time of the step in ms",
        ),
        (
            {"start_ms": [1, 1, 2, None]},
            "start_ms: step 1 has different values on its ranks, expected one value per step",
        ),
        ({"rank": [0, 0, 0, 1]}, "rank: step 0 has rank 0 twice, expected each of the ranks 0..1 once per step"),
        ({"rank": [0, 1, 0, 2]}, "rank: step 0 has no rank 2, expected each of the ranks 0..2 once per step"),
    ],
)
def test_a_bad_step_is_refused(columns: dict[str, list[Any]], problem: str) -> None:
    assert refusal(None, steps(**columns)) == f"t: {problem}"


def test_a_rank_that_is_much_too_large_is_refused_at_once() -> None:
    problem = refusal(None, steps(rank=[0, 10**12, 0, 1]))
    assert problem.startswith("t: rank: step 0 has no rank 1, 2, 3, 4, 5, 6, 7, 8, expected each of the ranks")


def test_arrays_and_tables_of_steps_are_the_same_thing() -> None:
    arrays = StepArrays(
        step=np.array([3, 4]),
        kv_tokens=np.array([[5.0, np.nan], [6.5, 1.0]]),
        num_running=np.array([[1.0, 0.0], [np.nan, 1.0]]),
        step_ms=np.array([31.25, np.nan]),
    )
    trace = Trace.of(META, None, arrays.frame())
    assert trace.steps is not None
    assert trace.steps["kv_tokens"].to_list() == [5.0, None, 6.5, 1.0]
    assert trace.steps["num_running"].to_list() == [1, 0, None, 1]
    back = trace.step_arrays()
    assert (back.dp_size, len(back), back.compute_ms) == (2, 2, None)
    for name in ("step", "kv_tokens", "num_running", "step_ms"):
        np.testing.assert_array_equal(getattr(back, name), getattr(arrays, name))
    assert back.part(slice(1, 2)).step.tolist() == [4]


def test_no_rank_computes_for_fewer_requests_than_it_has():
    steps = pl.DataFrame({"step": [0, 0], "rank": [0, 1], "num_running": [2, 1], "padded_running": [2, 0]})
    with pytest.raises(InputError, match=r"padded_running: 0 is less than num_running \(row 2\)"):
        Trace.of(TraceMeta("x", "native"), None, steps)

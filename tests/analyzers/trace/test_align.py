"""Records of ranks put side by side: by step number, by the nearest moment, or as samples."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from forward_passes import record
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.join import LogPart, join_logs
from lbal.analyzers.trace.reading.rank_steps import IMPOSSIBLE, IMPOSSIBLE_VALUES, RankStepsBuilder
from lbal.analyzers.trace.sources import SourceName
from lbal.analyzers.trace.trace import Trace


class AnyLog(LogReader):
    """Stands for a reader, where the records are made by the test."""

    name, time_unit, engine, title = "any", "s", "any engine", "a log of any engine"
    signature = re.compile(b"never")
    alignment, resolution = "step", "step"

    def collect(self, source: Any, records: RankStepsBuilder, options: ReadOptions) -> None:
        """Not called."""


def joined(
    *files: RankStepsBuilder, options: ReadOptions | None = None, late_steps: int = 0, numbers_steps: str = ""
) -> Trace:
    reader = type("AnyLog", (AnyLog,), {"late_steps": late_steps, "numbers_steps": numbers_steps})
    parts = [LogPart(SourceName(f"f{index}"), f"{index}" * 64, file.build()) for index, file in enumerate(files)]
    return join_logs(reader, parts, "the logs", options or ReadOptions())


def by_time(resolution="step", **columns: Any) -> RankStepsBuilder:
    records = RankStepsBuilder("time", resolution)
    records.extend(columns)
    return records


def matrix(trace: Trace, name: str) -> list[list[float | None]]:
    values = getattr(trace.step_arrays(), name)
    return [[None if np.isnan(value) else float(value) for value in row] for row in values]


def test_steps_without_numbers_are_those_nearest_in_time() -> None:
    zero = by_time(rank=0, time_ms=[0, 100, 200, 300], num_running=[1, 2, 3, 4])
    one = by_time(rank=1, time_ms=[10, 95, 260, 310], num_running=[5, 6, 7, 8])
    trace = joined(zero, one)
    assert matrix(trace, "num_running") == [[1, 5], [2, 6], [3, None], [4, 8]]
    assert trace.meta.excluded == {"records with no step of the other ranks near in time": 1}
    assert (trace.meta.alignment, trace.meta.resolution) == ("time", "step")
    assert trace.step_arrays().start_ms.tolist() == [0, 100, 200, 300]


def test_samples_are_held_for_a_usual_gap_and_no_longer() -> None:
    def zero() -> RankStepsBuilder:
        return by_time("sampled", rank=0, time_ms=[0, 10e3, 20e3, 30e3, 40e3], num_running=[1, 2, 3, 4, 5])

    one = by_time("sampled", rank=1, time_ms=[1e3, 11e3, 40e3], num_running=[6, 7, 8])
    trace = joined(zero(), one)
    assert matrix(trace, "num_running") == [[1, 6], [2, 7], [3, 7], [4, 8], [5, 8]]
    assert trace.meta.resolution == "sampled"
    gone = by_time("sampled", rank=1, time_ms=[0, 10e3], num_running=[6, 7])
    assert [row[1] for row in matrix(joined(zero(), gone), "num_running")] == [6, 7, 7, None, None]
    far = by_time("sampled", rank=1, time_ms=[500e3], num_running=[6])
    assert joined(zero(), far).meta.ranks_seen == (0,)


def test_samples_far_from_all_looks_at_the_other_ranks_are_counted() -> None:
    """A rank that was logged at another time drops out: that is never silent."""

    def zero() -> RankStepsBuilder:
        return by_time("sampled", rank=0, time_ms=[0, 1000, 2000, 3000], num_running=[1, 2, 3, 4])

    trace = joined(zero(), by_time("sampled", rank=1, time_ms=[2000, 90_000, 91_000], num_running=[5, 6, 7]))
    assert trace.meta.excluded == {"records with no step of the other ranks near in time": 2}
    alone = joined(zero(), by_time("sampled", rank=1, time_ms=[90_000, 91_000], num_running=[6, 7]))
    assert alone.meta.excluded == {"records with no step of the other ranks near in time": 2}
    assert alone.meta.ranks_seen == (0,)


def test_ranks_far_in_time_are_told_why_they_are_not_used_and_what_would_join_them() -> None:
    def zero() -> RankStepsBuilder:
        return by_time("sampled", rank=0, time_ms=[0, 1000, 2000, 3000], num_running=[1, 2, 3, 4])

    far = by_time("sampled", rank=1, time_ms=[90_000, 91_000], num_running=[6, 7])
    said = next(text for text in joined(zero(), far, numbers_steps="--every-step").meta.warnings if "too far" in text)
    assert said == (
        "2 records of rank 1 are too far in time from the nearest record of rank 0, which has the most, to be of one moment "
        "with it (of rank 1, all are: 87 s away at least; the clocks of hosts may differ, or the files are of other times); "
        "--every-step joins ranks by number, without a clock"
    )
    some = by_time("sampled", rank=1, time_ms=[1000, 2000, 3000, 90_000], num_running=[6, 7, 8, 9])
    warnings = joined(zero(), some).meta.warnings
    assert any(text.endswith("to be of one moment with it") for text in warnings)
    assert "left out: 1 records with no step of the other ranks near in time" in warnings
    near = by_time("sampled", rank=1, time_ms=[0, 1000, 2000, 3000], num_running=[1, 2, 3, 4])
    assert not any("too far" in text for text in joined(zero(), near).meta.warnings)


def test_steps_shorter_than_the_second_of_their_clock_are_samples() -> None:
    """Such as vLLM's iterations of generation A: lines of one second need not be of one step."""
    for step_ms, resolution in ((40.0, "sampled"), (2000.0, "step")):
        records = by_time(rank=[0, 1] * 3, time_ms=[0, 0, 1000, 1000, 2000, 2000], num_running=5, step_ms=step_ms)
        assert joined(records).meta.resolution == resolution


def test_a_clock_too_coarse_for_steps_gives_samples() -> None:
    records = by_time(rank=[0, 1] * 4, time_ms=[0] * 4 + [1000] * 4, num_running=[1, 2, 3, 4, 5, 6, 7, 8])
    trace = joined(records)
    assert trace.meta.resolution == "sampled"
    assert matrix(trace, "num_running") == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert trace.step_arrays().start_ms.tolist() == [0, 500, 1000, 1500]
    assert any("too coarse" in warning for warning in trace.meta.warnings)


def test_a_gap_in_the_numbers_is_a_step_without_work_only_where_the_log_says_so() -> None:
    for idle, expected in (
        (True, [[1, 1], [1, 0], [1, 1], [1, None]]),
        (False, [[1, 1], [1, None], [1, 1], [1, None]]),
    ):
        records = RankStepsBuilder("step", "step")
        records.gaps_are_idle = idle
        records.extend({"rank": [0] * 4 + [1] * 2, "step": [5, 6, 7, 8, 5, 7], "num_running": 1})
        assert matrix(joined(records), "num_running") == expected


def test_shares_of_the_kv_space_become_tokens_where_its_size_is_known() -> None:
    records = by_time("sampled", rank=[0, 1], time_ms=0, num_running=3, kv_fraction=[0.5, 0.25])
    assert "kv_tokens" not in joined(records).steps.columns
    records = by_time("sampled", rank=[0, 1], time_ms=0, num_running=3, kv_fraction=[0.5, 0.25])
    records.facts.kv_capacity_tokens = {None: 1000, 1: 2000}
    assert matrix(joined(records), "kv_tokens") == [[500, 500]]
    records = by_time("sampled", rank=[0, 1], time_ms=0, num_running=3, kv_fraction=[0.5, 0.25])
    assert matrix(joined(records, options=ReadOptions(kv_capacity=400)), "kv_tokens") == [[200, 100]]


def test_files_that_tell_no_rank_are_ranks_in_their_order_and_that_is_said() -> None:
    trace = joined(*(by_time(time_ms=[0, 100], num_running=count) for count in (3, 5)))
    assert matrix(trace, "num_running") == [[3, 5]] * 2
    assert "files are taken for ranks 0 to 1" in trace.meta.warnings[0]


def test_a_step_that_comes_late_is_no_restart_where_lines_may_be_late() -> None:
    for late, steps in ((1, 3), (0, 2)):
        records = RankStepsBuilder("step", "step")
        records.extend({"rank": 0, "step": [1, 3, 2], "num_running": 1})
        assert joined(records, late_steps=late).num_steps == steps


def test_values_that_cannot_be_are_counted_and_unknown() -> None:
    records = RankStepsBuilder("step", "step")
    for running in (4, -1, 2.5, float("inf")):
        records.add(rank=0, step=len(records._rows), num_running=running, kv_tokens=1)
    records.add(rank=99_999, step=1, num_running=1)
    trace = joined(records)
    assert matrix(trace, "num_running") == [[4], [None], [None], [None]]
    assert trace.meta.excluded == {IMPOSSIBLE: 1, IMPOSSIBLE_VALUES: 3}


def test_a_log_without_records_is_named_with_what_was_skipped() -> None:
    records = RankStepsBuilder("step", "step")
    records.skip("cut lines", 3)
    with pytest.raises(InputError, match=r"the logs: is a log of any engine but has no records \(3 cut lines\)"):
        joined(records)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 20), st.integers(0, 64)),
        min_size=1,
        max_size=60,
        unique_by=lambda item: item[:2],
    )
)
def test_what_ranks_logged_in_a_step_is_there_whatever_the_files(items) -> None:
    items = sorted(items, key=lambda item: item[1])
    whole = RankStepsBuilder("step", "step")
    files = {rank: RankStepsBuilder("step", "step") for rank, _step, _running in items}
    for rank, step, running in items:
        for records in (whole, files[rank]):
            records.add(rank=rank, step=step, num_running=running)
    one, several = joined(whole), joined(*files.values())
    assert one.steps.equals(several.steps, null_equal=True)
    steps = one.steps.drop_nulls("num_running").select("step", "rank", "num_running").rows()
    assert sorted(steps) == sorted((step, rank, running) for rank, step, running in items)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_to_a_log_raises_anything_but_an_error_of_input(tmp_path_factory, data) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x"
    text = bytearray("".join(record(rank, step) for step in range(3) for rank in (0, 1)).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(text) - 1))
        text[start : start + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    path.write_bytes(text)
    with suppress(InputError):
        assert read_trace(path, format_name="fpm").num_steps

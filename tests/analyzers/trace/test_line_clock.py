"""The time of a line: which of its clocks counts, and how a clock without year, day or zone goes on."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from vllm_lines import iteration, periodic
from wrapped_lines import WRAPPERS, moment

from lbal.analyzers.trace.reading.line_clock import LOCAL, NO_DAY, NO_YEAR, ZONED, LineClock, one_clock

HOUR_MS = 3_600_000.0
AT = datetime(2026, 8, 22, 10, 0, 1, tzinfo=UTC).timestamp() * 1e3


@pytest.mark.parametrize(
    ("head", "time_ms", "kind"),
    [
        (b"2026-08-22T10:00:01.250000000Z (APIServer pid=1) INFO 08-22 12:00:01 [x.py:1] ", AT + 250, ZONED),
        (b"2026-08-22T12:00:01.25+02:00 stdout F ", AT + 250, ZONED),
        (b"2026-08-22T10:00:01+0000 node7 vllm[1]: ", AT, ZONED),
        (b"1787392801.250000 node7 vllm[1]: ", AT + 250, ZONED),
        (b"[2026-08-22 10:00:01.250 DP3 TP3] ", AT + 250, LOCAL),
        (b"2026-08-22 10:00:01,250 INFO ", AT + 250, LOCAL),
        (b"[08/22/2026-10:00:01] [TRT-LLM] [I] ", AT, LOCAL),
        (b"Aug 22 10:00:01 node7 vllm[1]: INFO 08-22 12:00:01 [x.py:1] ", None, NO_YEAR),
        (b"10:00:01 web.1 | ", 36_001_000, NO_DAY),
    ],
)
def test_the_first_full_time_counts_then_one_without_a_year_then_one_without_a_day(head, time_ms, kind) -> None:
    found_ms, found_kind = LineClock().moment(head)
    assert found_kind == kind
    if kind == NO_YEAR:
        assert datetime.fromtimestamp(found_ms / 1e3, UTC).strftime("%m-%d %H:%M:%S") == "08-22 10:00:01"
    else:
        assert found_ms == pytest.approx(time_ms)


@pytest.mark.parametrize("head", [b"", b"INFO ", b"2026-13-45T10:00:01Z ", b"99-99 10:00:01 ", b"12:61:61 "])
def test_what_is_no_time_is_none(head: bytes) -> None:
    assert np.isnan(LineClock().time_ms(head))


@pytest.mark.parametrize("wrapper", ["docker timestamps", "kubectl timestamps", "Docker JSON", "containerd"])
def test_the_clock_of_what_wraps_a_line_counts_as_it_has_fractions_of_a_second(wrapper: str, read) -> None:
    seconds = (0.0, 0.125, 10.5)
    lines = [(second, periodic(0, 5, 0, 50, f"{moment(second):%m-%d %H:%M:%S}").strip()) for second in seconds]
    assert read(WRAPPERS[wrapper](lines)).step_arrays().start_ms == pytest.approx([0, 125, 10_500])


def starts(clocks: list[str], read, prefix: str = "") -> list[float]:
    return (
        read("".join(prefix.format(clock) + periodic(0, 5, 0, 50, clock) for clock in clocks))
        .step_arrays()
        .start_ms.tolist()
    )


def test_the_last_day_of_february_is_followed_by_march_unless_a_line_is_of_the_29th(read) -> None:
    assert starts(["02-28 23:59:55", "03-01 00:00:05"], read) == [0, 10_000]
    leap = ["02-28 23:59:55", "02-29 00:00:05", "02-29 23:59:55", "03-01 00:00:05"]
    assert starts(leap, read) == [0, 10_000, 86_400_000, 86_410_000]


def test_a_year_passes_although_a_line_comes_late(read) -> None:
    lines = [
        periodic(rank, 5, 0, 50, clock)
        for rank, clock in [(0, "12-31 23:59:50"), (1, "12-31 23:59:50"), (0, "01-01 00:00:00"), (1, "12-31 23:59:59")]
    ]
    steps = read("".join(lines)).step_arrays()
    assert steps.start_ms.tolist() == [0, 10_000]
    assert not np.isnan(steps.num_running).any()


def test_midnight_passes_on_a_clock_without_a_day(read) -> None:
    lines = [
        f"{clock} engine | Engine 000: {periodic(None, 5, 0, 50).split('] ')[1]}" for clock in ("23:59:55", "00:00:05")
    ]
    assert read("".join(lines)).step_arrays().start_ms.tolist() == [0, 10_000]


AUTUMN = ["10-25 02:59:40", "10-25 02:59:50", "10-25 02:00:00", "10-25 02:00:10", "10-25 02:59:50", "10-25 03:00:00"]


def test_the_hour_that_comes_twice_where_daylight_saving_time_ends_is_counted_on(read) -> None:
    start = starts(AUTUMN, read)
    assert start == [0, 10_000, 20_000, 30_000, 3_610_000, 3_620_000]


def test_lines_of_another_process_may_come_from_before_that_hour() -> None:
    times = [0.0, 0.0, -HOUR_MS + 1e3, 900.0, -HOUR_MS + 2e3, -HOUR_MS + 3e3, 5e3]
    ranks = [0, 1, 0, 1, 1, 0, 0]
    frame = pl.DataFrame({"time_ms": times, "rank": ranks, "clock": [LOCAL] * len(times)})
    mended, _left_out, notes = one_clock(frame)
    assert mended["time_ms"].to_list() == [0, 0, 1e3, 900, 2e3, 3e3, HOUR_MS + 5e3]
    assert len(notes) == 1


def test_a_log_of_one_rank_behind_that_of_another_is_no_hour_that_comes_twice() -> None:
    frame = pl.DataFrame({"time_ms": [0.0, HOUR_MS, 0.0, HOUR_MS], "rank": [0, 0, 1, 1], "clock": [LOCAL] * 4})
    assert one_clock(frame)[0]["time_ms"].to_list() == [0, HOUR_MS, 0, HOUR_MS]


def test_a_clock_with_a_time_zone_is_never_changed() -> None:
    frame = pl.DataFrame({"time_ms": [HOUR_MS, 1.0], "rank": [0, 0], "clock": [ZONED] * 2})
    assert one_clock(frame)[0]["time_ms"].to_list() == [HOUR_MS, 1.0]


def test_times_of_another_clock_than_most_lines_have_are_counted_and_not_used() -> None:
    frame = pl.DataFrame({"time_ms": [1.0, 2.0, 3.0], "rank": [0, 0, 0], "clock": [ZONED, NO_YEAR, ZONED]})
    mended, left_out, _notes = one_clock(frame)
    assert mended["time_ms"].to_list() == [1.0, None, 3.0]
    assert sum(left_out.values()) == 1


def test_the_process_that_vllm_tells_beside_a_json_message_gives_the_rank(read) -> None:
    lines = []
    for rank in (0, 1):
        message = iteration("B", rank, 7, 5 + rank).split("] ", 1)[1].strip()
        named = {"asctime": "2026-08-22 10:00:01,250", "processName": f"EngineCore_DP{rank}", "process": 90 + rank}
        lines.append(json.dumps({**named, "levelname": "INFO", "message": message}))
    assert read("\n".join(lines)).step_arrays().num_running.tolist() == [[5, 6]]

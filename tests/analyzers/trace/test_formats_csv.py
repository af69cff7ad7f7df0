"""Comma-separated request logs: Azure, BurstGPT and lengths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import ReadOptions, read_trace
from lbal.analyzers.trace.reading import delimited
from lbal.analyzers.trace.source import Block
from lbal.analyzers.trace.trace import Trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
AZURE_ROW = "2023-11-16 18:17:03.9799600,4808,10"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
COUNT = "expected a whole number from 0 to 2**40"
STAMP = "expected a timestamp such as 2023-11-16 18:15:46.6805900"
Read = Callable[..., Trace]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads lines, each given with its line end put after it (the last one too, unless `end` says otherwise)."""
    monkeypatch.chdir(tmp_path)

    def reader(*lines: str, end: str = "\n", strict: bool = False, format_name: str | None = None) -> Trace:
        Path("t.csv").write_text("\n".join(lines) + end)
        return read_trace("t.csv", options=ReadOptions(strict=strict), format_name=format_name)

    return reader


def refusal(read: Read, *lines: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(*lines, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(trace: Trace) -> list[tuple[object, ...]]:
    assert trace.requests is not None
    return trace.requests.rows()


def test_azure_times_count_from_the_earliest_request(read: Read) -> None:
    trace = read(AZURE, "2023-11-16 18:17:03.9799601,1,2", "2023-11-16 18:17:03.9799600,3,4", "2023-11-16 18:17:05,5,6")
    assert rows(trace) == [(1, 0.0, 3, 4), (0, 0.0001, 1, 2), (2, 1020.04, 5, 6)]
    assert trace.meta.time_origin == "2023-11-16 18:17:03.9799600"
    assert trace.meta.time_unit == "timestamp"


def test_azure_of_2024_has_a_zone_and_may_lack_the_fraction(read: Read) -> None:
    trace = read(AZURE, "2024-05-10 00:00:00.009930+00:00,7,8", "2024-05-10 00:00:10+00:00,9,1")
    assert rows(trace) == [(0, 0.0, 7, 8), (1, 9990.07, 9, 1)]


@pytest.mark.parametrize("zoned_first", [True, False])
def test_azure_refuses_rows_with_a_zone_among_rows_without(read: Read, zoned_first: bool) -> None:
    zoned, bare = "2024-05-10 00:00:00+00:00", "2024-05-10 00:00:01"
    first, second, has = (zoned, bare, "no") if zoned_first else (bare, zoned, "a")
    problem = refusal(read, AZURE, f"{first},1,1", f"{second},1,1")
    assert problem == f"t.csv:3: TIMESTAMP: '{second}' has {has} time zone, unlike the first row, {STAMP}"


@pytest.mark.parametrize(
    "text",
    ["yesterday", "nan", "2023-02-30 00:00:00", "3023-11-16 18:17:03", "2023-11-16", "2023-11-16 18:17:03.x", "17e8"],
)
def test_azure_refuses_what_is_no_timestamp(read: Read, text: str) -> None:
    assert refusal(read, AZURE, AZURE_ROW, f"{text},1,1") == (
        f"t.csv:3: TIMESTAMP: '{text}' is not a timestamp, {STAMP}"
    )


def test_burstgpt_seconds_become_ms_whatever_the_order_of_the_columns(read: Read) -> None:
    first = read(BURSTGPT, "5,ChatGPT,472,18,490,Conversation log", "45.5,GPT-4,1087,230,1317,API log")
    sessions = read(
        "Session ID,Log Type,Response tokens,Request tokens,Elapsed time,Timestamp,Total tokens,Model",
        "1722ac82,Conversation log,18,472,43,5.0,490,ChatGPT",
        ",API log,230,1087,,45.5,1317,GPT-4",
    )
    assert rows(first) == rows(sessions) == [(0, 0.0, 472, 18), (1, 40500.0, 1087, 230)]
    assert (first.meta.time_unit, first.meta.time_origin) == ("s", "5")


def test_lengths_have_no_arrivals(read: Read) -> None:
    trace = read("input_length,output_length", "632,34", "220,7")
    assert rows(trace) == [(0, 632, 34), (1, 220, 7)]
    assert "arrival_ms" not in trace.requests.columns
    assert trace.meta.time_unit is None


def test_quoted_fields_and_blanks_around_numbers_are_read(read: Read) -> None:
    trace = read(BURSTGPT, '"5","GPT-4, ""new""", 472 ,"18",490,API log')
    assert rows(trace) == [(0, 0.0, 472, 18)]


def test_a_response_of_zero_tokens_is_counted_and_excluded(read: Read) -> None:
    trace = read(AZURE, "2023-11-16 18:17:03,9,0", "2023-11-16 18:17:04,5,5", "2023-11-16 18:17:05,6,0")
    assert rows(trace) == [(0, 0.0, 5, 5)]
    assert trace.meta.excluded == {"failed (0 output tokens)": 2}
    assert trace.meta.warnings == ("2 failed requests were excluded (0 output tokens)",)
    assert trace.meta.time_origin == "2023-11-16 18:17:04"


def test_a_file_of_failed_requests_only_is_refused(read: Read) -> None:
    problem = refusal(read, "input_length,output_length", "1,0", "2,0")
    assert problem == "t.csv: all 2 requests failed (0 output tokens), expected a request with output"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("-3", "-3 is negative"),
        ("3.5", "3.5 is not a whole number"),
        ("nan", "nan is not a whole number"),
        ("inf", "inf is not a whole number"),
        ("many", "'many' is not a whole number"),
        ("1_000", "'1_000' is not a whole number"),
        ("", "is empty"),
        ('""', "is empty"),
        ("1099511627777", "1099511627777 is too large"),
        ("99999999999999999999", "99999999999999999999 is too large"),
    ],
)
@pytest.mark.parametrize("column", ["ContextTokens", "GeneratedTokens"])
def test_what_is_no_token_count_is_refused_at_its_line(read: Read, text: str, problem: str, column: str) -> None:
    bad = f"{text},1" if column == "ContextTokens" else f"1,{text}"
    lines = [AZURE, AZURE_ROW, "", f"2023-11-16 18:17:04,{bad}", "2023-11-16 18:17:04,-1,-1"]
    assert refusal(read, *lines) == f"t.csv:4: {column}: {problem} (2 lines are bad: 4, 5), {COUNT}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nan", "nan is not finite"),
        ("inf", "inf is not finite"),
        ("1e999", "inf is not finite"),
        ("soon", "'soon' is not a number"),
        ("", "is empty"),
    ],
)
def test_what_is_no_time_is_refused_at_its_line(read: Read, text: str, problem: str) -> None:
    lines = [BURSTGPT, "5,m,1,1,2,l", f"{text},m,1,1,2,l"]
    assert refusal(read, *lines) == f"t.csv:3: Timestamp: {problem}, expected a finite number"


def test_strict_tells_the_line_although_rows_were_excluded(read: Read) -> None:
    lines = [AZURE, "2023-11-16 18:17:03,9,0", "", "2023-11-16 18:17:05,5,5", "2023-11-16 18:17:04,6,6"]
    assert read(*lines).meta.warnings == (
        "1 failed request was excluded (0 output tokens)",
        "1 arrival time runs backwards; requests were sorted by arrival",
    )
    expected = "expected times in order (or no --strict, to sort them)"
    assert (
        refusal(read, *lines, strict=True)
        == f"t.csv:5: TIMESTAMP: runs backwards from the request before it, {expected}"
    )


@pytest.mark.parametrize(
    ("header", "missing", "needed"),
    [
        ("TIMESTAMP,ContextTokens", "GeneratedTokens", AZURE),
        ("TIMESTAMP,GeneratedTokens,x", "ContextTokens", AZURE),
        ("ContextTokens,GeneratedTokens", "TIMESTAMP", AZURE),
        ("Timestamp,Model,Request tokens", "Response tokens", "Timestamp,Request tokens,Response tokens"),
        ("input_length,x", "output_length", "input_length,output_length"),
    ],
)
def test_a_missing_column_is_named(read: Read, header: str, missing: str, needed: str) -> None:
    problem = refusal(read, header, "1,2,3")
    assert problem == f"t.csv:1: {missing}: no such column in the header '{header}', expected {needed}"


def test_a_column_that_stands_twice_is_refused(read: Read) -> None:
    problem = refusal(read, f"{AZURE},ContextTokens", "1,2,3,4")
    assert problem == "t.csv:1: ContextTokens: stands twice in the header, expected one such column"


def test_lengths_with_times_beside_them_are_not_read_as_lengths(read: Read) -> None:
    lines = "timestamp,input_length,output_length", "1,2,3"
    assert "no known trace format" in refusal(read, *lines)
    assert refusal(read, *lines, format_name="lengths") == (
        "t.csv:1: timestamp: is no column of this format, expected input_length,output_length"
    )


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_a_header_alone_is_refused(read: Read, end: str) -> None:
    assert refusal(read, AZURE, end=end) == "t.csv:1: has a header but no rows, expected a request per line"


@pytest.mark.parametrize(
    ("row", "width"),
    [("5,m,1,1,2", "5 fields"), ("5,m,1,1,2,l,x", "7 fields"), ("5", "1 field"), ("5,m,1,1,2,l,", "7 fields")],
)
@pytest.mark.parametrize("before", [0, 1])
def test_a_row_with_too_few_or_too_many_fields_is_refused(read: Read, row: str, width: str, before: int) -> None:
    problem = refusal(read, BURSTGPT, *["5,m,1,1,2,l"] * before, row, "6,m,1,1,2,l")
    assert problem == f"t.csv:{2 + before}: the row has {width}, expected 6, as in the header"


def test_empty_fields_that_are_not_needed_do_not_matter(read: Read) -> None:
    assert rows(read(BURSTGPT, "5,,1,1,,", "", "6,,2,2,,")) == [(0, 0.0, 1, 1), (1, 1000.0, 2, 2)]


@pytest.mark.parametrize("row", ['5,"m,1,1,2,l', '5,m"x,1,1,2,l', '5,"m"x,1,1,2,l'])
def test_quotes_that_do_not_pair_up_are_refused(read: Read, row: str) -> None:
    problem = refusal(read, BURSTGPT, "5,m,1,1,2,l", row, "6,m,1,1,2,l")
    assert problem == "t.csv:3: quotes do not pair up, expected each row on one line"


def test_a_line_break_within_quotes_is_refused(read: Read) -> None:
    problem = refusal(read, BURSTGPT, '5,"m\nn",1,1,2,l')
    assert problem == "t.csv:2: quotes do not pair up (2 lines are bad: 2, 3), expected each row on one line"


def test_a_last_number_that_may_be_cut_off_is_said_and_refused_when_strict(read: Read) -> None:
    trace = read(AZURE, AZURE_ROW, end="")
    problem = "the last line has no line end, so this number may be cut off"
    assert rows(trace) == [(0, 0.0, 4808, 10)]
    assert trace.meta.warnings == (f"line 2: GeneratedTokens: {problem}",)
    assert refusal(read, AZURE, AZURE_ROW, end="", strict=True) == (
        f"t.csv:2: GeneratedTokens: {problem}, expected a newline after the last row"
    )


def test_a_last_line_needs_no_end_where_no_number_ends_it(read: Read) -> None:
    assert read(BURSTGPT, "5,m,1,1,2,Conv", end="", strict=True).meta.warnings == ()


def test_a_last_line_cut_within_its_fields_is_refused(read: Read) -> None:
    problem = refusal(read, AZURE, AZURE_ROW, "2023-11-16 18:17:04,48", end="")
    assert problem == "t.csv:3: the row has 2 fields and no line end, truncated?, expected 3, as in the header"


def test_text_that_is_not_utf8_is_refused_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f"{BURSTGPT}\n5,m,1,1,2,l\n5,\u00e9,1,1,2,l\n".encode("latin-1"))
    with pytest.raises(InputError) as caught:
        read_trace(str(path))
    assert str(caught.value) == f"{path}:3: byte 0xe9 is not UTF-8, expected UTF-8 text"


LINE = st.one_of(
    st.just(b""),
    st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")),
    st.lists(st.sampled_from([b"1", b"22", b"", b'"3"', b'"', b"x"]), min_size=1, max_size=4).map(b",".join),
)


@settings(deadline=None)
@given(st.lists(LINE, max_size=8))
def test_reading_a_block_at_once_equals_reading_it_line_by_line(lines: list[bytes]) -> None:
    """The plain reading: every line that is not blank is matched alone, and its fields are unquoted."""
    data = b"".join(line + b"\n" for line in lines if line.decode(errors="ignore").encode() == line)
    columns = (delimited.count_column("a", "prompt_tokens"), delimited.count_column("b", "output_tokens"))
    reader = delimited._Rows("f", ["a", "b"], columns, ",")
    expected: list[tuple[int, int, int]] = []
    bad: list[int] = []
    for number, line in Block(data, 1, True).lines():
        fields = [field.strip(b",").strip(b'"').strip().decode() for field in reader._each_field.findall(line)]
        whole = reader._row.fullmatch(line) and len(fields) == 2
        if not whole or not all(field.isascii() and field.isdigit() for field in fields):
            bad.append(number)
        else:
            expected.append((number, int(fields[0]), int(fields[1])))
    found = list(reader.of(Block(data, 1, True)))
    assert reader.bad.count == len(bad)
    if bad:
        with pytest.raises(InputError, match=r"^f:\d+: "):
            reader.bad.enforce()
        return
    frame = pl.concat([frame for frame, _lines in found]) if found else None
    got = [] if frame is None else [(int(n), *row) for n, row in zip(found[0][1], frame.rows(), strict=True)]
    assert got == expected

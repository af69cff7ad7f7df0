"""Reading SGLang's lines in bulk gives what reading them field by field gives, whatever the lines look like."""

from __future__ import annotations

import numpy as np
import pytest
from damaged_lines import damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from sglang_lines import BODIES, PREFILL_BODIES, PREFIXES, decode, prefill

from lbal.analyzers.trace.reading import sglang_log
from lbal.analyzers.trace.reading.line_form import LineForm
from lbal.analyzers.trace.reading.sglang_log import COLUMNS, BatchLines

OTHERS = (
    'INFO:     10.0.0.2:55254 - "POST /v1/chat/completions HTTP/1.1" 200 OK\n',
    "[2026-08-22 10:00:00 DP0 TP0] Capture cuda graph begin. This can take up to several minutes. batch size 1\n",
    "\n",
    "Decode batch\n",
)
PREFIXES_OUTSIDE = (
    "",
    "2026-08-22T09:00:00.123456789Z ",
    "Aug 22 10:00:00 host python3[77]: ",
    "08-22 10:00:00 ",
    "1787392800.5 ",
    "[pod/sglang-DP9/main] ",
)
CLOCKS = ("", ",250", ".123456789", " +0800", "Z", "+02:00")


@st.composite
def lines(draw) -> str:
    """A line of any generation, with any prefix, clock and wrapper; or another line of a log."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.sampled_from(OTHERS))
    values = {
        "second": draw(st.integers(0, 90)),
        "iteration": draw(st.none() | st.integers(0, 99999)),
        "prefix": draw(st.sampled_from(sorted(PREFIXES))),
    }
    rank, count = draw(st.integers(0, 12)), draw(st.integers(0, 64))
    if draw(st.booleans()):
        body = draw(st.sampled_from(sorted(BODIES)))
        line = decode(rank, count, draw(st.integers(0, 10**9)), body=body, **values)
    else:
        body = draw(st.sampled_from(sorted(PREFILL_BODIES)))
        line = prefill(rank, draw(st.integers(0, 9999)), running=count, body=body, **values)
    line = line.replace(" DP", draw(st.sampled_from(CLOCKS)) + " DP", 1)
    return draw(st.sampled_from(PREFIXES_OUTSIDE)) + line


def plainly(text: bytes) -> tuple[np.ndarray, int]:
    """The lines of a text, each read by itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LineForm, "of", lambda *_: None)
        return BatchLines().read(text)


def assert_alike(text: bytes) -> int:
    """Both ways give the same; returns how many lines were found."""
    (one, unread), (other, unread_too) = BatchLines().read(text), plainly(text)
    assert unread == unread_too
    assert np.array_equal(one, other, equal_nan=True), dict(zip(COLUMNS, zip(one.T, other.T, strict=True), strict=True))
    return len(one)


@settings(max_examples=150, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=12))
def test_lines_of_any_form_read_alike(texts: list[str]) -> None:
    assert_alike("".join(texts).encode())


@settings(max_examples=150, deadline=None)
@given(st.lists(lines(), min_size=1, max_size=6), st.integers(0, 1 << 30))
def test_damaged_lines_read_alike(texts: list[str], seed: int) -> None:
    assert_alike(damaged("".join(texts).encode(), np.random.default_rng(seed)))


@pytest.mark.parametrize("body", BODIES)
def test_lines_of_every_generation_are_read_in_bulk(body: str, monkeypatch) -> None:
    monkeypatch.setattr(sglang_log, "LOOKS_LIKE_ONE", None)  # is only of use for lines that are read one by one
    table, unread = BatchLines().read(decode(3, 7, 900, iteration=5, body=body).encode() * 50)
    assert (len(table), unread) == (50, 0)


def test_a_field_whose_name_ends_like_another_is_not_that_one() -> None:
    line = decode(0, 7, 900, body="speculative").replace("accept rate", "block accept len: 3.10, accept rate")
    table, unread = plainly(line.encode())
    assert unread == 0
    assert table[0, COLUMNS.index("tokens_per_request")] == 2.5
    assert assert_alike(line.encode()) == 1

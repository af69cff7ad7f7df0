"""Nothing that a file calls itself steers a terminal, hides, or commands a CI system."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.plain import message, plain, plain_values, seen

ANY = st.text(st.characters(codec=None), max_size=60) | st.text(
    "\x1b[m:#vso](){}\n\r\t ab\u202e\u200b\x9b\ud800", max_size=60
)


@given(ANY)
def test_plain_text_is_one_line_of_what_can_be_seen(text):
    shown = plain(text)
    assert len(shown.splitlines()) <= 1
    assert not [sign for sign in shown if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")]
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown
    assert "##vso[" not in shown
    assert plain(shown) == shown
    shown.encode()


@given(ANY)
def test_lines_stay_lines(text):
    assert seen(text).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=("L", "N")), max_size=40))
def test_ordinary_names_stay_as_they_are(text):
    assert plain(text) == text
    assert plain(f"runs/{text} (b).jsonl, 5% <ü漢>") == f"runs/{text} (b).jsonl, 5% <ü漢>"


def test_examples():
    assert plain("a\x1b[31mb") == "a\\x1b[31mb"
    assert plain("x\n::error::y") == "x ::error::y"
    assert plain("  ::error::y") == "  : :error::y"
    assert plain("##[error]x ##vso[task]y") == "# #[error]x # #vso[task]y"
    assert plain("abc\u202etxt.exe") == "abc\\u202etxt.exe"
    assert plain("\udcff") == "\\udcff"
    assert plain("\U000e0041") == "\\U000e0041"


def test_messages_end():
    assert message("n: " + "1" * 400) == "n: 111111111111… (400 digits)"
    assert len(message("x " * 100_000)) < 2100


def test_every_text_of_a_record_is_made_plain():
    record = {"a\x1b": ["b\x1b", {"c": ("d\n", 1.5, None)}]}
    assert plain_values(record) == {"a\\x1b": ["b\\x1b", {"c": ["d ", 1.5, None]}]}

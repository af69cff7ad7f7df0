"""Bytes in: compressed or not, from a path or standard input, in whole lines, hashed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace import source as source_module
from lbal.analyzers.trace.source import Block, Source


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught, Source(str(path)) as source:
        list(source.blocks())
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "FILE")


@given(data=st.binary(min_size=1).filter(lambda data: data.strip()), size=st.integers(1, 40))
def test_blocks_are_whole_lines_that_add_up_to_the_input(data: bytes, size: int) -> None:
    data = b"x" + data.replace(b"\0", b"").replace(b"\xef", b"").decode(errors="ignore").encode()
    blocks = list(Source("-", io.BytesIO(data)).blocks(size))
    assert b"".join(block.data for block in blocks) == data
    assert all(block.complete and block.data.endswith(b"\n") for block in blocks[:-1])
    assert blocks[-1].complete == data.endswith(b"\n")
    line = 1
    for block in blocks:
        assert block.first_line == line
        line += block.data.count(b"\n")


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_file_larger_than_its_head_is_read_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "HEAD_BYTES", 10)
    data = b"".join(b"line %d\n" % number for number in range(50))
    source = Source("-", io.BytesIO(data))
    assert source.head == data[:10]
    assert list(source.lines()) == [(number + 1, b"line %d" % number) for number in range(50)]
    assert source.sha256 == hashlib.sha256(data).hexdigest()


def test_the_first_line_comes_apart_from_the_rest() -> None:
    number, line, blocks = Source("-", io.BytesIO(b"\n \r\nhead\r\na\n\nb")).first_line()
    assert (number, line) == (3, b"head")
    assert [(block.first_line, block.data) for block in blocks] == [(4, b"a\n\nb")]


def test_lines_that_are_blank_are_counted_but_not_given() -> None:
    block = Block(b"a\n\n  \r\nb\r\n", 5, complete=True)
    assert list(block.lines()) == [(5, b"a"), (8, b"b")]
    assert block.num_lines == 4
    assert Block(b"a\nb", 1, complete=False).num_lines == 2


def test_the_hash_is_of_the_stored_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(b"a\n" * 1000)
    (tmp_path / "x").write_bytes(packed)
    with Source(str(tmp_path / "x")) as source:
        assert sum(block.num_lines for block in source.blocks()) == 1000
    assert source.sha256 == hashlib.sha256(packed).hexdigest()


def test_archives_of_several_parts_are_read_on(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(gzip.compress(b"a\n", mtime=0) + gzip.compress(b"b\n"))
    with Source(str(tmp_path / "x")) as source:
        assert list(source.lines()) == [(1, b"a"), (2, b"b")]


@pytest.mark.parametrize("data", [b"", b"\n \r\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert refusal(tmp_path / "x") == "FILE: the file is empty, expected a trace"


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\0\0", "a,b\n".encode("utf-16"), gzip.compress(b"PAR1\0", mtime=0)])
def test_a_binary_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    expected = "expected a text trace, plain, gzip or zstd, or a Parquet directory"
    assert refusal(tmp_path / "x") == f"FILE: the file is binary, {expected}"


def test_bytes_that_are_no_utf8_are_refused_at_their_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes("é\nü\n".encode() + b"\n\xff\n")
    assert refusal(tmp_path / "x") == "FILE:4: byte 0xff is not UTF-8, expected UTF-8 text"


@pytest.mark.parametrize("cut", [3, 15, 1000, -4])
def test_a_cut_archive_is_refused(tmp_path: Path, cut: int) -> None:
    packed = gzip.compress(os.urandom(100_000).hex().encode())
    (tmp_path / "x").write_bytes(packed[:cut])
    assert refusal(tmp_path / "x") == (
        "FILE: cannot be read: Compressed file ended before the end-of-stream marker was reached,"
        " expected an intact file"
    )


@pytest.mark.parametrize("where", [20, 50_000, -6])
def test_a_damaged_archive_is_refused(tmp_path: Path, where: int) -> None:
    packed = bytearray(gzip.compress(os.urandom(100_000).hex().encode()))
    packed[where] ^= 0xFF
    (tmp_path / "x").write_bytes(packed)
    assert refusal(tmp_path / "x").startswith("FILE: cannot be read: ")


def test_a_missing_path_and_a_directory_are_refused(tmp_path: Path) -> None:
    missing = refusal(tmp_path / "none")
    assert missing == "FILE: cannot be opened: No such file or directory, expected a readable file"
    assert refusal(tmp_path) == "FILE: cannot be opened: Is a directory, expected a readable file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a\n")
    path.chmod(0)
    assert refusal(path) == "FILE: cannot be opened: Permission denied, expected a readable file"


def test_a_line_without_end_in_sight_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MAX_LINE_BYTES", 100)
    monkeypatch.setattr(source_module, "HEAD_BYTES", 10)
    path = tmp_path / "x"
    path.write_bytes(b"a\n" + b"x" * 1000)
    assert refusal(path) == "FILE:2: is longer than 100 bytes, expected a line end"


def test_standard_input_that_comes_in_drops_is_told_by_its_whole_head() -> None:
    """A pipe may hand over the first bytes alone; the format must not be told from a part of the header."""
    reader = (
        "from lbal.analyzers.trace.formats import read_trace; trace = read_trace('-');"
        "print(trace.meta.source, trace.meta.format, trace.num_requests)"
    )
    process = subprocess.Popen([sys.executable, "-c", reader], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for part in (b"in", b"put_length,output_length\n", b"1,2\n"):
        process.stdin.write(part)
        process.stdin.flush()
    process.stdin.close()
    assert process.stdout.read().split() == [b"<stdin>", b"lengths", b"1"]
    process.stdout.close()
    assert process.wait() == 0


def test_a_file_is_closed_after_reading(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a\n")
    with Source(str(tmp_path / "x")) as source:
        assert source.head_line == "a"
    assert source._file is not None
    assert source._file.closed

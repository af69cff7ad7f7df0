"""Inputs without end or measure are bounded, and told in one line."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import polars as pl
import pytest

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace import source as source_module
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import MAX_RANKS, Trace, TraceMeta

HEADER = b'{"lbal_trace": 1}\n'


def refusal(name: str | Path, data: bytes | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_trace(str(name), stdin=None if data is None else io.BytesIO(data))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_step_of_too_many_ranks_is_refused_before_memory_is_taken_for_it() -> None:
    ranks = MAX_RANKS + 1
    line = b'{"step": 0, "kv_tokens": [%s], "num_running": [%s]}\n' % ((b"1," * ranks)[:-1], (b"1," * ranks)[:-1])
    assert (
        refusal("-", HEADER + line)
        == "<stdin>:2: kv_tokens: has 65,537 elements, expected at most 65,536, one per rank"
    )


def test_a_line_longer_than_any_step_is_refused() -> None:
    assert "<stdin>:2: is longer than 33554432 bytes" in refusal("-", HEADER + b'{"step": [' + b"1," * 30_000_000)


@pytest.mark.parametrize("ranks", [MAX_RANKS + 1, 10**9, 2**40])
def test_a_header_with_too_many_ranks_is_refused(ranks: int) -> None:
    message = refusal(
        "-", b'{"lbal_trace": 1, "dp_size": %d}\n{"step": 0, "kv_tokens": [1], "num_running": [1]}\n' % ranks
    )
    assert f"<stdin>:1: dp_size: {ranks:,} is too large, expected at most 65,536 ranks" in message


def test_a_table_with_too_many_ranks_is_refused() -> None:
    frame = pl.DataFrame({"rank": range(MAX_RANKS + 1)}).with_columns(step=0, kv_tokens=1.0, num_running=1)
    with pytest.raises(InputError, match="rank: 65,537 ranks are too many, expected at most 65,536"):
        Trace.of(TraceMeta("t", "native"), None, frame)


def test_devices_are_refused_or_read_within_bounds() -> None:
    assert "binary" in refusal("/dev/zero")
    assert "empty" in refusal("/dev/null")


def test_an_input_without_end_is_refused_while_there_is_memory_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        served = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            line = b'{"request_id": "a", "prompt_tokens": 1, "output_tokens": 1}\n'
            part = HEADER if not self.served else line * (len(buffer) // len(line))
            buffer[: len(part)] = part
            self.served += len(part)
            return len(part)

    left = iter([1 << 40, 1 << 40, 1 << 20])
    monkeypatch.setattr(source_module, "bytes_left", lambda: next(left))
    with pytest.raises(InputError, match="does not fit into memory: 1 MiB are left after its first"):
        read_trace("-", stdin=io.BufferedReader(Endless()))


def test_a_file_that_grows_while_it_is_read_is_read_as_it_was_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.jsonl"
    line = b'{"request_id": %d, "prompt_tokens": 1, "output_tokens": 1}\n'
    content = HEADER + b"".join(line % index for index in range(5000))
    path.write_bytes(content)
    monkeypatch.setattr(source_module, "BLOCK_BYTES", 4096)
    inner = source_module._AsOpened.readinto

    def growing(self, buffer):
        with path.open("ab") as file:
            file.write(line % (5000 + file.tell()))
        return inner(self, buffer)

    monkeypatch.setattr(source_module._AsOpened, "readinto", growing)
    trace = read_trace(str(path))
    assert trace.num_requests == 5000
    assert trace.meta.warnings == (f"the file grew while it was read: only its first {len(content):,} bytes were",)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe.jsonl"
    os.mkfifo(path)
    content = HEADER + b'{"request_id": 1, "prompt_tokens": 1, "output_tokens": 1}\n'
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert read_trace(str(path)).num_requests == 1
    writer.join()

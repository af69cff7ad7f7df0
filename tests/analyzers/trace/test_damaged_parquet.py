"""A damaged Parquet table ends in one line: never in a crash, never in a panic on stderr, never in other numbers."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_parquet

STEPS = pl.DataFrame(
    {
        "step": np.repeat(np.arange(40), 2),
        "rank": np.tile([0, 1], 40),
        "kv_tokens": np.linspace(1.0, 900.0, 80),
        "num_running": np.arange(80) % 7,
    }
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_parquet(Trace.of(TraceMeta("x", "replay"), None, STEPS), tmp_path / "t")
    return tmp_path / "t"


def without_digests(folder: Path) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    del meta["digests"]
    (folder / "meta.json").write_text(json.dumps(meta))


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """The bytes with a few of them changed, a stretch lost or the end cut off."""
    kind = random.integers(3)
    if kind == 0:
        changed = np.frombuffer(data, np.uint8).copy()
        places = random.integers(len(data), size=random.integers(1, 4))
        changed[places] ^= random.integers(1, 256, size=len(places)).astype(np.uint8)
        return changed.tobytes()
    start = int(random.integers(len(data)))
    return data[:start] if kind == 1 else data[:start] + data[start + int(random.integers(1, 30)) :]


def test_an_intact_directory_carries_a_digest_of_each_table_and_is_read(folder: Path) -> None:
    digests = json.loads((folder / "meta.json").read_text())["digests"]
    assert digests.keys() == {"steps.parquet"}
    trace = read_trace(str(folder))
    assert trace.steps is not None
    assert trace.steps.height == 80


def test_no_damage_passes_the_digest(folder: Path) -> None:
    path = folder / "steps.parquet"
    data = path.read_bytes()
    random = np.random.default_rng(7)
    for _ in range(60):
        path.write_bytes(damaged(data, random))
        if path.read_bytes() == data:
            continue
        with pytest.raises(InputError, match=r"steps\.parquet: (is damaged or was changed|is not a Parquet table)"):
            read_trace(str(folder))


def test_an_old_directory_without_digests_is_read_all_the_same(folder: Path) -> None:
    without_digests(folder)
    trace = read_trace(str(folder))
    assert trace.steps is not None
    assert trace.steps.height == 80


def test_damage_without_a_digest_is_one_line_and_nothing_on_stderr(folder: Path, capfd: pytest.CaptureFixture) -> None:
    without_digests(folder)
    path = folder / "steps.parquet"
    data = path.read_bytes()
    random = np.random.default_rng(11)
    messages = []
    for _ in range(24):
        path.write_bytes(damaged(data, random))
        try:
            read_trace(str(folder))
        except InputError as error:
            messages.append(str(error))
    assert len(messages) > 12
    assert not [message for message in messages if "\n" in message]
    assert capfd.readouterr().err == ""


def test_a_reader_that_crashes_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lbal.analyzers.trace.reading import parquet_table

    without_digests(folder)
    monkeypatch.setattr(parquet_table, "TRIAL", "import os; os.abort()")
    with pytest.raises(InputError, match="damaged: reading it makes the reader crash"):
        read_trace(str(folder))


@pytest.mark.parametrize("name", ["steps.parquet", "meta.json"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "directory"])
def test_what_is_no_file_in_the_directory_is_refused_at_once(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    else:
        here = os.getcwd()
        os.chdir(folder)  # names of sockets are short
        try:
            socket.socket(socket.AF_UNIX).bind(name)
        finally:
            os.chdir(here)
    with pytest.raises(InputError, match="is no regular file"):
        read_trace(str(folder), format_name="parquet")

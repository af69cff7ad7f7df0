"""Files are written whole or not at all, keep their modes, and replace nothing that nobody asked to replace."""

from __future__ import annotations

import os
import stat

import pytest

from lbal.analyzers.errors import OutputError
from lbal.analyzers.output import files
from lbal.analyzers.output.files import write_file, write_text


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def parquet_draft(path):
    path.mkdir()
    (path / "meta.json").write_text("{}")


def test_new_files_have_what_the_umask_leaves(tmp_path, umask):
    write_text(str(tmp_path / "a.txt"), "a", force=False)
    write_file(str(tmp_path / "t.parquet"), parquet_draft, force=False)
    assert mode_of(tmp_path / "a.txt") == 0o666 & ~umask
    assert mode_of(tmp_path / "t.parquet") == 0o777 & ~umask
    assert mode_of(tmp_path / "t.parquet" / "meta.json") == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_a_replaced_file_hands_its_mode_on(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    write_text(str(path), "new", force=True)
    assert (path.read_text(), mode_of(path)) == ("new", mode)


def test_a_replaced_directory_and_its_files_hand_their_modes_on(tmp_path):
    path = tmp_path / "t.parquet"
    parquet_draft(path)
    path.chmod(0o700)
    (path / "meta.json").chmod(0o600)
    write_file(str(path), parquet_draft, force=True)
    assert (mode_of(path), mode_of(path / "meta.json")) == (0o700, 0o600)


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_came_there_in_the_meantime_stays(tmp_path, monkeypatch, kind, links):
    """Another process takes the name after it was looked at and before the draft is put in place."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    path = tmp_path / "out.parquet"

    def write(draft):
        parquet_draft(draft) if kind == "directory" else draft.write_text("mine")
        path.write_text("theirs")

    with pytest.raises(OutputError, match="exists already"):
        write_file(str(path), write, force=False)
    assert path.read_text() == "theirs"
    assert [item.name for item in tmp_path.iterdir()] == ["out.parquet"], "no draft is left"


def test_a_file_system_without_hard_links_is_written_too(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    write_text(str(tmp_path / "a.txt"), "a", force=False)
    assert (tmp_path / "a.txt").read_text() == "a"


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fails(draft):
        draft.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        write_file(str(path), fails, force=True)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_directory_that_cannot_be_replaced_comes_back(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    parquet_draft(path)
    (path / "meta.json").write_text('{"old": 1}')
    rename = os.rename

    def fails_for_the_draft(source, target):
        if str(target) == str(path) and "replaced" not in str(source):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(files.os, "rename", fails_for_the_draft)
    with pytest.raises(OutputError, match="Input/output error"):
        write_file(str(path), parquet_draft, force=True)
    assert (path / "meta.json").read_text() == '{"old": 1}'


def test_halves_of_surrogate_pairs_are_written_as_escapes(tmp_path):
    write_text(str(tmp_path / "a.json"), '"\ud83d"', force=False)
    assert (tmp_path / "a.json").read_text() == '"\\ud83d"'

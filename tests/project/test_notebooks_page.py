"""The page for notebooks is true: its blocks are run as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_blocks_of_the_page_give_what_is_written_there(tmp_path, monkeypatch):
    (tmp_path / "sample_traces").symlink_to(ROOT / "sample_traces")
    monkeypatch.chdir(tmp_path)
    done = doctest.testfile(str(ROOT / "docs" / "notebooks.md"), module_relative=False, globs={})
    assert (done.failed, done.attempted > 20) == (0, True)
    assert "barrier idle" in Path("replayed.html").read_text(encoding="utf-8")

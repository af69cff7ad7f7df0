"""Folders for drafts of outputs: gone at the end, however it comes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_open: set[Path] = set()


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new hidden folder in `parent`, removed with all that is in it. Raises `OSError` where none can be made."""
    folder = Path(tempfile.mkdtemp(prefix=".lbal-", dir=parent))
    _open.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _open.discard(folder)


def remove_all() -> None:
    """For a process that ends without unwinding."""
    for folder in list(_open):
        shutil.rmtree(folder, ignore_errors=True)

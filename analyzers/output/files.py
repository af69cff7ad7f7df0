"""Writing files: whole or not at all, in one move, over nothing that nobody asked to overwrite."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from polars.exceptions import PolarsError

from lbal.analyzers.errors import OutputError
from lbal.analyzers.output.scratch import scratch_folder
from lbal.analyzers.output.targets import exists_already, is_parquet_trace


def write_file(name: str, write: Callable[[Path], None], *, force: bool) -> None:
    """Have `write` fill a draft, a file or directory, beside the output; then put it in place in one move.

    Without `force`, a file that came there in the meantime stays, and `OutputError` is raised. What is replaced
    hands its mode on; a new file has what the umask leaves.
    """
    path = Path(os.path.realpath(name))
    try:
        with scratch_folder(path.parent) as scratch:
            draft = scratch / path.name
            write(draft)
            if not force:
                _put_new(draft, path)
            elif path.is_dir() or draft.is_dir():
                _swap(draft, path, scratch / "replaced")
            else:
                _keep_mode(path, draft)
                os.replace(draft, path)
    except FileExistsError as error:
        raise exists_already(name) from error
    except (OSError, PolarsError) as error:
        raise _unwritable(name, error) from error


def write_text(name: str, text: str, *, force: bool) -> None:
    """Text as UTF-8 with plain line ends; halves of surrogate pairs, which UTF-8 lacks, as escapes."""
    write_file(name, lambda path: _write_bytes(path, text.encode("utf-8", errors="backslashreplace")), force=force)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _put_new(draft: Path, path: Path) -> None:
    """Where nothing is. `FileExistsError` where something is: the file system decides, so that no one can slip in."""
    if draft.is_dir():
        path.mkdir()  # only the one who made it goes on; a move over an empty directory is one move
        try:
            draft.replace(path)
        except OSError:
            with suppress(OSError):
                path.rmdir()
            raise
        return
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # file systems without hard links
        path.touch(mode=draft.stat().st_mode & 0o777, exist_ok=False)
        os.replace(draft, path)


def _swap(draft: Path, path: Path, aside: Path) -> None:
    """Where one of the two is a directory: the old one moves aside, and back if the new one cannot take its place."""
    if path.is_dir() and not is_parquet_trace(path):
        raise OutputError(f"{path}: is a directory, expected a file name or a Parquet trace")
    for old, new in ((path, draft), *((path / item.name, item) for item in draft.glob("*"))):
        if old.is_dir() == new.is_dir():
            _keep_mode(old, new)
    with _undisturbed():
        if path.exists():
            os.rename(path, aside)
        try:
            os.rename(draft, path)
        except OSError:
            if aside.exists():
                os.rename(aside, path)
            raise


def _keep_mode(old: Path, new: Path) -> None:
    if old.exists():
        shutil.copymode(old, new)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Interrupts wait until the move is done."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unwritable(name: str, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return OutputError(f"{name}: cannot be written: {reason}, expected a place with room that can be written")

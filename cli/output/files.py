"""Writing files: refused before the work where it cannot succeed, and never half done."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from polars.exceptions import PolarsError

from lbal.analyzers.errors import OutputError, UsageError


def check_target(name: str, *, force: bool, input_name: str | None = None) -> Path:
    """The path of an output that can be written, links followed.

    Raises `OutputError` where it cannot be, exists and `force` is off, is the input, or is a directory that holds
    anything but a Parquet trace.
    """
    path = Path(os.path.realpath(name))
    if input_name not in (None, "-") and path.exists() and path == Path(os.path.realpath(str(input_name))):
        raise OutputError(f"{name}: is the input, expected another file")
    if path.is_dir() and not _is_parquet_trace(path):
        raise OutputError(f"{name}: is a directory, expected a file name or a Parquet trace")
    if path.exists() and not force:
        raise OutputError(f"{name}: exists already, expected a new name (or --force to overwrite it)")
    parent = path.parent
    if not parent.is_dir():
        raise OutputError(f"{name}: there is no directory {str(parent)!r}, expected one that exists")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{name}: the directory {str(parent)!r} cannot be written, expected one that can")
    return path


def _is_parquet_trace(path: Path) -> bool:
    files = {item.name for item in path.iterdir()}
    return "meta.json" in files and files <= {"meta.json", "requests.parquet", "steps.parquet"}


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary file or directory beside `path`, then put it in place in one move."""
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".lbal-", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        draft = scratch / path.name
        write(draft)
        if path.is_dir():
            os.replace(path, scratch / "replaced")
        if draft.is_file():
            _with_usual_mode(draft)
        os.replace(draft, path)
    except (OSError, PolarsError) as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unwritable(path: Path, error: Exception) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return OutputError(f"{path}: cannot be written: {reason}, expected a place with room that can be written")


def _with_usual_mode(path: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def suffix_of(name: str, known: dict[str, str], flag: str = "-o ") -> str:
    """The longest known suffix that a file name ends in; `UsageError` that lists the known otherwise."""
    for suffix in sorted(known, key=len, reverse=True):
        if name.lower().rstrip("/").endswith(suffix):
            return suffix
    listing = ", ".join(f"{suffix} ({what})" for suffix, what in sorted(known.items()))
    raise UsageError(f"{flag}{name}: its suffix says no format, expected one of {listing}")

"""Which files outputs may be: other ones than each other and than all that is read. Told before any work is done."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from lbal.analyzers.errors import OutputError, Parameter, UsageError

STREAM = "-"
PARQUET_FILES = ("meta.json", "requests.parquet", "steps.parquet")
UNSAFE = re.compile(r"[^A-Za-z0-9._+=,-]")
"""What a name that is put into a file name loses: separators, wild cards, what file systems refuse."""
LONGEST_PART = 120


def check_targets(names: Sequence[str], *, force: bool, reads: Sequence[str | None]) -> list[Path]:
    """The paths of some outputs, links followed.

    Raises `OutputError` for one that cannot be written, exists while `force` is off, or is something that is read
    (`reads`: traces, results, settings; None and streams are passed over), and `UsageError` for two that are one.
    Files are told apart by path and by inode: a hard link is the same file.
    """
    read = {name: _identities(name) for name in reads if name is not None}
    found: dict[str, set[object]] = {}
    paths = []
    for name in names:
        path = Path(os.path.realpath(name))
        own = _identities(name)
        for other, identities in read.items():
            if own & identities or _within(path, other) or _within(Path(os.path.realpath(other)), name):
                kind = "the input" if other == reads[0] else f"read as {other}"
                raise OutputError(f"{name}: is {kind}, expected another file")
        for other, identities in found.items():
            if own & identities or _within(path, other) or _within(Path(os.path.realpath(other)), name):
                problem = "stands twice" if name == other else f"is the same file as {other}"
                raise UsageError(f"-o {name}: {problem}, expected different files")
        found[name] = own
        paths.append(_writable(name, path, force=force))
    return paths


def _identities(name: str) -> set[object]:
    """What makes a name the same file as another: its path without links, and its inodes."""
    if name == STREAM:
        return _inodes(sys.stdin)
    path = os.path.realpath(name)
    identities: set[object] = {path}
    for part in (path, *(os.path.join(path, file) for file in PARQUET_FILES)):
        try:
            status = os.stat(part)
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            identities.add((status.st_dev, status.st_ino))
    return identities


def _inodes(stream: object) -> set[object]:
    try:
        status = os.fstat(stream.fileno())  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return set()
    return {(status.st_dev, status.st_ino)} if stat.S_ISREG(status.st_mode) else set()


def _within(path: Path, folder: str) -> bool:
    """Whether a path lies in what is, or would be, a directory of that name."""
    return folder != STREAM and Path(os.path.realpath(folder)) in path.parents


def _writable(name: str, path: Path, *, force: bool) -> Path:
    try:
        mode = path.stat().st_mode if path.exists() else None
        holds_trace = mode is not None and stat.S_ISDIR(mode) and is_parquet_trace(path)
    except (OSError, ValueError) as error:
        raise OutputError(f"{name}: cannot be looked at: {error}, expected a file name") from error
    if mode is not None and stat.S_ISDIR(mode) and not holds_trace:
        raise OutputError(f"{name}: is a directory, expected a file name or a Parquet trace")
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OutputError(f"{name}: is no regular file (a device, pipe or socket), expected a file name")
    if mode is not None and not force:
        raise exists_already(name)
    parent = path.parent
    if not parent.is_dir():
        raise OutputError(f"{name}: there is no directory {str(parent)!r}, expected one that exists")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{name}: the directory {str(parent)!r} cannot be written, expected one that can")
    return path


def exists_already(name: str) -> OutputError:
    """The error for a file that nobody asked to overwrite."""
    return OutputError(f"{name}: exists already, expected a new name (or ", Parameter("force"), " to overwrite it)")


def is_parquet_trace(path: Path) -> bool:
    """Whether a directory holds the files of a trace and nothing else, so that lbal may replace it."""
    files = {item.name for item in path.iterdir()}
    return "meta.json" in files and files <= set(PARQUET_FILES)


def suffix_of(name: str, known: dict[str, str], flag: str = "-o ") -> str:
    """The longest known suffix that a file name ends in, in small letters; `UsageError` that lists the known else."""
    for suffix in sorted(known, key=len, reverse=True):
        if name.lower().rstrip("/").endswith(suffix):
            return suffix
    listing = ", ".join(f"{suffix} ({what})" for suffix, what in sorted(known.items()))
    raise UsageError(f"{flag}{name}: its suffix says no format, expected one of {listing}")


def names_per_run(pattern: str, runs: Sequence[tuple[str, str]]) -> list[str]:
    """The file of each run, given as (name of its policy, label): `{policy}` is the name where that is distinct.

    Runs that share a name are called by their labels, which tell the parameters. What a file name should not hold
    becomes an underscore.
    """
    names = [name for name, _label in runs]
    parts = [name if names.count(name) == 1 else label for name, label in runs]
    return [pattern.replace("{policy}", UNSAFE.sub("_", part)[:LONGEST_PART]) for part in parts]

"""One Parquet table, read where a damaged file cannot take the process along.

A damaged file can make the library that reads it panic or abort. So a table that is not known to be intact, by the
digest that lbal writes beside each, is read once by a process of its own, whose end is an error like any other.
"""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import polars as pl

from lbal.analyzers.errors import InputError

MAGIC = b"PAR1"
LEAST_BYTES = 12
"""The magic twice, and the length of the footer."""
MOST_FOOTER_BYTES = 1 << 26
TRIAL_S = 3600
INTACT = "an intact Parquet file"
TRIAL = """
import sys
import polars
try:
    polars.read_parquet(sys.argv[1], memory_map=False)
except BaseException as error:
    print((str(error).splitlines() or [type(error).__name__])[0][:300])
    sys.exit(1)
"""


def regular_size(path: Path) -> int:
    """The bytes of a file. Raises `InputError` where it is no regular file: opening a pipe would wait for ever."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", expected="a readable file") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(str(path), "is no regular file (a pipe, device, socket or directory)", expected="a file")
    return status.st_size


def read_table(path: Path, *, is_intact: bool) -> pl.DataFrame:
    """The table in a file; `is_intact` where its bytes are known to be those that lbal wrote.

    Raises `InputError` where the file is damaged or is no Parquet table.
    """
    _check_frame(path)
    if not is_intact:
        _try_elsewhere(path)
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise _no_table(path, (str(error).splitlines() or ["damaged"])[0]) from error


def _check_frame(path: Path) -> None:
    """Refuse what does not begin and end as a Parquet file."""
    size = regular_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
            file.seek(max(size - 8, 0))
            tail = file.read(8)
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}", expected="a readable file") from error
    if size < LEAST_BYTES or head != MAGIC or tail[4:] != MAGIC:
        raise _no_table(path, "it does not begin and end as one, cut off?")
    if not 0 < int.from_bytes(tail[:4], "little") <= min(size - LEAST_BYTES, MOST_FOOTER_BYTES):
        raise _no_table(path, "the length of its footer cannot be")


def _try_elsewhere(path: Path) -> None:
    """Read the table in a process of its own, for nothing but to know that this process can read it."""
    command = [sys.executable, "-P", "-c", TRIAL, str(path)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TRIAL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _no_table(path, f"reading it does not end within {TRIAL_S} s") from error
    except OSError as error:
        raise InputError(str(path), f"cannot be tried: {error.strerror}", expected=INTACT) from error
    if done.returncode:
        crashed = "damaged: reading it makes the reader crash"
        raise _no_table(path, crashed if done.returncode < 0 else done.stdout.strip() or crashed)


def _no_table(path: Path, reason: str) -> InputError:
    return InputError(str(path), f"is not a Parquet table: {reason}", expected=INTACT)

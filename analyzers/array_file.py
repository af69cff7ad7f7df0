"""Arrays that are too many for memory: the first ones are kept in it, the others in a temporary file.

The file has no name, so it is gone with the process, whatever ends it. `TMPDIR` says in which folder its room is taken.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.errors import OutputError


@dataclass(frozen=True)
class Stored:
    """Where an array lies in the file."""

    offset: int
    shape: tuple[int, ...]
    stored_as: np.dtype[Any]
    dtype: np.dtype[Any]
    """What it is read back as."""


Handle = NDArray[Any] | Stored


class ArrayFile:
    """Takes arrays and gives them back, bit for bit; floats that are the same in half of the bytes take half."""

    def __init__(self, keep_bytes: int) -> None:
        self._left = keep_bytes
        """Bytes that may still be kept in memory."""
        self._file: BinaryIO | None = None
        self._end = 0

    def put(self, array: NDArray[Any]) -> Handle:
        """Keep an array. Raises `OutputError` where there is no room for it."""
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            return array.copy()
        self._left = 0
        narrow = np.ascontiguousarray(_narrowed(array))
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="lbal-")  # noqa: SIM115 - lives as long as this object
            self._file.seek(self._end)
            self._file.write(narrow.reshape(-1).view(np.uint8).data)
        except OSError as error:
            _refuse(error)
        stored = Stored(self._end, array.shape, narrow.dtype, array.dtype)
        self._end += narrow.nbytes
        return stored

    def get(self, handle: Handle) -> NDArray[Any]:
        """An array that was put here; not to be written to."""
        if not isinstance(handle, Stored):
            return handle
        found = np.empty(handle.shape, handle.stored_as)
        room = found.reshape(-1).view(np.uint8).data
        assert self._file is not None
        try:
            self._file.seek(handle.offset)
            if self._file.readinto(room) != len(room):  # type: ignore[attr-defined]
                raise OSError("it is shorter than what was written")
        except OSError as error:
            _refuse(error)
        return found.astype(handle.dtype, copy=False)


def _narrowed(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.float64:
        return array
    narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array, equal_nan=True) else array


def _refuse(error: OSError) -> NoReturn:
    reason = error.strerror or str(error)
    problem = f"a temporary file in {tempfile.gettempdir()} cannot be used: {reason}"
    raise OutputError(f"{problem}, expected room for the steps there, or another folder in TMPDIR") from error

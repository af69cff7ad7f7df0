"""Input bytes: a path, a compressed path or standard input, read once, in blocks of whole lines."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from lbal.analyzers.errors import InputError
from lbal.analyzers.memory import LEAST_LEFT_BYTES, bytes_left

BLOCK_BYTES = 1 << 24
HEAD_BYTES = 1 << 16
WIDE_HEAD_BYTES = 1 << 22
"""How far into a log its first line with data is looked for: servers print much before it."""
MAX_LINE_BYTES = 1 << 25
"""More than any line of a trace: some arrays of as many ranks as there may be."""
READ_BYTES = 1 << 20
"""Stored bytes that are hashed at a time: they stay in the processor's caches."""
PACKED_BYTES = 1 << 17
"""Compressed bytes that are unpacked at a time."""
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Some whole lines of the input; `first_line` is the number of the first one, from 1."""

    data: bytes
    first_line: int
    complete: bool
    """Whether the last line ends in a line end (only the last block of a file may not)."""

    @property
    def num_lines(self) -> int:
        """Lines in the block, blank ones included."""
        return self.data.count(b"\n") + (bool(self.data) and not self.data.endswith(b"\n"))

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number, line without its end) for every line that is not blank."""
        for number, line in enumerate(self.data.split(b"\n"), self.first_line):
            if line and not line.isspace():
                yield number, line.removesuffix(b"\r")


class Source:
    """One input, named as the user gave it. `-` is standard input. Bytes are hashed as they are read.

    Every method raises `InputError` where the bytes cannot be had: no such file, no permission, a damaged
    archive, no text. Use it as a context manager to close the file.
    """

    def __init__(self, name: str, stdin: BinaryIO | None = None) -> None:
        self.name = "<stdin>" if name == "-" else name
        self.path = None if name == "-" else Path(name)
        self._stdin = stdin
        self._hash = hashlib.sha256()
        self._file: io.FileIO | None = None
        self._after_head = b""
        self._bytes_read = 0
        self.notes: list[str] = []
        """What whoever reads the figures must know of how the bytes were read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def is_directory(self) -> bool:
        """Whether the input is a directory (the Parquet form)."""
        return self.path is not None and os.path.isdir(self.path)

    @property
    def sha256(self) -> str:
        """Of the stored bytes read so far: complete once `blocks` is exhausted."""
        return self._hash.hexdigest()

    @cached_property
    def head(self) -> bytes:
        """The first bytes after decompression, for telling the format; reading goes on from the start."""
        if self.is_directory:
            return b""
        head = self._read(HEAD_BYTES).removeprefix(BYTE_ORDER_MARK)
        if not head.strip():
            raise InputError(self.name, "the file is empty", expected="a trace")
        if b"\0" in head:
            raise InputError(
                self.name, "the file is binary", expected="a text trace, plain, gzip or zstd, or a Parquet directory"
            )
        return head

    @cached_property
    def wide_head(self) -> bytes:
        """More of the first bytes than `head`, where logs are searched for data. Reading goes on from the start."""
        if not self.is_directory and len(self.head) >= HEAD_BYTES - len(BYTE_ORDER_MARK):
            self._after_head = self._read(WIDE_HEAD_BYTES - len(self.head))
        return self.head + self._after_head

    @property
    def head_line(self) -> str:
        """The first line that is not blank, decoded leniently; cut where it is longer than the head."""
        lines = self.head.lstrip().split(b"\n", 1)
        return lines[0].decode("utf-8", errors="replace").rstrip("\r")

    def blocks(self, size: int = BLOCK_BYTES, *, text: bool = True) -> Iterator[Block]:
        """The input in blocks of whole lines of about `size` bytes. Can be read once.

        `text` refuses bytes that are not UTF-8. Readers of logs switch it off: a log may hold a damaged line.
        """
        rest, line = self.head + self._after_head, 1
        while read := self._read(size):
            data = rest + read
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                block = Block(data[:cut], line, complete=True)
                yield self._checked_text(block) if text else block
                line += data.count(b"\n", 0, cut)
            if len(rest) > MAX_LINE_BYTES:
                raise InputError(self.name, f"is longer than {MAX_LINE_BYTES} bytes", line=line, expected="a line end")
        if rest:
            block = Block(rest, line, complete=rest.endswith(b"\n"))
            yield self._checked_text(block) if text else block

    def first_line(self, size: int = BLOCK_BYTES) -> tuple[int, bytes, Iterator[Block]]:
        """The first line that is not blank (its number, its bytes) and all that follows it, in blocks."""
        blocks = self.blocks(size)
        for block in blocks:
            text = block.data.lstrip()
            if text:
                line, _end, after = text.partition(b"\n")
                number = block.first_line + block.data.count(b"\n", 0, len(block.data) - len(text))
                rest = [Block(after, number + 1, block.complete)] if after else []
                return number, line.rstrip(), chain(rest, blocks)
        raise InputError(self.name, "the file is empty", expected="a trace")

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number, line without its end) for every line that is not blank."""
        for block in self.blocks():
            yield from block.lines()

    def _read(self, size: int) -> bytes:
        """The next bytes after decompression: `size` of them, or fewer at the end."""
        try:
            data = self._stream.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(self.name, f"cannot be read: {error}", expected="an intact file") from error
        self._bytes_read += len(data)
        left = bytes_left()
        if left is not None and left < LEAST_LEFT_BYTES:
            problem = f"does not fit into memory: {left >> 20} MiB are left after its first {self._bytes_read:,} bytes"
            raise InputError(self.name, problem, expected="an input that ends, or more memory")
        return data

    @cached_property
    def _stream(self) -> BinaryIO:
        stored = io.BufferedReader(_Hashing(self._open(), self._hash), READ_BYTES)
        magic = stored.peek(len(ZSTD_MAGIC))
        if magic.startswith(GZIP_MAGIC):
            return gzip.GzipFile(fileobj=stored)  # type: ignore[return-value]
        return io.BufferedReader(_Unpacking(stored), BLOCK_BYTES) if magic.startswith(ZSTD_MAGIC) else stored

    def _open(self) -> BinaryIO | io.RawIOBase:
        if self.path is None:
            if self._stdin is None and sys.stdin is None:
                raise InputError(self.name, "is closed", expected="a trace on standard input")
            return self._stdin if self._stdin is not None else sys.stdin.buffer
        try:
            self._file = io.FileIO(self.path)
            return _AsOpened(self._file, self.notes)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(self.name, f"cannot be opened: {reason}", expected="a readable file") from error

    def _checked_text(self, block: Block) -> Block:
        """The same block, once it is known to be UTF-8."""
        if not block.data.isascii():
            try:
                block.data.decode()
            except UnicodeDecodeError as error:
                line = block.first_line + block.data.count(b"\n", 0, error.start)
                problem = f"byte 0x{block.data[error.start]:02x} is not UTF-8"
                raise InputError(self.name, problem, line=line, expected="UTF-8 text") from error
        return block


class _AsOpened(io.RawIOBase):
    """A file up to the size that it had when it was opened: one that grows as fast as it is read would never end."""

    def __init__(self, file: io.FileIO, notes: list[str]) -> None:
        self._file = file
        self._notes = notes
        status = os.fstat(file.fileno())
        self._left = status.st_size if stat.S_ISREG(status.st_mode) else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._left is None:
            return self._file.readinto(buffer) or 0
        if not self._left:
            size = self._file.tell()
            if os.fstat(self._file.fileno()).st_size > size and not self._notes:
                self._notes.append(f"the file grew while it was read: only its first {size:,} bytes were")
            return 0
        count = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count


class _Hashing(io.RawIOBase):
    """A raw stream that hashes what passes through it."""

    def __init__(self, raw: BinaryIO | io.RawIOBase, digest: hashlib._Hash) -> None:
        self._raw = raw
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data: bytes | None = self._raw.read(len(buffer))
        count = len(data or b"")
        if data:
            buffer[:count] = data
            self._digest.update(data)
        return count


class _Unpacking(io.RawIOBase):
    """A raw stream of what a zstd archive holds, of one frame or several."""

    def __init__(self, stored: BinaryIO | io.BufferedReader) -> None:
        from zstandard import ZstdDecompressor

        self._stored = stored
        self._packer = ZstdDecompressor()
        self._frame = self._packer.decompressobj()
        self._left = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            packed = self._stored.read(PACKED_BYTES)
            if not packed:
                if self._begun:
                    raise EOFError("Compressed file ended before the end of a frame")
                return 0
            self._left = self._unpack(packed)
        data, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)

    def _unpack(self, packed: bytes) -> bytes:
        from zstandard import ZstdError

        unpacked = b""
        try:
            while packed:
                self._begun = True
                unpacked += self._frame.decompress(packed)
                packed = b""
                if self._frame.eof:
                    packed, self._frame = self._frame.unused_data, self._packer.decompressobj()
                    self._begun = False
        except ZstdError as error:
            raise OSError(str(error)) from error
        return unpacked

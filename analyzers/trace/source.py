"""Input bytes: a path, a compressed path or standard input, read once, in blocks of whole lines."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lbal.analyzers.errors import InputError

BLOCK_BYTES = 1 << 24
HEAD_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 28
GZIP_MAGIC = b"\x1f\x8b"
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

    def __enter__(self) -> Source:
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
                self.name, "the file is binary", expected="a text trace, plain or gzip, or a Parquet directory"
            )
        return head

    @property
    def head_line(self) -> str:
        """The first line that is not blank, decoded leniently; cut where it is longer than the head."""
        lines = self.head.lstrip().split(b"\n", 1)
        return lines[0].decode("utf-8", errors="replace").rstrip("\r")

    def blocks(self, size: int = BLOCK_BYTES) -> Iterator[Block]:
        """The input in blocks of whole lines of about `size` bytes. Can be read once."""
        rest, line = self.head, 1
        while read := self._read(size):
            data = rest + read
            cut = data.rfind(b"\n") + 1
            rest = data[cut:]
            if cut:
                yield self._text(Block(data[:cut], line, complete=True))
                line += data.count(b"\n", 0, cut)
            if len(rest) > MAX_LINE_BYTES:
                raise InputError(self.name, f"is longer than {MAX_LINE_BYTES} bytes", line=line, expected="a line end")
        if rest:
            yield self._text(Block(rest, line, complete=rest.endswith(b"\n")))

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
            return self._stream.read(size)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(self.name, f"cannot be read: {error}", expected="an intact file") from error

    @cached_property
    def _stream(self) -> BinaryIO:
        stored = io.BufferedReader(_Hashing(self._open(), self._hash), BLOCK_BYTES)
        packed = stored.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        return gzip.GzipFile(fileobj=stored) if packed else stored  # type: ignore[return-value]

    def _open(self) -> BinaryIO | io.FileIO:
        if self.path is None:
            if self._stdin is None and sys.stdin is None:
                raise InputError(self.name, "is closed", expected="a trace on standard input")
            return self._stdin if self._stdin is not None else sys.stdin.buffer
        try:
            self._file = io.FileIO(self.path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(self.name, f"cannot be opened: {reason}", expected="a readable file") from error
        return self._file

    def _text(self, block: Block) -> Block:
        """The same block, once it is known to be UTF-8."""
        if not block.data.isascii():
            try:
                block.data.decode()
            except UnicodeDecodeError as error:
                line = block.first_line + block.data.count(b"\n", 0, error.start)
                problem = f"byte 0x{block.data[error.start]:02x} is not UTF-8"
                raise InputError(self.name, problem, line=line, expected="UTF-8 text") from error
        return block


class _Hashing(io.RawIOBase):
    """A raw stream that hashes what passes through it."""

    def __init__(self, raw: BinaryIO | io.FileIO, digest: hashlib._Hash) -> None:
        self._raw = raw
        self._digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._raw.read(len(buffer))
        count = len(data or b"")
        if data:
            buffer[:count] = data
            self._digest.update(data)
        return count

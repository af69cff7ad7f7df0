"""Several files of one request log as one input: hourly pieces, pieces of a rotated log, logs of several servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.source import BLOCK_BYTES, Block, Source


class SourceChain(Source):
    """Files one after the other. Lines are counted through; `located` gives a line back to its file."""

    def __init__(self, names: Sequence[str], label: str) -> None:
        super().__init__(names[0])
        self.name = label
        self._names = names
        self._begins: list[tuple[int, str]] = []
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of the digests of all files, in their order: complete once `blocks` is exhausted."""
        return self._digest.hexdigest()

    def blocks(self, size: int = BLOCK_BYTES, *, text: bool = True) -> Iterator[Block]:
        """The blocks of all files. A last line without a line end stays a line of its own."""
        line = 1
        for name in self._names:
            self._begins.append((line, name))
            with Source(name) as source:
                for block in source.blocks(size, text=text):
                    data = block.data if block.complete else block.data + b"\n"
                    yield Block(data, line, complete=True)
                    line += block.num_lines
                self._digest.update(source.sha256.encode())
                self.notes += source.notes

    def located(self, error: InputError) -> InputError:
        """The same error with the file that it is in, and the line there."""
        if error.file != self.name or error.line is None:
            return error
        first, name = max(begin for begin in self._begins if begin[0] <= error.line)
        return InputError(name, error.problem, line=error.line - first + 1, field=error.field, expected=error.expected)

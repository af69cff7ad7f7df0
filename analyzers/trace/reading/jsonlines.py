"""JSON Lines: decoding blocks of lines into typed records, and finding the line that cannot be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Generic, TypeVar

import msgspec
import numpy as np

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.bad_lines import BadLines
from lbal.analyzers.trace.reading.fields import Rules
from lbal.analyzers.trace.source import Block, Source
from lbal.analyzers.trace.trace import MAX_TOKENS, IntArray

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | str
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]

T = TypeVar("T")
_KEY = re.compile(r'"(\w+)"\s*:')


def head_keys(source: Source) -> set[str]:
    """The keys in the first line, where it begins a JSON object; it may be cut."""
    line = source.head_line
    return set(_KEY.findall(line)) if line.startswith("{") else set()


def document_keys(source: Source) -> set[str]:
    """The keys in the head of a source that begins a JSON object, on however many lines."""
    head = source.head.lstrip()
    return set(_KEY.findall(head.decode("utf-8", errors="replace"))) if head.startswith(b"{") else set()


def json_object(data: bytes, file: str, line: int | None, cut: bool = False) -> dict[str, Any]:
    """A JSON object. `cut` says that the input ends without a line end. Takes NaN, for rules to refuse it.

    Raises `InputError` where it is not one.
    """
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise InputError(file, "is nested too deeply", line=line, expected="a JSON object") from error
    except ValueError as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        problem = f"is not JSON ({reason}){', truncated?' if cut else ''}"
        raise InputError(file, problem, line=line, expected="a JSON object") from error
    if not isinstance(value, dict):
        raise InputError(file, "is not a JSON object", line=line, expected="a JSON object")
    return value


class LineDecoder(Generic[T]):
    """Decodes lines into records of some types; the first type that fits the line is taken.

    The types must refuse whatever `rules_for` refuses: they decide, the rules word the message.
    """

    def __init__(self, file: str, types: Iterable[type[T]], rules_for: Callable[[dict[str, Any]], Rules]) -> None:
        self.file = file
        self.rules_for = rules_for
        self.bad = BadLines()
        self._decoders = [msgspec.json.Decoder(kind) for kind in types]

    def records(self, blocks: Iterable[Block]) -> Iterator[tuple[list[T], IntArray]]:
        """The records of each block and the lines on which they stand, without those of `bad`.

        Raises `InputError` at the end where lines are bad: what it yields after the first one is good for finding
        further faults alone, which whoever takes the records adds to `bad`.
        """
        for block in blocks:
            records = self._whole(block)
            lines = np.arange(block.first_line, block.first_line + block.num_lines)
            if records is None:
                records, lines = self._one_by_one(block)
            if records:
                yield records, lines
        self.bad.enforce()

    def _one_by_one(self, block: Block) -> tuple[list[T], IntArray]:
        filled = list(block.lines())
        last = filled[-1][0] if filled and not block.complete else 0
        records, numbers = [], []
        for number, line in filled:
            try:
                records.append(self._record(line, number, cut=number == last))
                numbers.append(number)
            except InputError as error:
                self.bad.add(error)
        return records, np.array(numbers, dtype=np.int64)

    def _whole(self, block: Block) -> list[T] | None:
        """All records at once, where all are of one type and each line is a record."""
        for decoder in self._decoders:
            try:
                records = decoder.decode_lines(block.data)
            except (msgspec.DecodeError, RecursionError):
                continue
            if len(records) == block.num_lines:
                return records
        return None

    def _record(self, line: bytes, number: int, cut: bool) -> T:
        reason: Exception | None = None
        for decoder in self._decoders:
            try:
                return decoder.decode(line)
            except (msgspec.DecodeError, RecursionError) as error:
                reason = error
        record = json_object(line, self.file, number, cut)
        self.rules_for(record).refuse(record, self.file, number)
        raise InputError(self.file, str(reason), line=number, expected="a record of this format") from reason

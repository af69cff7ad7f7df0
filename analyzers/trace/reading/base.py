"""What a trace format must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import Trace


@dataclass(frozen=True)
class ReadOptions:
    """How to read: `strict` refuses what a reader mends or lets pass with a warning otherwise.

    That is: times that run backwards, and a last line without a line end whose number may be cut off.
    """

    strict: bool = False


class TraceFormat(ABC):
    """A file format that holds a trace. Subclasses live in one file each and are found by their `name`."""

    name: ClassVar[str]
    """What `--format` calls it."""
    content: ClassVar[str]
    """`requests`, `steps` or `requests and steps`."""
    time_unit: ClassVar[str]
    """Unit of time in the file, or `none`."""

    @classmethod
    @abstractmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head of the source is of this format. Must not consume the source."""

    @abstractmethod
    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The whole trace. Raises `InputError` with file, line and field; skips nothing silently."""

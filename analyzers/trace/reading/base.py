"""What a format must offer: a whole trace, or the records of one log among several."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.reading.log_lines import plain_head
from lbal.analyzers.trace.reading.rank_steps import Alignment, RankStepsBuilder
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import MAX_RANKS, MAX_TOKENS, Resolution, Trace

TimeUnit = Literal["s", "ms", "us", "ns"]
TIME_UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
MS_PER_UNIT: Mapping[str, float] = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}
LEAST_RATE, MOST_RATE = 0.01, 1000.0
"""Requests per second beyond which a reader asks whether the unit of time was meant."""


@dataclass(frozen=True)
class ReadOptions:
    """How to read: `strict` refuses what a reader mends or lets pass with a warning otherwise.

    That is: times that run backwards, and a last line without a line end whose number may be cut off.
    """

    strict: bool = False
    rank_regex: str | None = None
    """A regular expression whose one group is the rank in the name of a file."""
    run_index: int | None = None
    """Which run to read of a log with restarts: 0 is the first, -1 the last; None is the longest."""
    kv_capacity: int | None = None
    """KV tokens that fit on a rank, for logs that tell the use in per cent."""
    dp_size: int | None = None
    """The number of ranks, where the trace does not tell it; those that are not in it are unseen ranks."""
    time_unit: TimeUnit | None = None
    """Unit of the times of a request trace, where its format leaves it open or a file differs from its format."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the columns of a delimited file that no format knows: `arrival`, `prompt`, `output`, `rank`, `id`."""
    steps: Literal["table", "blocks", "counted"] = "table"
    """What becomes of steps: a table; blocks of a trace that may be larger than memory, where the format can give
    them; or, of such a trace, nothing but their number, once they are checked."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for a size that cannot be."""
        for name, size, most in (("dp_size", self.dp_size, MAX_RANKS), ("kv_capacity", self.kv_capacity, MAX_TOKENS)):
            if size is not None and not 1 <= size <= most:
                raise UsageError(f"{size} does not fit, expected a whole number from 1 to {most:,}", parameter=name)

    def ms_per_unit(self, unit: str, ms_per_unit: float) -> float:
        """Milliseconds of a unit of time: of the one that was asked for, else of the one of the format.

        Raises `UsageError` where the format has no numbers as times.
        """
        if self.time_unit is None:
            return ms_per_unit
        if unit in ("timestamp", "none"):
            what = "timestamps" if unit == "timestamp" else "no times"
            raise UsageError(
                f"{self.time_unit} does not fit: this format has {what}, expected no unit", parameter="time_unit"
            )
        return MS_PER_UNIT[self.time_unit]


class Format(ABC):
    """A kind of input. Subclasses live in one file each and are found by their `name`."""

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


class TraceFormat(Format):
    """A file that holds a whole trace."""

    has_pieces: ClassVar[bool] = False
    """Whether several files are read as one, as of a log of requests in lines that is written in pieces."""

    @abstractmethod
    def read(self, source: Source, options: ReadOptions) -> Trace:
        """The whole trace. Raises `InputError` with file, line and field; skips nothing silently."""


class LogReader(Format):
    """A log of an engine: records of one rank or of several, among other lines, in one file or in one a rank.

    A reader only collects the records of one source; ranks, restarts, steps and times are put together in one
    place for all readers, `lbal.analyzers.trace.reading.join`.
    """

    content = "steps"
    engine: ClassVar[str]
    """The engine that writes it, as reports name it."""
    title: ClassVar[str]
    """What the log is called in messages, such as `a vLLM iteration log`."""
    signature: ClassVar[re.Pattern[bytes]]
    """Stands somewhere in the first megabytes of such a log, and in no other log."""
    alignment: ClassVar[Alignment]
    """`step` where all ranks number their steps alike; `time` where only the clock relates them."""
    resolution: ClassVar[Resolution]
    """`step` where each step has a record; `sampled` or `interval` otherwise."""
    precedence: ClassVar[int] = 0
    """Of several readers whose signatures stand in one log, the one with the largest is taken."""
    numbers_steps: ClassVar[str] = ""
    """What makes the engine number steps alike on all ranks, where its lines may lack that; empty if nothing does."""
    late_steps: ClassVar[int] = 0
    """By how much a step number may go back without a restart, where lines are not written in order."""

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the signature stands in the first megabytes."""
        return cls.signature.search(plain_head(source)) is not None

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """For a log of this engine without the lines that are read: which log it is, and what would write them.

        None where the source is no log of this engine. Such as "is a vLLM log without iteration lines: start the
        server with --enable-logging-iteration-details".
        """
        return None

    @abstractmethod
    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """Add the records of the source to `records`, in the order of the log, and what is learned on the way.

        A line that cannot be read is counted (`records.skip`), never raised, and never used in part. Read blocks
        (`source.blocks(text=False)`) and search them as bytes: a log has millions of lines.
        """

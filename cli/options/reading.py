"""Which trace a command reads: one file, the files of ranks, a directory or a glob, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lbal.analyzers.trace.reading.base import ReadOptions
    from lbal.analyzers.trace.trace import Trace


@dataclass(frozen=True)
class Reading:
    """The input of a command as the user named it."""

    names: list[str]
    format_name: str | None
    strict: bool
    rank_regex: str | None = None
    run_index: int | None = None
    kv_capacity: int | None = None
    dp_size: int | None = None
    time_unit: str | None = None
    columns: str | None = None

    def files(self) -> list[str]:
        """Every file that is read: no output may be one of them. Raises as `source_names` does."""
        from lbal.analyzers.trace.sources import source_names

        return [source.name for source in source_names(self.names, self.rank_regex)]

    def read(self, steps: Literal["table", "blocks", "counted"] = "table") -> Trace:
        """The trace, and its steps as `ReadOptions.steps` says. Raises as `read_trace` does."""
        from lbal.analyzers.trace.formats import read_trace

        return read_trace(self.names, format_name=self.format_name, options=self.options(steps))

    def options(self, steps: Literal["table", "blocks", "counted"] = "table") -> ReadOptions:
        """How to read it. Raises `UsageError` for a unit or columns that cannot be."""
        from lbal.analyzers.errors import one_of
        from lbal.analyzers.trace.reading.base import TIME_UNITS, ReadOptions

        return ReadOptions(
            strict=self.strict,
            rank_regex=self.rank_regex,
            run_index=self.run_index,
            kv_capacity=self.kv_capacity,
            dp_size=self.dp_size,
            time_unit=None if self.time_unit is None else one_of(self.time_unit, TIME_UNITS, "time_unit"),
            columns=column_names(self.columns) if self.columns is not None else {},
            steps=steps,
        )

    def arguments(self) -> list[str]:
        """The words of a command line that reads the same requests; sizes of ranks are those of its replay."""
        flags = {
            "--format": self.format_name,
            "--rank-regex": self.rank_regex,
            "--run-index": self.run_index,
            "--time-unit": self.time_unit,
            "--columns": self.columns,
        }
        said = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
        return [*self.names, *said]


def column_names(text: str) -> dict[str, str]:
    """`arrival=t,prompt=in` as a dict; `UsageError` for a part without `=` or a key that stands twice."""
    from lbal.analyzers.errors import UsageError

    named: dict[str, str] = {}
    for part in text.split(","):
        key, equals, name = part.partition("=")
        if not equals or not key.strip() or not name.strip():
            raise UsageError(f"--columns: {part!r} names no column, expected KEY=NAME")
        if key.strip() in named:
            raise UsageError(f"--columns: {key.strip()} stands twice, expected it once")
        named[key.strip()] = name.strip()
    return named

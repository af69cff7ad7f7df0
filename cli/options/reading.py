"""Which trace a command reads: one file, the files of ranks, a directory or a glob, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbal.analyzers.trace.formats.folding import Survey
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

    def files(self) -> list[str]:
        """Every file that is read: no output may be one of them. Raises as `source_names` does."""
        from lbal.analyzers.trace.sources import source_names

        return [source.name for source in source_names(self.names, self.rank_regex)]

    def read(self) -> Trace:
        """The trace. Raises as `read_trace` does."""
        from lbal.analyzers.trace.formats import ReadOptions, read_trace

        options = ReadOptions(self.strict, self.rank_regex, self.run_index, self.kv_capacity)
        return read_trace(self.names, format_name=self.format_name, options=options)

    def survey(self) -> Survey | None:
        """All of the trace but its steps, where it is a large native file that can be taken piece by piece."""
        from lbal.analyzers.trace.formats import ReadOptions
        from lbal.analyzers.trace.formats.folding import survey

        return survey(self.names[0], self.format_name, ReadOptions(self.strict)) if len(self.names) == 1 else None

    def arguments(self) -> list[str]:
        """The words of a command line that reads the same trace."""
        flags = {"--format": self.format_name, "--rank-regex": self.rank_regex, "--run-index": self.run_index}
        said = [word for flag, value in flags.items() if value is not None for word in (flag, str(value))]
        return [*self.names, *said]

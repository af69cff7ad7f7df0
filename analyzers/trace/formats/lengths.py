"""Lengths of requests without times: two columns, as the simulator of arXiv 2601.17855 reads them."""

from __future__ import annotations

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, header_names
from lbal.analyzers.trace.source import Source


class LengthsFormat(DelimitedFormat):
    """CSV of `input_length,output_length`, in the order of the requests. There are no arrival times."""

    name = "lengths"
    time_unit = "none"
    names = ("input_length", "output_length")

    def columns(self) -> tuple[Column, ...]:
        """Both columns."""
        return count_column("input_length", "prompt_tokens"), count_column("output_length", "output_tokens")

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether there are one or two columns and one of them is known: more may hold times."""
        return super().matches(source) and len(header_names(source, cls.names)) <= len(cls.names)

    def check_header(self, header: list[str], file: str, line: int) -> None:
        """Raise `InputError` for further columns too: times among them would be lost silently."""
        super().check_header(header, file, line)
        others = [name for name in header if name not in self.names]
        if others:
            raise InputError(
                file,
                "is no column of this format",
                line=line,
                field=", ".join(others),
                expected="input_length,output_length",
            )

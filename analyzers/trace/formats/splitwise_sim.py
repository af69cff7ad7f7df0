"""Request traces of the simulator Splitwise-sim (ISCA 2024)."""

from __future__ import annotations

from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, number_column


class SplitwiseSimFormat(DelimitedFormat):
    """CSV of `arrival_timestamp` in seconds, `prompt_size` and `token_size`; other columns are not read."""

    name = "splitwise-sim"
    time_unit = "s"
    names = ("arrival_timestamp", "prompt_size", "token_size")
    ms_per_unit = 1000.0

    def columns(self) -> tuple[Column, ...]:
        """Time and both lengths."""
        return (
            number_column("arrival_timestamp", "time"),
            count_column("prompt_size", "prompt_tokens"),
            count_column("token_size", "output_tokens"),
        )

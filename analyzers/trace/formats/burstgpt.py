"""BurstGPT request logs (arXiv 2401.17644), in their first form and with sessions."""

from __future__ import annotations

from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, number_column


class BurstGptFormat(DelimitedFormat):
    """CSV with `Timestamp` in seconds, `Request tokens`, `Response tokens`; columns may stand in any order.

    `Model`, `Total tokens`, `Log Type`, `Session ID` and `Elapsed time` are not read.
    """

    name = "burstgpt"
    time_unit = "s"
    names = ("Timestamp", "Request tokens", "Response tokens")
    ms_per_unit = 1000.0

    def columns(self) -> tuple[Column, ...]:
        """Time and both lengths."""
        return (
            number_column("Timestamp", "time"),
            count_column("Request tokens", "prompt_tokens"),
            count_column("Response tokens", "output_tokens"),
        )

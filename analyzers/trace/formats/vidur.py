"""Request traces of the simulator Vidur (MLSys 2024)."""

from __future__ import annotations

from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, number_column


class VidurFormat(DelimitedFormat):
    """CSV of `arrived_at` in seconds, `num_prefill_tokens` and `num_decode_tokens`; other columns are not read."""

    name = "vidur"
    time_unit = "s"
    names = ("arrived_at", "num_prefill_tokens", "num_decode_tokens")
    ms_per_unit = 1000.0

    def columns(self) -> tuple[Column, ...]:
        """Time and both lengths."""
        return (
            number_column("arrived_at", "time"),
            count_column("num_prefill_tokens", "prompt_tokens"),
            count_column("num_decode_tokens", "output_tokens"),
        )

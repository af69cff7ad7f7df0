"""Finished requests as the simulator LLMServingSim writes them, with the instance that served each."""

from __future__ import annotations

import polars as pl

from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, number_column


class LlmServingSimFormat(DelimitedFormat):
    """CSV with `instance id` (the rank), `input`, `output`; `arrival`, `end_time`, `queuing_delay`, `TTFT` in ns."""

    name = "llmservingsim"
    time_unit = "ns"
    names = ("instance id", "input", "output", "arrival")
    ms_per_unit = 1e-6

    def columns(self) -> tuple[Column, ...]:
        """Time, both lengths, the rank, and when the request was admitted, had its first token and ended."""
        return (
            number_column("arrival", "time"),
            count_column("input", "prompt_tokens"),
            count_column("output", "output_tokens"),
            count_column("instance id", "rank"),
            number_column("end_time", "end_ns", optional=True),
            number_column("queuing_delay", "queued_ns", optional=True),
            number_column("TTFT", "first_token_ns", optional=True),
        )

    def finished(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with moments in ms after the arrival; what is negative was not measured."""
        moments = {
            "admitted_after_ms": pl.col("queued_ns"),
            "first_token_after_ms": pl.col("first_token_ns"),
            "finish_after_ms": pl.col("end_ns") - pl.col("time"),
        }
        known = {name: moment for name, moment in moments.items() if moment.meta.root_names()[0] in rows.columns}
        in_ms = [pl.when(moment >= 0).then(moment * self.ms_per_unit).alias(name) for name, moment in known.items()]
        return rows.with_columns(in_ms).drop("end_ns", "queued_ns", "first_token_ns", strict=False)

"""Request traces of BLIS (inference-sim), version 2."""

from __future__ import annotations

import polars as pl

from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column, number_column, text_column


class BlisFormat(DelimitedFormat):
    """CSV with `arrival_time_us`, `input_tokens`, `output_tokens`; rows whose `status` is not `ok` are left out.

    The prompt is `server_input_tokens` where the server counted it, else `input_tokens`.
    """

    name = "blis"
    time_unit = "us"
    names = ("input_tokens", "output_tokens", "arrival_time_us")
    ms_per_unit = 1e-3

    def columns(self) -> tuple[Column, ...]:
        """Time, both lengths, the status, and when the first and the last chunk came."""
        return (
            number_column("arrival_time_us", "time"),
            count_column("input_tokens", "prompt_tokens"),
            count_column("output_tokens", "output_tokens"),
            count_column("server_input_tokens", "server_tokens", optional=True),
            number_column("first_chunk_time_us", "first_us", optional=True),
            number_column("last_chunk_time_us", "last_us", optional=True),
            text_column("status", "status"),
        )

    def finished(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with moments in ms after the arrival, and a reason beside those that were not served."""
        derived = []
        for name, moment in (("first_token_after_ms", "first_us"), ("finish_after_ms", "last_us")):
            if moment in rows.columns:
                after = (pl.col(moment) - pl.col("time")) * self.ms_per_unit
                derived.append(pl.when((pl.col(moment) > 0) & (after >= 0)).then(after).alias(name))
        if "server_tokens" in rows.columns:
            served = pl.when(pl.col("server_tokens") > 0).then("server_tokens").otherwise("prompt_tokens")
            derived.append(served.alias("prompt_tokens"))
        if "status" in rows.columns:
            reason = pl.concat_str(pl.lit("status "), pl.col("status"))
            derived.append(pl.when(pl.col("status") != "ok").then(reason).alias("left_out"))
        return rows.with_columns(derived).drop("server_tokens", "first_us", "last_us", "status", strict=False)

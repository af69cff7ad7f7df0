"""Azure LLM inference traces of 2023 and 2024 (Splitwise, ISCA 2024; DynamoLLM, HPCA 2025)."""

from __future__ import annotations

import polars as pl

from lbal.analyzers.trace.reading.delimited import Column, DelimitedFormat, count_column
from lbal.analyzers.trace.reading.fields import Kind
from lbal.analyzers.trace.reading.timestamps import Timestamps


class AzureFormat(DelimitedFormat):
    """CSV of `TIMESTAMP,ContextTokens,GeneratedTokens`, in 2025 with `NumImages`.

    Timestamps are ISO 8601 with a blank or a T, up to 9 decimals, and a time zone on all rows (2024) or none (2023).
    Images are counted and said: their tokens are not in the file.
    """

    name = "azure"
    time_unit = "timestamp"
    names = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
    ms_per_unit = 1e-6

    def columns(self) -> tuple[Column, ...]:
        """Time and both lengths."""
        times = Timestamps()
        kind = Kind("a timestamp such as 2023-11-16 18:15:46.6805900", times.fault)
        return (
            Column("TIMESTAMP", "time", times.values, kind),
            count_column("ContextTokens", "prompt_tokens"),
            count_column("GeneratedTokens", "output_tokens"),
            count_column("NumImages", "num_images", optional=True),
        )

    def __init__(self) -> None:
        self._images = self._with_images = 0

    def finished(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows without their numbers of images, which are counted."""
        if "num_images" not in rows.columns:
            return rows
        images = rows["num_images"].fill_null(0)
        self._images += int(images.sum())
        self._with_images += int((images > 0).sum())
        return rows.drop("num_images")

    def notes(self) -> tuple[str, ...]:
        """How many images the requests carry."""
        if not self._images:
            return ()
        return (
            f"{self._with_images:,} requests carry {self._images:,} images, whose tokens the file does not tell: "
            "their prompts are longer than they count here",
        )

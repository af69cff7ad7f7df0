"""From the rows of a request log to the `requests` of a trace: failed ones out, times from the first request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.base import ReadOptions
from lbal.analyzers.trace.trace import IntArray, LineOf, Trace, TraceMeta

if TYPE_CHECKING:
    from lbal.analyzers.trace.step_blocks import CheckedSteps

FAILED = "failed (0 output tokens)"


@dataclass
class RequestTable:
    """Collects requests block by block.

    Blocks have columns of `Trace.requests`; instead of `arrival_ms` they may have `time`, in the unit and
    from the origin of the input, and `time_text`, the same as the input spells it; instead of `admitted_ms`,
    `first_token_ms` and `finish_ms` they may have `admitted_after_ms`, …, counted from the arrival. `request_id` may be
    absent or null: requests are then numbered in the order of the input. `left_out` says why a row is no request
    that was served, or is null.
    """

    source: str
    ms_per_unit: float = 1.0
    """Of `time`."""
    must_have_ids: bool = False
    """Refuse rows without `request_id` instead of numbering all."""
    in_any_order: bool = False
    """The log is written when requests end: sort them by arrival without a warning."""
    optional: tuple[str, ...] = ()
    """Columns that are left out where no row has a value."""
    renumber: bool = False
    """Number all requests in the order of the input, whatever their ids."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that are no request that was served: reason -> count."""
    _frames: list[pl.DataFrame] = field(default_factory=list)
    _lines: list[IntArray] = field(default_factory=list)
    _origin: tuple[Any, str] | None = None

    def add(self, frame: pl.DataFrame, lines: IntArray | None = None) -> None:
        """Take the rows that have output, and count the others. `lines` are the input lines of the rows."""
        reasons = frame["left_out"] if "left_out" in frame.columns else pl.Series([None], dtype=pl.String)
        if "output_tokens" in frame.columns:
            failed = (frame["output_tokens"] == 0).fill_null(False)
            reasons = pl.select(pl.coalesce(reasons, pl.when(failed).then(pl.lit(FAILED)))).to_series()
        frame = frame.drop("left_out", strict=False)
        if reasons.null_count() < len(reasons):
            for reason, count in reasons.drop_nulls().value_counts(sort=False).sort(reasons.name).iter_rows():
                self.left_out[reason] = self.left_out.get(reason, 0) + count
            alive = reasons.is_null()
            frame = frame.filter(alive)
            lines = None if lines is None else lines[alive.to_numpy()]
        if frame.is_empty():
            return
        if "time" in frame.columns:
            first = frame["time"].arg_min() or 0
            time = frame["time"][first]
            text = frame["time_text"][first] if "time_text" in frame.columns else f"{time:.15g}"
            self._origin = min(self._origin or (time, text), (time, text))
            frame = frame.drop("time_text", strict=False)
        self._frames.append(frame)
        if lines is not None:
            self._lines.append(lines)

    @property
    def has_rows(self) -> bool:
        """Whether any request was added, one that was left out included."""
        return bool(self._frames or self.left_out)

    def trace(
        self,
        meta: TraceMeta,
        options: ReadOptions,
        *,
        fields: Mapping[str, str] | None = None,
        steps: pl.DataFrame | None = None,
        checked: CheckedSteps | None = None,
        line_of_step: LineOf = lambda _row: None,
    ) -> Trace:
        """The checked trace of all that was added. `fields` names columns as the input does, for messages.

        Raises `InputError` where nothing is left, and as `Trace.of` does.
        """
        meta = _with_left_out(meta, self.left_out)
        if self.left_out and not self._frames:
            total, reasons = sum(self.left_out.values()), " and ".join(self.left_out)
            raise InputError(self.source, f"all {total} requests {reasons}", expected="a request with output")
        requests = None
        if self._frames:
            requests = _alike(self._frames)
            unknown = [name for name in requests.columns if requests[name].null_count() == requests.height]
            requests = requests.drop([name for name in unknown if name in self.optional])
            requests, meta = _with_arrivals(requests, meta, self._origin, self.ms_per_unit)
            if self.renumber:
                requests = requests.drop("request_id", strict=False)
            if not self.must_have_ids:
                requests, meta = _with_ids(requests, meta)
        lines = np.concatenate(self._lines) if self._lines else None
        if self.in_any_order and requests is not None and "arrival_ms" in requests.columns:
            order = requests["arrival_ms"].arg_sort().to_numpy()
            requests, lines = requests[order], None if lines is None else lines[order]
        self._frames, self._lines = [], []
        try:
            return Trace.of(
                meta,
                requests,
                steps,
                checked=checked,
                strict=options.strict,
                line_of_request=lambda row: None if lines is None else int(lines[row]),
                line_of_step=line_of_step,
            )
        except InputError as error:
            name = (fields or {}).get(error.field or "", error.field)
            raise InputError(error.file, error.problem, line=error.line, field=name, expected=error.expected) from error


def id_series(ids: Sequence[int | str | None]) -> pl.Series:
    """Request ids as a column: whole numbers where all of them are, strings otherwise."""
    if any(isinstance(value, str) for value in ids):
        return pl.Series([None if value is None else str(value) for value in ids], dtype=pl.String)
    return pl.Series(ids, dtype=pl.Int64)


def _with_left_out(meta: TraceMeta, left_out: Mapping[str, int]) -> TraceMeta:
    excluded = dict(meta.excluded)
    for reason, count in left_out.items():
        excluded[reason] = excluded.get(reason, 0) + count
        plural = "s were" if count > 1 else " was"
        what = "failed request" if reason == FAILED else "request"
        why = "0 output tokens" if reason == FAILED else reason
        meta = meta.warned(f"{count} {what}{plural} excluded ({why})")
    return replace(meta, excluded=excluded)


def _alike(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """One table of all; ids become strings where any block has strings."""
    if any(frame.schema.get("request_id") == pl.String for frame in frames):
        frames = [frame.with_columns(pl.col("request_id").cast(pl.String)) for frame in frames]
    return pl.concat(frames)


def _with_arrivals(
    requests: pl.DataFrame, meta: TraceMeta, origin: tuple[Any, str] | None, ms_per_unit: float
) -> tuple[pl.DataFrame, TraceMeta]:
    after = [name for name in requests.columns if name.endswith("_after_ms")]
    if origin is None:
        return requests.drop(after), meta
    first, text = origin
    arrival = ((pl.col("time") - first) * ms_per_unit).cast(pl.Float64).round(6).alias("arrival_ms")
    requests = requests.select(arrival, pl.exclude("time"))
    moments = [(pl.col("arrival_ms") + pl.col(name)).round(6).alias(name.replace("_after_ms", "_ms")) for name in after]
    return requests.with_columns(moments).drop(after), replace(meta, time_origin=text)


def _with_ids(requests: pl.DataFrame, meta: TraceMeta) -> tuple[pl.DataFrame, TraceMeta]:
    known = requests["request_id"].count() if "request_id" in requests.columns else 0
    if known == requests.height:
        return requests, meta
    if known:
        lacking = requests.height - known
        meta = meta.warned(
            f"{lacking} of {requests.height} requests have no request_id; all were numbered in file order"
        )
    return requests.with_columns(pl.int_range(requests.height, dtype=pl.Int64).alias("request_id")), meta

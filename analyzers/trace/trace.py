"""The trace: what a reader returns and what a replay returns, so both go through one analysis.

A `Trace` is frozen metadata and two polars tables, `requests` and `steps`, either of which may be
absent. Tables are validated once, by `Trace.of`, which every reader and the replay engine call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lbal.analyzers.errors import InputError, shown
from lbal.analyzers.trace.bad_lines import MOST_SHOWN, BadLines

if TYPE_CHECKING:
    from lbal.analyzers.trace.step_blocks import CheckedSteps, StepBlocks

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
LineOf = Callable[[int], int | None]
Resolution = Literal["step", "sampled", "interval"]
"""`step`: every step is there; `sampled`: one look in so many steps or seconds; `interval`: means over times."""

TIMES_IN_ORDER = ("arrival_ms", "admitted_ms", "first_token_ms", "finish_ms")
MAX_MS = 1e15
"""Times beyond it (thirty thousand years) are no times."""
MAX_LOAD = 2.0**53
"""KV tokens beyond it are no loads: they cannot be counted one by one."""
MAX_PAIRS = 2.0**80
"""Of a prompt of the most tokens."""
MAX_TOKENS = 1 << 40
"""More tokens than this in one request are taken for damage."""
NO_BARRIER = "no_barrier"
"""Key of `TraceMeta.config`: why ranks do not wait for one another, so that barrier idle does not apply."""
MAX_RANKS = 1 << 16
"""A step has no more ranks than this: more are taken for damage, before memory is taken for them."""

REQUEST_COLUMNS: dict[str, pl.DataType] = {
    "arrival_ms": pl.Float64(),
    "prompt_tokens": pl.Int64(),
    "output_tokens": pl.Int64(),
    "rank": pl.Int64(),
    "admitted_ms": pl.Float64(),
    "first_token_ms": pl.Float64(),
    "finish_ms": pl.Float64(),
}
REQUIRED_REQUEST_COLUMNS = ("request_id", "prompt_tokens", "output_tokens")
STEP_COLUMNS: dict[str, pl.DataType] = {
    "step": pl.Int64(),
    "rank": pl.Int64(),
    "kv_tokens": pl.Float64(),
    "num_running": pl.Int64(),
    "num_waiting": pl.Int64(),
    "prefill_tokens": pl.Int64(),
    "prefill_pairs": pl.Float64(),
    "padded_running": pl.Int64(),
    "compute_ms": pl.Float64(),
    "kv_fraction": pl.Float64(),
    "wait_ms": pl.Float64(),
    "step_ms": pl.Float64(),
    "start_ms": pl.Float64(),
}
REQUIRED_STEP_COLUMNS = ("step", "rank")
LOADS = ("kv_tokens", "num_running")
"""What a rank holds: steps must have one of these, and may lack the other."""
PER_STEP_COLUMNS = ("step_ms", "start_ms")
PER_RANK_COLUMNS = tuple(name for name in STEP_COLUMNS if name not in ("step", "rank", *PER_STEP_COLUMNS))


@dataclass(frozen=True)
class TraceMeta:
    """Where a trace comes from and what is known of the system that it describes."""

    source: str
    """Name of the file as the user gave it, for messages and reports."""
    format: str
    """Name of the format it was read as, or `replay`."""
    kind: Literal["recorded", "replayed"] = "recorded"
    engine: str | None = None
    """The serving engine that wrote it, or the policy of the replay."""
    dp_size: int | None = None
    max_num_seqs: int | None = None
    time_unit: str | None = None
    """Unit of time as read (`ms`, `s`, `timestamp`); None when the input has no times."""
    time_origin: str | None = None
    """What the input calls the moment that is 0 ms here."""
    seed: int | None = None
    sha256: str | None = None
    """Of the bytes as they were stored (compressed bytes for a compressed file)."""
    step_model: Mapping[str, Any] | None = None
    """The step-time model that made the times of a replayed trace."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What else the writer recorded of the run: policy, parameters, arrivals, …"""
    excluded: Mapping[str, int] = field(default_factory=dict)
    """Rows of the input that are not in the tables: reason -> count."""
    warnings: tuple[str, ...] = ()
    resolution: Resolution = "step"
    """What a row of `steps` is: a step, or a look at what the ranks hold."""
    alignment: Literal["step", "time"] | None = None
    """How the ranks of an engine's log were put side by side: by number of the step or by the clock."""
    engine_version: str | None = None
    kv_capacity: int | None = None
    """KV tokens that fit on a rank."""
    ranks_seen: tuple[int, ...] | None = None
    """The ranks of which any load is known; None where all are, or where there are no steps."""
    sources: tuple[Mapping[str, Any], ...] = ()
    """Of a trace of engine logs: `name`, `sha256`, `ranks` of each file."""

    @property
    def no_barrier(self) -> str | None:
        """Why the ranks do not wait for one another, where the trace tells that; None where they do, or may."""
        reason = self.config.get(NO_BARRIER)
        return reason if isinstance(reason, str) else None

    def warned(self, *warnings: str) -> TraceMeta:
        """A copy with further warnings."""
        return replace(self, warnings=self.warnings + warnings)


@dataclass(frozen=True)
class StepArrays:
    """Steps as arrays: S steps by G ranks; what the accounting works on.

    `kv_tokens`, `num_running` and the optional `compute_ms`, `num_waiting`, `prefill_tokens`, `prefill_pairs`,
    `padded_running`, `kv_fraction` (used share of the KV space), `wait_ms` have shape (S, G); `step`, the optional
    `step_ms` and `start_ms` have shape (S,).
    Unknown values are NaN; a trace may know only one of `kv_tokens` and `num_running`: the other is NaN throughout.
    """

    step: IntArray
    kv_tokens: FloatArray
    num_running: FloatArray
    compute_ms: FloatArray | None = None
    step_ms: FloatArray | None = None
    start_ms: FloatArray | None = None
    num_waiting: FloatArray | None = None
    prefill_tokens: FloatArray | None = None
    """Prompt tokens that the rank computes in the step."""
    prefill_pairs: FloatArray | None = None
    """Pairs of a query and a key in their attention: q*m + q^2/2 of a chunk of q tokens with m of its prompt before."""
    padded_running: FloatArray | None = None
    """Requests that the rank computes for, its own and padding; unknown (NaN or None): its own alone."""
    kv_fraction: FloatArray | None = None
    wait_ms: FloatArray | None = None

    @property
    def dp_size(self) -> int:
        """G, the number of ranks."""
        return int(self.kv_tokens.shape[1])

    def __len__(self) -> int:
        return len(self.step)

    def part(self, where: slice | NDArray[np.bool_] | IntArray) -> StepArrays:
        """The chosen steps (a slice copies nothing)."""
        parts: dict[str, Any] = {name: None if array is None else array[where] for name, array in vars(self).items()}
        return StepArrays(**parts)

    def of_ranks(self, ranks: NDArray[np.bool_] | list[int]) -> StepArrays:
        """The same steps with only the chosen ranks as columns."""
        parts: dict[str, Any] = {
            name: array[:, ranks] if array is not None and array.ndim > 1 else array
            for name, array in vars(self).items()
        }
        return StepArrays(**parts)

    def frame(self) -> pl.DataFrame:
        """The same steps as a table with one row per step and rank."""
        count, ranks = self.kv_tokens.shape
        columns = []
        for name in STEP_COLUMNS:  # one after the other: all of them at once take as much as the table again
            array = getattr(self, name, None)
            if name == "rank":
                array = np.tile(np.arange(ranks), count)
            elif array is None:
                continue
            elif name == "step" or name in PER_STEP_COLUMNS:
                array = np.repeat(array, ranks)
            column = pl.DataFrame({name: array.ravel()}, nan_to_null=True)
            columns.append(cast_columns(column, STEP_COLUMNS, "<steps>")[name])
        return pl.DataFrame(columns)


@dataclass(frozen=True)
class Trace:
    """Frozen metadata and two tables: `requests` (one row each) and `steps` (one row per step and rank)."""

    meta: TraceMeta
    requests: pl.DataFrame | None = None
    steps: pl.DataFrame | None = None
    blocks: StepBlocks | None = None
    """The steps instead of a table, where they may be too many for one: see `analyzers/trace/step_blocks.py`."""

    @classmethod
    def of(
        cls,
        meta: TraceMeta,
        requests: pl.DataFrame | None = None,
        steps: pl.DataFrame | None = None,
        *,
        checked: CheckedSteps | None = None,
        strict: bool = False,
        line_of_request: LineOf = lambda _row: None,
        line_of_step: LineOf = lambda _row: None,
    ) -> Trace:
        """A validated trace: columns cast, requests in order of arrival, steps in order of step and rank.

        Columns that a trace does not know are left out; a table without rows counts as absent. `checked` are steps in
        blocks, each of which has passed as a table of its own; they take the place of `steps`.

        `strict` refuses requests that are not in order of arrival and steps that start before the one before them
        (the former are sorted, and both counted in the warnings, otherwise). The `line_of_…` functions tell the input
        line of a row, for messages.

        Raises `InputError` for a value or a table that cannot be.
        """
        requests = None if requests is None or requests.is_empty() else requests
        steps = None if steps is None or steps.is_empty() else steps
        if requests is None and steps is None and checked is None:
            raise InputError(meta.source, "no requests and no steps", expected="at least one of either")
        if steps is not None:
            steps, dp_size = _checked_steps(steps, meta, line_of_step)
            meta = replace(meta, dp_size=dp_size, ranks_seen=_ranks_seen(steps, dp_size))
            meta = _with_clock_checked(_backwards(steps), meta, strict)
        if checked is not None:
            meta = replace(meta, dp_size=checked.blocks.dp_size, ranks_seen=checked.ranks_seen)
            meta = _with_clock_checked(checked.backwards, meta, strict)
        if requests is not None:
            requests = _checked_requests(requests, meta, line_of_request)
            requests, meta = _in_order_of_arrival(requests, meta, strict, line_of_request)
            meta = _with_empty_prompts_told(requests, meta)
        return cls(meta, requests, steps, None if checked is None else checked.blocks)

    def with_meta(self, **changes: Any) -> Trace:
        """The same tables with some of the metadata changed."""
        return replace(self, meta=replace(self.meta, **changes))

    @property
    def num_requests(self) -> int:
        """Rows of `requests`; 0 where the table is absent."""
        return 0 if self.requests is None else self.requests.height

    @property
    def num_steps(self) -> int:
        """Number of distinct steps; 0 where the table is absent."""
        if self.blocks is not None:
            return len(self.blocks)
        if self.steps is None or not self.meta.dp_size:
            return 0
        return self.steps.height // self.meta.dp_size

    def step_arrays(self) -> StepArrays:
        """The steps as (S, G) arrays. The trace must have steps."""
        if self.blocks is not None:
            return self.blocks.joined()
        assert self.steps is not None
        assert self.meta.dp_size is not None
        shape = (-1, self.meta.dp_size)
        arrays: dict[str, Any] = {"step": self.steps["step"].to_numpy().reshape(shape)[:, 0]}
        for name in STEP_COLUMNS:
            if name in ("step", "rank") or name not in self.steps.columns:
                continue
            matrix = self.steps[name].cast(pl.Float64).to_numpy().reshape(shape)
            arrays[name] = matrix[:, 0] if name in PER_STEP_COLUMNS else matrix
        for name in LOADS:
            if name not in arrays:
                arrays[name] = np.full((len(arrays["step"]), self.meta.dp_size), np.nan)
        return StepArrays(**arrays)


def cast_columns(frame: pl.DataFrame, types: Mapping[str, pl.DataType], source: str) -> pl.DataFrame:
    """The known columns of a table in their types, `request_id` (whole numbers or strings) first.

    Raises `InputError` for values that a type cannot hold: text, fractions in whole numbers, too large ones.
    """
    place = _Place(source, frame, lambda _row: None)
    casts = [_id_cast(frame, source)] if "request_id" in frame.columns else []
    for name, kind in types.items():
        if name not in frame.columns:
            continue
        found = frame.schema[name]
        if not (found.is_numeric() or found == pl.Null):
            raise InputError(source, f"has values of type {found}", field=name, expected="numbers")
        if kind.is_integer() and found.is_float():
            fraction = (pl.col(name) != pl.col(name).floor()) | ~pl.col(name).is_finite()
            place.refuse(fraction, name, "is not a whole number", "a whole number")
        casts.append(pl.col(name).cast(kind))
    try:
        return frame.select(casts)
    except pl.exceptions.InvalidOperationError as error:
        raise InputError(source, "has numbers beyond 64 bits", expected="numbers of up to 64 bits") from error


def _id_cast(frame: pl.DataFrame, source: str) -> pl.Expr:
    found = frame.schema["request_id"]
    if found.is_integer():
        return pl.col("request_id").cast(pl.Int64)
    if found == pl.String or isinstance(found, pl.Categorical | pl.Enum):
        return pl.col("request_id").cast(pl.String)
    raise InputError(source, f"has values of type {found}", field="request_id", expected="whole numbers or strings")


def _checked_requests(frame: pl.DataFrame, meta: TraceMeta, line_of: LineOf) -> pl.DataFrame:
    _require(frame, REQUIRED_REQUEST_COLUMNS, meta, "requests")
    frame = cast_columns(frame, REQUEST_COLUMNS, meta.source)
    place = _Place(meta.source, frame, line_of)
    for name in REQUIRED_REQUEST_COLUMNS:
        place.plan(pl.col(name).is_null(), name, "is missing", "a value")
    place.plan(pl.col("prompt_tokens") < 0, "prompt_tokens", "is negative", "a whole number of at least 0")
    place.plan(pl.col("output_tokens") < 1, "output_tokens", "is below 1", "a whole number of at least 1")
    for name in ("prompt_tokens", "output_tokens"):
        place.plan(pl.col(name) > MAX_TOKENS, name, "is too large", "at most 2**40")
    for name in ("arrival_ms", "admitted_ms", "first_token_ms", "finish_ms"):
        if name in frame.columns:
            place.plan(~pl.col(name).is_finite(), name, "is not a finite number", "milliseconds")
            place.plan(pl.col(name).abs() > MAX_MS, name, "is too large", f"at most {MAX_MS:g} ms")
    known = [name for name in TIMES_IN_ORDER if name in frame.columns]
    for earlier, later in pairwise(known):
        too_early = pl.col(later) < pl.col(earlier)
        place.plan(too_early, later, f"is before the {earlier} of the request", f"at least its {earlier}")
    if "rank" in frame.columns:
        top = np.iinfo(np.int64).max if meta.dp_size is None else meta.dp_size
        expected = "a rank from 0" if meta.dp_size is None else f"a rank in 0..{meta.dp_size - 1}"
        place.plan((pl.col("rank") < 0) | (pl.col("rank") >= top), "rank", "is out of range", expected)
        place.plan(pl.col("rank") >= MAX_RANKS, "rank", "is too large", f"at most {MAX_RANKS:,} ranks")
    if frame["request_id"].n_unique() != frame.height:
        place.plan(~pl.col("request_id").is_first_distinct(), "request_id", "stands twice", "unique ids")
    if "arrival_ms" in frame.columns:
        place.plan(pl.col("arrival_ms").is_null(), "arrival_ms", "is missing", "a time on every request or on none")
    place.enforce()
    return frame


def _in_order_of_arrival(
    frame: pl.DataFrame, meta: TraceMeta, strict: bool, line_of: LineOf
) -> tuple[pl.DataFrame, TraceMeta]:
    if "arrival_ms" not in frame.columns:
        return frame, meta
    backwards = pl.col("arrival_ms").diff() < 0
    count = int(frame.select(backwards.sum()).item() or 0)
    if not count:
        return frame, meta
    if strict:
        expected = "times in order (or no --strict, to sort them)"
        place = _Place(meta.source, frame, line_of)
        place.refuse(backwards, "arrival_ms", "runs backwards from the request before it", expected, show=False)
    warning = f"{count} arrival time{'s run' if count > 1 else ' runs'} backwards; requests were sorted by arrival"
    return frame.sort("arrival_ms", maintain_order=True), meta.warned(warning)


def _with_empty_prompts_told(requests: pl.DataFrame, meta: TraceMeta) -> TraceMeta:
    """A prompt of 0 tokens may be one that the log did not know: it is kept, and said."""
    count = int((requests["prompt_tokens"] == 0).sum())
    if not count:
        return meta
    one, several = "has a prompt of 0 tokens; it counts with its", "have prompts of 0 tokens; they count with their"
    warning = f"{count:,} of {requests.height:,} requests {several if count > 1 else one} output alone"
    return meta if warning in meta.warnings else meta.warned(warning)


def _backwards(steps: pl.DataFrame) -> int:
    """How many steps start before the step before them."""
    if "start_ms" not in steps.columns:
        return 0
    return int(steps.select((pl.col("start_ms").diff() < 0).sum()).item() or 0)


def _with_clock_checked(count: int, meta: TraceMeta, strict: bool) -> TraceMeta:
    if not count:
        return meta
    problem = f"{count} of the steps start before the step before them"
    if strict:
        raise InputError(meta.source, problem, field="start_ms", expected="steps in the order of their starts")
    warning = f"{problem}: times of the run are not to be trusted"
    return meta if warning in meta.warnings else meta.warned(warning)


def _checked_steps(frame: pl.DataFrame, meta: TraceMeta, line_of: LineOf) -> tuple[pl.DataFrame, int]:
    _require(frame, REQUIRED_STEP_COLUMNS, meta, "steps")
    if not any(name in frame.columns for name in LOADS):
        raise InputError(meta.source, "steps have no such column", field=" or ".join(LOADS), expected="one of the two")
    frame = cast_columns(frame, STEP_COLUMNS, meta.source)
    place = _Place(meta.source, frame, line_of)
    for name in ("step", "rank"):
        place.plan(pl.col(name).is_null() | (pl.col(name) < 0), name, "is missing or negative", "a number from 0")
    for name in PER_RANK_COLUMNS:
        if name in frame.columns:
            place.plan(pl.col(name) < 0, name, "is negative", "a number of at least 0, or null for a gap")
    if meta.max_num_seqs is not None and "num_running" in frame.columns:
        expected = f"at most its max_num_seqs, {meta.max_num_seqs}"
        place.plan(pl.col("num_running") > meta.max_num_seqs, "num_running", "is more than fits", expected)
    if "padded_running" in frame.columns and "num_running" in frame.columns:
        too_few = pl.col("padded_running") < pl.col("num_running")
        place.plan(too_few, "padded_running", "is less than num_running", "the rank's own requests and padding")
    if "step_ms" in frame.columns:
        place.plan(pl.col("step_ms") <= 0, "step_ms", "is not positive", "the wall time of the step in ms")
    if "kv_fraction" in frame.columns:
        place.plan(pl.col("kv_fraction") > 1, "kv_fraction", "is above 1", "a share of the KV space from 0 to 1")
    for name in ("kv_tokens", "prefill_pairs", "compute_ms", "kv_fraction", "wait_ms", "step_ms", "start_ms"):
        if name in frame.columns:
            place.plan(~pl.col(name).is_finite(), name, "is not a finite number", "a number, or null for a gap")
            most = {"kv_tokens": MAX_LOAD, "prefill_pairs": MAX_PAIRS}.get(name, MAX_MS)
            place.plan(pl.col(name).abs() > most, name, "is too large", f"at most {most:g}")
    if meta.dp_size is not None:
        expected = f"a rank in 0..{meta.dp_size - 1}"
        place.plan(pl.col("rank") >= meta.dp_size, "rank", "is out of range", expected)
    place.enforce()
    dp_size = meta.dp_size or int(frame["rank"].max()) + 1  # type: ignore[arg-type]
    if not _is_rectangular(frame, dp_size):
        frame = frame.sort("step", "rank", maintain_order=True)
        if not _is_rectangular(frame, dp_size):
            _refuse_ragged(frame, dp_size, meta)
    if dp_size > MAX_RANKS:
        raise InputError(
            meta.source, f"{dp_size:,} ranks are too many", field="rank", expected=f"at most {MAX_RANKS:,}"
        )
    for name in PER_STEP_COLUMNS:
        if name in frame.columns:
            _check_same_on_all_ranks(frame, name, dp_size, meta)
    return frame, dp_size


def _ranks_seen(steps: pl.DataFrame, dp_size: int) -> tuple[int, ...] | None:
    """The ranks of which some load is known, or new tokens where no load is; None where that is so of all."""
    known = [steps[name].is_not_null().to_numpy() for name in LOADS if name in steps.columns]
    if not np.any(known) and "prefill_tokens" in steps.columns:
        known = [steps["prefill_tokens"].is_not_null().to_numpy()]
    seen = np.any(known, axis=0).reshape(-1, dp_size).any(axis=0)
    return None if seen.all() else tuple(int(rank) for rank in np.flatnonzero(seen))


def _is_rectangular(frame: pl.DataFrame, dp_size: int) -> bool:
    if frame.height % dp_size:
        return False
    rank = frame["rank"].to_numpy().reshape(-1, dp_size)
    step = frame["step"].to_numpy().reshape(-1, dp_size)
    return bool((rank == np.arange(dp_size)).all() and (step == step[:, :1]).all() and (np.diff(step[:, 0]) > 0).all())


def _refuse_ragged(frame: pl.DataFrame, dp_size: int, meta: TraceMeta) -> None:
    twice = frame.filter(frame.select("step", "rank").is_duplicated())
    if twice.height:
        step, rank = twice.row(0)[:2]
        problem = f"step {step} has rank {rank} twice"
    else:
        counts = frame.group_by("step", maintain_order=True).agg(pl.col("rank"))
        step, ranks = counts.filter(pl.col("rank").list.len() != dp_size).row(0)
        present = set(ranks)
        missing = islice((rank for rank in range(dp_size) if rank not in present), 8)
        problem = f"step {step} has no rank {', '.join(map(str, missing))}"
    raise InputError(meta.source, problem, field="rank", expected=f"each of the ranks 0..{dp_size - 1} once per step")


def _check_same_on_all_ranks(frame: pl.DataFrame, name: str, dp_size: int, meta: TraceMeta) -> None:
    matrix = frame[name].to_numpy().reshape(-1, dp_size)
    differs = ~((matrix == matrix[:, :1]) | (np.isnan(matrix) & np.isnan(matrix[:, :1]))).all(axis=1)
    if differs.any():
        step = frame["step"][int(np.argmax(differs)) * dp_size]
        raise InputError(
            meta.source, f"step {step} has different values on its ranks", field=name, expected="one value per step"
        )


def _require(frame: pl.DataFrame, names: tuple[str, ...], meta: TraceMeta, table: str) -> None:
    for name in names:
        if name not in frame.columns:
            raise InputError(meta.source, f"{table} have no such column", field=name, expected=", ".join(names))


class _Rule(NamedTuple):
    """Where `broken` is true, field `name` of a row has the problem. `show` its value where it has one."""

    broken: pl.Expr
    name: str
    problem: str
    expected: str
    show: bool


@dataclass(frozen=True)
class _Place:
    """Finds the rows of a table that break rules, and says where the first one stands in the input."""

    source: str
    frame: pl.DataFrame
    line_of: LineOf
    rules: list[_Rule] = field(default_factory=list)

    def plan(self, broken: pl.Expr, name: str, problem: str, expected: str, *, show: bool = True) -> None:
        """A rule for `enforce`, which looks at all of them in one pass over the table."""
        self.rules.append(_Rule(broken.fill_null(False), name, problem, expected, show))

    def refuse(self, broken: pl.Expr, name: str, problem: str, expected: str, *, show: bool = True) -> None:
        """Enforce one rule alone."""
        replace(self, rules=[_Rule(broken.fill_null(False), name, problem, expected, show)]).enforce()

    def enforce(self) -> None:
        """Raise `BadLinesError` where any row breaks a rule: it tells of the first such row and counts all."""
        is_broken = self.frame.select(rule.broken.any().alias(str(index)) for index, rule in enumerate(self.rules))
        rules = [rule for rule, any_row in zip(self.rules, is_broken.row(0), strict=True) if any_row]
        if not rules:
            return
        hits = self.frame.select(rule.broken.alias(str(index)) for index, rule in enumerate(rules))
        rows = hits.select(pl.any_horizontal(pl.all())).to_series().arg_true().to_list()
        rule = next(rule for rule, hit in zip(rules, hits.row(rows[0]), strict=True) if hit)
        line = self.line_of(rows[0])
        places = {row + 1 if line is None else self.line_of(row) or 0 for row in rows}
        value = self.frame[rule.name][rows[0]]
        text = rule.problem if value is None or not rule.show else f"{shown(value)} {rule.problem}"
        where = f" (row {rows[0] + 1})" if line is None and len(places) == 1 else ""
        error = InputError(self.source, text + where, line=line, field=rule.name, expected=rule.expected)
        bad = BadLines("rows" if line is None else "lines")
        bad.add_lines(error, sorted(places)[:MOST_SHOWN], len(places))
        bad.enforce()

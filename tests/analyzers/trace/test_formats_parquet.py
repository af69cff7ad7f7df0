"""The Parquet directory, and that what is written is read back bit for bit."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import MAX_TOKENS, REQUEST_COLUMNS, STEP_COLUMNS, TIMES_IN_ORDER, Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_native, write_parquet

REQUESTS = pl.DataFrame({"request_id": ["a", "b"], "prompt_tokens": [5, 6], "output_tokens": [2, 3]})
STEPS = pl.DataFrame(
    {"step": [0, 0, 1, 1], "rank": [0, 1, 0, 1], "kv_tokens": [5.5, 6.0, None, 7.0], "num_running": [1, 1, 1, None]}
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    write_parquet(Trace.of(TraceMeta("x", "replay"), REQUESTS, STEPS), path)
    return path


def without_digests(folder: Path) -> None:
    """As another program writes it, or an lbal before there were digests."""
    meta = json.loads((folder / "meta.json").read_text())
    del meta["digests"]
    (folder / "meta.json").write_text(json.dumps(meta))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_trace(str(path))
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(path), "DIR")


def test_either_table_may_be_absent(folder: Path) -> None:
    (folder / "steps.parquet").unlink()
    trace = read_trace(str(folder))
    assert trace.steps is None
    assert trace.meta.warnings == ("steps.parquet, of which meta.json has a digest, is not there",)
    write_parquet(Trace.of(TraceMeta("x", "replay"), None, STEPS), folder.with_name("steps-only"))
    trace = read_trace(str(folder.with_name("steps-only")))
    assert trace.requests is None
    assert trace.num_steps == 2


def test_both_tables_absent_is_refused(folder: Path) -> None:
    (folder / "steps.parquet").unlink()
    (folder / "requests.parquet").unlink()
    assert refusal(folder) == "DIR: no requests and no steps, expected at least one of either"


def test_meta_json_is_required(folder: Path) -> None:
    (folder / "meta.json").unlink()
    assert refusal(folder) == "DIR: has no meta.json, expected meta.json, requests.parquet, steps.parquet"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"lbal_trace": 3}, "lbal_trace: is version 3 of the native format, expected version 1, which this lbal reads"),
        ({"enigne": "x"}, "enigne: is no field of a trace header, expected 'engine'"),
        ({"dp_size": 4}, None),
    ],
)
def test_meta_json_follows_the_rules_of_the_header(folder: Path, change: dict[str, Any], problem: str | None) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | change))
    expected = (
        f"DIR/meta.json: {problem}"
        if problem
        else "DIR: rank: step 0 has no rank 2, 3, expected each of the ranks 0..3 once per step"
    )
    assert refusal(folder) == expected


def test_a_damaged_table_is_refused(folder: Path) -> None:
    without_digests(folder)
    data = (folder / "steps.parquet").read_bytes()
    (folder / "steps.parquet").write_bytes(data[: len(data) // 2])
    assert refusal(folder).startswith("DIR/steps.parquet: is not a Parquet table: ")


NEEDED = "requests have no such column, expected request_id, prompt_tokens, output_tokens"
RANKS = "expected each of the ranks 0..1 once per step"


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (REQUESTS.drop("output_tokens"), f": output_tokens: {NEEDED}"),
        (REQUESTS.drop("request_id"), f": request_id: {NEEDED}"),
        (
            REQUESTS.rename({"prompt_tokens": "promt_tokens"}),
            "/requests.parquet: promt_tokens: is no column of this table, expected 'prompt_tokens'",
        ),
        (
            REQUESTS.with_columns(prompt_tokens=pl.Series([1.0, 2.5])),
            "/requests.parquet: prompt_tokens: 2.5 is not a whole number (row 2), expected a whole number",
        ),
        (
            REQUESTS.with_columns(prompt_tokens=pl.lit("5")),
            "/requests.parquet: prompt_tokens: has values of type String, expected numbers",
        ),
        (
            REQUESTS.with_columns(prompt_tokens=pl.lit(2**64 - 1, pl.UInt64)),
            "/requests.parquet: has numbers beyond 64 bits, expected numbers of up to 64 bits",
        ),
        (
            REQUESTS.with_columns(prompt_tokens=-1),
            ": prompt_tokens: -1 is negative (2 rows are bad: 1, 2), expected a whole number of at least 0",
        ),
        (
            REQUESTS.with_columns(prompt_tokens=MAX_TOKENS + 1),
            ": prompt_tokens: 1099511627777 is too large (2 rows are bad: 1, 2), expected at most 2**40",
        ),
        (REQUESTS.with_columns(request_id=1), ": request_id: 1 stands twice (row 2), expected unique ids"),
        (
            REQUESTS.with_columns(request_id=pl.Series(["a", None])),
            ": request_id: is missing (row 2), expected a value",
        ),
        (
            REQUESTS.with_columns(request_id=pl.Series([1.0, 2.0])),
            "/requests.parquet: request_id: has values of type Float64, expected whole numbers or strings",
        ),
        (REQUESTS.with_columns(rank=2), ": rank: 2 is out of range (2 rows are bad: 1, 2), expected a rank in 0..1"),
        (STEPS.head(3), f": rank: step 1 has no rank 1, {RANKS}"),
        (pl.concat([STEPS, STEPS.head(1)]), f": rank: step 0 has rank 0 twice, {RANKS}"),
        (
            STEPS.with_columns(rank=pl.col("rank") * 10**12),
            ": rank: 1000000000000 is out of range (2 rows are bad: 2, 4), expected a rank in 0..1",
        ),
        (
            STEPS.with_columns(kv_tokens=float("nan")),
            ": kv_tokens: nan is not a finite number (4 rows are bad: 1, 2, 3, 4), expected a number, or null for a gap",
        ),
        (
            STEPS.with_columns(step_ms=pl.Series([1.0, 2.0, 1.0, 1.0])),
            ": step_ms: step 0 has different values on its ranks, expected one value per step",
        ),
        (
            STEPS.drop("rank"),
            ": rank: steps have no such column, expected step, rank",
        ),
    ],
)
def test_a_bad_table_is_refused(folder: Path, frame: pl.DataFrame, problem: str) -> None:
    without_digests(folder)
    frame.write_parquet(folder / ("steps.parquet" if "step" in frame.columns else "requests.parquet"))
    assert refusal(folder) == f"DIR{problem}"


def test_failed_requests_are_excluded_and_counted(folder: Path) -> None:
    without_digests(folder)
    REQUESTS.with_columns(output_tokens=pl.Series([0, 3])).write_parquet(folder / "requests.parquet")
    trace = read_trace(str(folder))
    assert trace.num_requests == 1
    assert trace.meta.excluded == {"failed (0 output tokens)": 1}


def test_the_hash_covers_every_file_and_nothing_else(folder: Path) -> None:
    first = read_trace(str(folder)).meta.sha256
    (folder / "notes.txt").write_text("mine")
    assert read_trace(str(folder)).meta.sha256 == first
    (folder / "meta.json").write_text((folder / "meta.json").read_text() + " ")
    assert read_trace(str(folder)).meta.sha256 != first


def test_a_single_parquet_file_is_refused_with_the_form_that_is_read(folder: Path) -> None:
    path = folder / "steps.parquet"
    assert (
        refusal(path) == "DIR: the file is binary, expected a text trace, plain, gzip or zstd, or a Parquet directory"
    )
    with pytest.raises(InputError, match="is not a directory, expected a directory with a meta"):
        read_trace(str(path), format_name="parquet")


def test_whole_loads_are_written_as_whole_numbers_and_gaps_as_nulls() -> None:
    out = io.BytesIO()
    write_native(Trace.of(TraceMeta("x", "replay"), REQUESTS, STEPS), out)
    assert out.getvalue().splitlines()[1:] == [
        b'{"request_id":"a","prompt_tokens":5,"output_tokens":2}',
        b'{"request_id":"b","prompt_tokens":6,"output_tokens":3}',
        b'{"step":0,"kv_tokens":[5.5,6],"num_running":[1,1]}',
        b'{"step":1,"kv_tokens":[null,7],"num_running":[1,null]}',
    ]


def test_a_compressed_trace_has_the_same_bytes_whatever_its_name_and_time(tmp_path: Path) -> None:
    trace = Trace.of(TraceMeta("x", "replay"), REQUESTS, STEPS)
    write_native(trace, tmp_path / "a.jsonl.gz")
    write_native(trace, str(tmp_path / "b.jsonl.gz"))
    write_native(trace, tmp_path / "c.jsonl")
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    assert packed == (tmp_path / "b.jsonl.gz").read_bytes()
    assert packed[3] == 0  # no name
    assert packed[4:8] == bytes(4)  # no time
    assert gzip.decompress(packed) == (tmp_path / "c.jsonl").read_bytes()


FINITE = st.floats(-1e15, 1e15)
LOADS = st.one_of(st.none(), st.floats(0, 1e15), st.integers(0, 10**15).map(float))
COUNTS = st.one_of(st.none(), st.integers(0, MAX_TOKENS))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FINITE | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def request_tables(draw: st.DrawFn, dp_size: int) -> pl.DataFrame:
    ids = draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5, unique=True))
    as_text = draw(st.booleans())
    values: dict[str, st.SearchStrategy[Any]] = {
        "arrival_ms": FINITE,
        "prompt_tokens": st.integers(0, MAX_TOKENS),
        "output_tokens": st.integers(1, MAX_TOKENS),
        "rank": st.none() | st.integers(0, dp_size - 1),
        **{name: st.none() | FINITE for name in ("admitted_ms", "first_token_ms", "finish_ms")},
    }
    optional = draw(st.sets(st.sampled_from(sorted(values.keys() - {"prompt_tokens", "output_tokens"}))))
    drawn = {
        name: [draw(values[name]) for _ in ids]
        for name in REQUEST_COLUMNS
        if name in optional or name.endswith("t_tokens")
    }
    times = [name for name in TIMES_IN_ORDER if name in drawn]
    for row in range(len(ids)):
        known = [name for name in times if drawn[name][row] is not None]
        for name, value in zip(known, sorted(drawn[name][row] for name in known), strict=True):
            drawn[name][row] = value
    columns = {name: pl.Series(column, dtype=REQUEST_COLUMNS[name]) for name, column in drawn.items()}
    return pl.DataFrame({"request_id": [str(one) for one in ids] if as_text else ids, **columns})


@st.composite
def step_tables(draw: st.DrawFn, dp_size: int) -> pl.DataFrame:
    steps = draw(st.lists(st.integers(0, MAX_TOKENS), min_size=1, max_size=4, unique=True))
    values = {
        "kv_tokens": LOADS,
        "num_running": COUNTS,
        "num_waiting": COUNTS,
        "prefill_tokens": COUNTS,
        "prefill_pairs": LOADS,
        "compute_ms": LOADS,
    }
    per_step = {"step_ms": st.none() | st.floats(1e-9, 1e15), "start_ms": st.none() | FINITE}
    optional = draw(st.sets(st.sampled_from([*values, *per_step, "padded_running"])))
    columns: dict[str, Any] = {
        "step": [one for one in steps for _ in range(dp_size)],
        "rank": list(range(dp_size)) * len(steps),
    }
    for name in dict.fromkeys(("kv_tokens", "num_running", *sorted(optional))):
        if name == "padded_running":
            columns[name] = [draw(st.none() | st.just(MAX_TOKENS)) for _ in range(len(steps) * dp_size)]
        elif name in values:
            columns[name] = [draw(values[name]) for _ in range(len(steps) * dp_size)]
        else:
            columns[name] = [one for _ in steps for one in [draw(per_step[name])] * dp_size]
    return pl.DataFrame({name: pl.Series(column, dtype=STEP_COLUMNS[name]) for name, column in columns.items()})


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    dp_size = draw(st.integers(1, 4))
    has_requests, has_steps = draw(st.sampled_from([(True, True), (True, False), (False, True)]))
    words = st.none() | st.text(max_size=5)
    meta = TraceMeta(
        "x",
        "replay",
        kind=draw(st.sampled_from(["recorded", "replayed"])),
        engine=draw(words),
        dp_size=dp_size,
        max_num_seqs=draw(st.none() | st.just(MAX_TOKENS)),
        time_unit=draw(words),
        time_origin=draw(words),
        seed=draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        step_model=draw(st.none() | st.dictionaries(st.text(max_size=5), JSON, max_size=2)),
        config=draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2)),
        excluded=draw(st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=2)),
        warnings=tuple(draw(st.lists(st.text(max_size=5), max_size=2))),
    )
    return Trace.of(
        meta,
        draw(request_tables(dp_size)) if has_requests else None,
        draw(step_tables(dp_size)) if has_steps else None,
    )


def content(trace: Trace) -> tuple[object, ...]:
    """What must be the same after writing and reading: metadata, types, and values to the last bit."""
    frames = [None if frame is None else (frame.schema, frame.rows()) for frame in (trace.requests, trace.steps)]
    kept = {name: value for name, value in vars(trace.meta).items() if name not in ("source", "format", "sha256")}
    return kept, *frames


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(trace=traces())
def test_any_trace_is_read_back_as_it_was_written(tmp_path: Path, trace: Trace) -> None:
    out = io.BytesIO()
    write_native(trace, out)
    native = read_trace("-", stdin=io.BytesIO(out.getvalue()))
    assert content(native) == content(trace)
    for name in ("requests", "steps"):
        (tmp_path / f"{name}.parquet").unlink(missing_ok=True)
    write_parquet(native, tmp_path)
    assert content(read_trace(str(tmp_path))) == content(trace)

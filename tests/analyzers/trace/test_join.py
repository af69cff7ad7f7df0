"""Files of ranks as one trace: which files, whose records, which run, which of them are of one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from forward_passes import record

from lbal.analyzers.errors import InputError, UsageError
from lbal.analyzers.trace.formats import ReadOptions, read_trace
from lbal.analyzers.trace.sources import source_names
from lbal.analyzers.trace.trace import Trace


@pytest.fixture
def logs(tmp_path: Path):
    """Writes files of records and returns their folder."""

    def write(**files: list[str]) -> Path:
        for name, lines in files.items():
            (tmp_path / f"{name}.log").write_text("".join(lines))
        return tmp_path

    return write


def loads(trace: Trace) -> list[list[float | None]]:
    """KV tokens by step and rank."""
    values = trace.step_arrays().kv_tokens
    return [[None if np.isnan(value) else value for value in row] for row in values]


@pytest.mark.parametrize("how", ["list", "directory", "glob"])
def test_one_file_a_rank_reads_as_one_file_of_all(how: str, logs) -> None:
    folder = logs(a=[record(0, 1, kv_tokens=5), record(0, 2, kv_tokens=6)], b=[record(1, 1, kv_tokens=7), record(1, 2)])
    names = {"list": [folder / "a.log", folder / "b.log"], "directory": folder, "glob": f"{folder}/*.log"}
    trace = read_trace(names[how])
    assert loads(trace) == [[5, 7], [6, 64]]
    assert [(Path(source["name"]).name, source["ranks"]) for source in trace.meta.sources] == [
        ("a.log", [0]),
        ("b.log", [1]),
    ]


def test_a_rank_in_two_files_is_refused_with_both_names(logs) -> None:
    folder = logs(a=[record(0, 1)], b=[record(0, 1)])
    with pytest.raises(InputError, match=r"b\.log: has rank 0, which .*a\.log has too"):
        read_trace(folder)


def test_the_rank_of_a_file_may_be_read_from_its_name_against_its_lines(logs) -> None:
    folder = logs(pod_7=[record(0, 1, kv_tokens=3)], pod_4=[record(0, 1, kv_tokens=4)])
    trace = read_trace(folder, options=ReadOptions(rank_regex=r"pod_(\d+)\.log"))
    assert (trace.meta.ranks_seen, trace.meta.dp_size) == ((4, 7), 8)
    assert loads(trace) == [[None] * 4 + [4, None, None, 3]]


def test_a_step_that_a_rank_did_not_log_is_null_there(logs) -> None:
    trace = read_trace(logs(a=[record(0, 1), record(0, 2), record(1, 2), record(1, 3)]))
    assert loads(trace) == [[64, None], [64, 64], [None, 64]]


def test_of_a_log_with_restarts_the_longest_run_is_read(logs) -> None:
    lines = [
        record(rank, step, kv_tokens=run) for run, steps in ((1, 2), (2, 3)) for step in range(steps) for rank in (0, 1)
    ]
    folder = logs(a=lines)
    trace = read_trace(folder)
    assert loads(trace) == [[2, 2]] * 3
    assert trace.meta.excluded == {"records of other runs": 4}
    assert "run 1 is read, the longest, with 6 of 10 records" in trace.meta.warnings[0]
    assert loads(read_trace(folder, options=ReadOptions(run_index=0))) == [[1, 1]] * 2
    with pytest.raises(UsageError, match="there is no run 2, expected 0 to 1"):
        read_trace(folder, options=ReadOptions(run_index=2))


def test_files_of_a_directory_that_are_no_trace_are_counted_and_named(logs) -> None:
    folder = logs(a=[record(0, 1)], notes=["hello\n"])
    (folder / "picture.png").write_bytes(b"\x89PNG\0")
    trace = read_trace(folder)
    assert trace.meta.excluded == {"files that are no trace": 2}
    assert "notes.log" in trace.meta.warnings[-1]
    with pytest.raises(InputError, match=r"notes\.log: its content is no known trace format"):
        read_trace([folder / "a.log", folder / "notes.log"])


def test_a_directory_without_any_trace_is_refused_with_the_reasons(logs) -> None:
    with pytest.raises(InputError, match=r"none of 2 files is a trace \(.*a\.log: its content is no known"):
        read_trace(logs(a=["hello\n"], b=["world\n"]))


def test_files_of_several_formats_are_refused_by_name(logs) -> None:
    folder = logs(a=[record(0, 1)], b=["input_length,output_length\n", "5,6\n"])
    with pytest.raises(InputError, match=r"several formats \(fpm: .*a\.log; lengths: .*b\.log\)"):
        read_trace(folder)
    assert read_trace(folder, format_name="fpm").meta.format == "fpm"


def test_files_stand_in_natural_order_each_once(tmp_path: Path) -> None:
    for name in ("rank_10.log", "rank_2.log", ".hidden", "x.jsonl"):
        (tmp_path / name).touch()
    found = source_names(tmp_path)
    assert [(Path(item.name).name, item.rank) for item in found] == [
        ("rank_2.log", 2),
        ("rank_10.log", 10),
        ("x.jsonl", None),
    ]
    with pytest.raises(InputError, match="stands twice"):
        source_names([tmp_path, tmp_path / "x.jsonl"])


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("server-DP3.log", 3),
        ("dp3.log", 3),
        ("vllm_dp_rank_12.log", 12),
        ("EngineCore_DP3", 3),
        ("rank3/stdout.log", 3),
        ("dp8/rank_3.log", 3),
        ("x_dp1_pp0_tp2_rank5.log", 1),
        ("frankfurt.log", None),
        ("update7.log", None),
    ],
)
def test_ranks_are_read_from_names(name: str, rank: int | None) -> None:
    assert source_names([name, "-"])[0].rank == rank


@pytest.mark.parametrize("regex", ["(", "x", "(x)(y)"])
def test_a_pattern_for_ranks_has_one_group(regex: str) -> None:
    with pytest.raises(UsageError, match=r"^rank_regex: "):
        source_names(["a", "b"], regex)

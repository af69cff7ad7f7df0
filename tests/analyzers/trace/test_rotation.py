"""A log that was rotated is one log; the same rank twice at one time is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from forward_passes import record
from vllm_lines import iteration, periodic, seconds, started

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import ReadOptions, read_trace
from lbal.analyzers.trace.reading.rotation import rotated_stems

CLOCKS = seconds(range(0, 240, 2))


def lines(steps: range, ranks: range = range(2), generation: str = "C") -> str:
    return "".join(
        iteration(generation, rank, step, 1 + step + rank, clock=CLOCKS[step]) for step in steps for rank in ranks
    )


@pytest.fixture
def rotated(tmp_path: Path) -> Path:
    """Three pieces of a log, of which the oldest ones are compressed and the first has the start of the server."""
    (tmp_path / "server.log.2.gz").write_bytes(gzip.compress((started("C", 2) + lines(range(40))).encode()))
    packed = zstandard.ZstdCompressor().compress(lines(range(40, 80)).encode())
    (tmp_path / "server.log.1.zst").write_bytes(packed)
    (tmp_path / "server.log").write_text(lines(range(80, 120)))
    return tmp_path


def test_the_pieces_of_a_rotated_log_read_as_the_whole_one(rotated: Path, tmp_path: Path) -> None:
    trace = read_trace(rotated)
    (tmp_path / "whole").mkdir()
    whole = tmp_path / "whole" / "server.log"
    whole.write_text(started("C", 2) + lines(range(120)))
    assert trace.steps.equals(read_trace(whole).steps)
    assert trace.meta.kv_capacity == 100_000
    assert trace.meta.engine_version == "0.33.0"
    assert not trace.meta.excluded
    assert any(
        text.startswith("files with the same ranks that follow one another are read as one log: ")
        and text.index("server.log.2.gz") < text.index("server.log.1.zst")
        for text in trace.meta.warnings
    )
    assert [source["ranks"] for source in trace.meta.sources] == [[0, 1]] * 3


def test_pieces_of_each_rank_are_joined_rank_by_rank(tmp_path: Path) -> None:
    for rank in (0, 1):
        (tmp_path / f"pod-{rank}.log.1").write_text(lines(range(60), range(rank, rank + 1)))
        (tmp_path / f"pod-{rank}.log").write_text(lines(range(60, 120), range(rank, rank + 1)))
    running = read_trace(tmp_path).step_arrays().num_running
    assert running.tolist() == [[1 + step, 2 + step] for step in range(120)]


def test_hourly_files_are_one_log_by_their_times_whatever_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.log").write_text(lines(range(60)))
    (tmp_path / "a.log").write_text(lines(range(60, 120)))
    assert read_trace(tmp_path).num_steps == 120


def test_a_restart_between_two_pieces_is_another_run(tmp_path: Path) -> None:
    first = "".join(periodic(0, 5, 0, 50, clock) for clock in CLOCKS[:50:5])
    (tmp_path / "server.log.1").write_text(started("C", 1) + first)
    (tmp_path / "server.log").write_text(
        started("C", 1) + "".join(periodic(0, 7, 0, 50, clock) for clock in CLOCKS[50:75:5])
    )
    trace = read_trace(tmp_path)
    assert set(trace.step_arrays().num_running.ravel()) == {5}
    assert trace.meta.excluded == {"records of other runs": 5}
    assert set(read_trace(tmp_path, options=ReadOptions(run_index=1)).step_arrays().num_running.ravel()) == {7}


def test_a_rotated_log_may_pass_a_year_that_its_clock_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "server.log.1").write_text("".join(periodic(0, 5, 0, 50, f"12-31 23:59:{at}") for at in (30, 40, 50)))
    (tmp_path / "server.log").write_text("".join(periodic(0, 6, 0, 50, f"01-01 00:00:{at}") for at in ("00", 10)))
    steps = read_trace(tmp_path).step_arrays()
    assert steps.num_running.ravel().tolist() == [5, 5, 5, 6, 6]
    assert steps.start_ms.tolist() == [0, 10_000, 20_000, 30_000, 40_000]


def test_a_rank_that_two_files_have_at_one_time_is_refused_with_both_names(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(lines(range(60)))
    (tmp_path / "b.log").write_text(lines(range(59, 120)))
    with pytest.raises(InputError, match=r"b\.log: has rank 0, which .*a\.log has too"):
        read_trace(tmp_path)


def test_without_times_the_numbers_of_steps_tell_what_follows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(record(0, 1) + record(0, 2))
    (tmp_path / "b.jsonl").write_text(record(0, 3))
    assert read_trace(tmp_path).num_steps == 3
    (tmp_path / "b.jsonl").write_text(record(0, 2))
    with pytest.raises(InputError, match="has rank 0"):
        read_trace(tmp_path)


def test_pieces_without_a_rank_in_line_or_name_are_one_rank_a_log(tmp_path: Path) -> None:
    for server in ("left", "right"):
        for name, steps in ((f"{server}.log.1", CLOCKS[:20]), (f"{server}.log", CLOCKS[20:40])):
            count = len(server)
            (tmp_path / name).write_text("".join(periodic(None, count, 0, 50, clock) for clock in steps))
    trace = read_trace(tmp_path)
    assert trace.step_arrays().num_running.tolist() == [[4, 5]] * 40
    assert any("the 2 logs are taken for ranks 0 to 1" in text for text in trace.meta.warnings)


def test_scrapes_in_several_files_are_looks_one_after_the_other(tmp_path: Path) -> None:
    for name, second in (("scrapes-2026082210.txt", 0), ("scrapes-2026082211.txt", 3600)):
        text = "".join(
            f"{1_780_000_000 + second + 10 * look}\n"
            + "".join(f'vllm:num_requests_running{{engine="{rank}"}} {look + second + rank}.0\n' for rank in (0, 1))
            for look in range(3)
        )
        (tmp_path / name).write_text(text)
    expected = [[look + second, look + second + 1] for second in (0, 3600) for look in range(3)]
    assert read_trace(tmp_path).step_arrays().num_running.tolist() == expected


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["x/server.log", "x/server.log.1", "x/server.log.2.gz"], ["x/server.log"] * 3),
        (["server.log.0", "server.log.1"], ["server.log.0", "server.log.1"]),
        (["a-20260822.log.zst", "a-20260823.log", "a.log"], ["a.log"] * 3),
        (["m-20260822_10.log", "m-20260822_11.log"], ["m.log"] * 2),
        (["s.log.2026-08-22_10", "s.log.2026-08-22_11"], ["s.log"] * 2),
        (["rank3.log", "rank4.log"], ["rank3.log", "rank4.log"]),
    ],
)
def test_names_tell_the_log_of_which_a_file_is_a_piece(names: list[str], stems: list[str]) -> None:
    assert rotated_stems(names) == stems


def test_ranks_of_one_time_and_pieces_of_one_rank_go_together(tmp_path: Path) -> None:
    (tmp_path / "all.log.1").write_text(lines(range(60)))
    (tmp_path / "all.log").write_text(lines(range(60, 120)))
    (tmp_path / "other.log").write_text(lines(range(120), range(2, 3)))
    running = read_trace(tmp_path).step_arrays().num_running
    assert running.shape == (120, 3)
    assert not np.isnan(running).any()


def finished(name: str, second: int, rank: int, prompt: int = 10) -> str:
    info = {"id": name, "prompt_tokens": prompt, "completion_tokens": 5, "dp_rank": rank}
    info |= {"request_received_ts": 1_780_000_000.0 + second, "e2e_latency": 2.0}
    return json.dumps({"event": "request.finished", "rid": name, "out": {"meta_info": info}}) + "\n"


def test_hourly_request_logs_are_one_workload_in_order_of_arrival(tmp_path: Path) -> None:
    received = '{"event": "request.received", "rid": "late"}\n'
    (tmp_path / "node_0.log.2026-08-22_10").write_text(finished("a", 0, 0) + finished("c", 3599, 1) + received)
    (tmp_path / "node_0.log.2026-08-22_11").write_text(finished("d", 3700, 1) + finished("b", 3598, 0).strip())
    (tmp_path / "node_1.log.2026-08-22_10.gz").write_bytes(gzip.compress(finished("e", 10, 2).encode()))
    trace = read_trace(tmp_path)
    assert trace.requests["request_id"].to_list() == ["a", "e", "b", "c", "d"]
    assert trace.requests["rank"].to_list() == [0, 2, 0, 1, 1]
    assert any("3 files are read as one request log" in text for text in trace.meta.warnings)


def test_a_fault_in_a_piece_names_its_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(finished("a", 0, 0) * 3)
    (tmp_path / "b.log").write_text(finished("b", 1, 0) + finished("c", 2, 0, prompt=-4))
    with pytest.raises(InputError, match=r"b\.log:2: "):
        read_trace(tmp_path)


def test_traces_of_formats_without_pieces_are_not_joined(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("input_length,output_length\n5,6\n")
    with pytest.raises(InputError, match="lengths traces cannot be joined"):
        read_trace(tmp_path)

"""A trace larger than memory is validated and converted piece by piece, with the same outcome as in one go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lbal.analyzers.trace import source as source_module
from lbal.analyzers.trace.formats import ReadOptions, folding, read_trace
from lbal.cli.main import run

HEADER = {"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 9}


def step(number, **changes):
    record = {"step": number, "step_ms": 30, "start_ms": number * 40, "kv_tokens": [5, 6.5], "num_running": [1, None]}
    return {**record, **changes}


def request(number, **changes):
    return {"request_id": number, "arrival_ms": number, "prompt_tokens": 3, "output_tokens": 2, **changes}


def written(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def in_small_pieces(monkeypatch):
    monkeypatch.setattr(folding, "FOLD_ABOVE_BYTES", 0)
    monkeypatch.setattr(folding, "PIECE_BYTES", 400)
    monkeypatch.setattr(source_module, "HEAD_BYTES", 200)


@pytest.fixture
def small_pieces(monkeypatch):
    in_small_pieces(monkeypatch)


STEPS = [step(number) for number in range(40)]
REQUESTS = [request(number) for number in range(30)]
TRACES = {
    "steps": [HEADER, *STEPS],
    "requests first": [HEADER, *REQUESTS, *STEPS],
    "requests last": [HEADER, *STEPS, *REQUESTS],
    "requests in between": [HEADER, *STEPS[:20], *REQUESTS, *STEPS[20:]],
    "requests out of order": [HEADER, *reversed(REQUESTS), *STEPS],
    "failed requests": [HEADER, request(99, output_tokens=0), *REQUESTS, *STEPS],
    "no dp_size": [{"lbal_trace": 1}, *STEPS],
    "an unseen rank": [HEADER, *[step(number, kv_tokens=[5, None]) for number in range(40)]],
    "steps out of order": [HEADER, *reversed(STEPS)],
    "clocks that run backwards": [HEADER, *STEPS[:30], step(30, start_ms=1), *STEPS[31:]],
    "gaps in the clock": [HEADER, *[step(number, start_ms=None) for number in range(40)]],
}


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_pieces_are_converted_to_the_same_bytes(tmp_path, capsys, monkeypatch, name, suffix):
    path = written(tmp_path / "t.jsonl", *TRACES[name])
    assert run(["convert", path, str(tmp_path / f"whole{suffix}")]) == 0
    assert run(["validate", path, "--json"]) == 0
    whole = capsys.readouterr()
    in_small_pieces(monkeypatch)
    assert run(["convert", path, str(tmp_path / f"pieces{suffix}")]) == 0
    assert run(["validate", path, "--json"]) == 0
    pieces = capsys.readouterr()
    assert (tmp_path / f"pieces{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert pieces.out == whole.out
    assert pieces.err.replace("pieces.", "whole.") == whole.err


BAD = {
    "twice": [HEADER, *STEPS, step(39)],
    "too few": [HEADER, *STEPS, step(40, kv_tokens=[1])],
    "negative": [HEADER, *STEPS, step(40, kv_tokens=[1, -1])],
    "other fields": [HEADER, *STEPS, {"step": 40, "kv_tokens": [1, 2], "num_running": [1, 1]}],
    "a rank that is none": [HEADER, *STEPS, request(1, rank=5)],
    "an id that stands twice": [HEADER, *STEPS, request(1), request(1)],
    "more than fit": [HEADER, *STEPS, step(40, num_running=[10, 1])],
    "a line that is none": [HEADER, *STEPS, [1]],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["validate", "convert"])
def test_pieces_are_refused_with_the_same_words(tmp_path, capsys, monkeypatch, name, command):
    path = written(tmp_path / "t.jsonl", *BAD[name])
    arguments = [command, path, *([str(tmp_path / "out.jsonl")] if command == "convert" else [])]
    assert run(arguments) == 2
    whole = capsys.readouterr().err
    in_small_pieces(monkeypatch)
    assert run(arguments) == 2
    assert capsys.readouterr().err == whole
    assert not (tmp_path / "out.jsonl").exists()


def test_the_survey_is_taken_where_it_can_be(tmp_path, small_pieces):
    found = folding.survey(written(tmp_path / "t.jsonl", *TRACES["requests first"]), None, ReadOptions())
    assert found is not None
    assert (found.num_steps, found.trace.num_requests) == (40, 30)
    assert len(list(found.step_pieces())) > 5
    assert folding.survey(written(tmp_path / "u.jsonl", *TRACES["steps out of order"]), None, ReadOptions()) is None
    assert folding.survey("-", None, ReadOptions()) is None


@pytest.mark.parametrize("name", sorted(TRACES.keys() - {"steps out of order", "clocks that run backwards"}))
def test_a_compact_trace_has_the_steps_and_requests_of_the_whole_one(tmp_path, monkeypatch, name):
    path = written(tmp_path / "t.jsonl", *TRACES[name])
    whole = read_trace(path)
    in_small_pieces(monkeypatch)
    compact = folding.read_compact(path, None, ReadOptions())
    assert compact is not None
    assert compact.steps is None
    assert compact.meta == whole.meta
    assert compact.num_steps == whole.num_steps
    assert (compact.requests is None) == (whole.requests is None)
    if whole.requests is not None:
        assert compact.requests.equals(whole.requests)
    expected = vars(whole.step_arrays())
    for field, array in vars(compact.step_arrays()).items():
        assert (array is None) == (expected[field] is None), field
        if array is not None:
            np.testing.assert_array_equal(array, expected[field])


@pytest.mark.parametrize(
    "flags", [[], ["--max-num-seqs", "9"], ["--bands"], ["-o", "c.html", "-o", "c.perfetto.json", "--force"]]
)
def test_a_compact_trace_is_analyzed_to_the_same_bytes(tmp_path, capsys, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    full = [step(number, num_running=[9, 9], compute_ms=[3 + number % 5, 4.5]) for number in range(80)]
    path = written(tmp_path / "t.jsonl", {**HEADER, "max_num_seqs": 9}, *full)
    assert run(["analyze", path, "--json", *flags]) == 0
    whole = capsys.readouterr()
    in_small_pieces(monkeypatch)
    assert run(["analyze", path, "--json", *flags]) == 0
    assert capsys.readouterr() == whole


def test_a_file_that_changes_between_the_passes_is_refused_and_nothing_is_written(
    tmp_path, capsys, monkeypatch, small_pieces
):
    path = tmp_path / "t.jsonl"
    written(path, *TRACES["steps"])
    inner = folding.survey

    def survey(*arguments):
        found = inner(*arguments)
        written(path, HEADER, *STEPS[:-1])
        return found

    monkeypatch.setattr(folding, "survey", survey)
    assert run(["convert", str(path), str(tmp_path / "out.jsonl")]) == 2
    assert "was changed while it was read" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


MEASURE = """
import resource, sys
from lbal.cli.main import run
code = run(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
@pytest.mark.parametrize(("command", "growth"), [("validate", 60), ("convert", 60), ("analyze", 420)])
def test_memory_is_bounded(tmp_path, command, growth):
    """Whole, 80 MB more take some 800 MB more: nothing of that piece by piece, half of it as arrays alone."""
    peaks = []
    for megabytes in (40, 120):
        path = tmp_path / f"{megabytes}.jsonl"
        lists = ",".join(str(100_000 + rank) for rank in range(256)), ",".join(["41"] * 256)
        line = f',"kv_tokens":[{lists[0]}],"num_running":[{lists[1]}]}}\n'
        with path.open("w") as file:
            file.write('{"lbal_trace": 1}\n')
            for number in range(megabytes * 1_000_000 // len(line)):
                file.write(f'{{"step":{number}{line}')
        target = [str(tmp_path / "out.jsonl"), "--force"] if command == "convert" else []
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, command, str(path), *target],
            capture_output=True,
            text=True,
            check=True,
            env=dict(os.environ),
        )
        code, peak = done.stderr.split()[-2:]
        assert code == "0"
        peaks.append(int(peak) / 1024)
    assert peaks[1] < peaks[0] + growth, peaks


def test_the_whole_reading_sees_the_same_trace(tmp_path):
    path = written(tmp_path / "t.jsonl", *TRACES["requests in between"])
    trace = read_trace(path)
    assert (trace.num_steps, trace.num_requests) == (40, 30)
    assert Path(path).exists()

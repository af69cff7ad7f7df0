"""A trace larger than memory is read block by block, with the same outcome as in one go."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from lbal.analyzers.trace import source as source_module
from lbal.analyzers.trace.formats import ReadOptions, native, read_trace
from lbal.analyzers.trace.reading import step_spool
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


def in_small_blocks(monkeypatch):
    monkeypatch.setattr(native, "PIECE_BYTES", 400)
    monkeypatch.setattr(step_spool, "KEEP_BYTES", 1000)
    monkeypatch.setattr(source_module, "HEAD_BYTES", 200)


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
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_blocks_are_converted_to_the_same_bytes(tmp_path, capsys, monkeypatch, name, suffix):
    path = written(tmp_path / "t.jsonl", *TRACES[name])
    assert run(["convert", path, str(tmp_path / f"whole{suffix}")]) == 0
    assert run(["validate", path, "--json"]) == 0
    whole = capsys.readouterr()
    in_small_blocks(monkeypatch)
    assert run(["convert", path, str(tmp_path / f"blocks{suffix}")]) == 0
    assert run(["validate", path, "--json"]) == 0
    blocks = capsys.readouterr()
    for name, written_at_once in contents(tmp_path / f"whole{suffix}").items():
        assert contents(tmp_path / f"blocks{suffix}")[name] == written_at_once, name
    assert blocks.out == whole.out
    assert blocks.err.replace("blocks.", "whole.") == whole.err


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()} if path.is_dir() else {"": path.read_bytes()}


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_a_stream_is_read_like_a_file(tmp_path, capsys, monkeypatch, name, packed):
    path = written(tmp_path / "t.jsonl", *TRACES[name])
    assert run(["convert", path, "-"]) == 0
    whole = capsys.readouterr().out
    data = Path(path).read_bytes()
    data = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[packed](data)
    in_small_blocks(monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run(["convert", "-", "-"]) == 0
    assert capsys.readouterr().out == whole


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
def test_blocks_are_refused_with_the_same_words(tmp_path, capsys, monkeypatch, name, command):
    path = written(tmp_path / "t.jsonl", *BAD[name])
    arguments = [command, path, *([str(tmp_path / "out.jsonl")] if command == "convert" else [])]
    assert run(arguments) == 2
    whole = capsys.readouterr().err
    in_small_blocks(monkeypatch)
    assert run(arguments) == 2
    assert capsys.readouterr().err == whole
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", TRACES)
def test_blocks_hold_the_steps_and_requests_of_the_whole_trace(tmp_path, monkeypatch, name):
    path = written(tmp_path / "t.jsonl", *TRACES[name])
    whole = read_trace(path)
    in_small_blocks(monkeypatch)
    trace = read_trace(path, options=ReadOptions(steps="blocks"))
    assert trace.steps is None
    assert len(list(trace.blocks)) > 5 or name == "steps out of order"
    assert trace.meta == whole.meta
    assert trace.num_steps == whole.num_steps
    assert (trace.requests is None) == (whole.requests is None)
    if whole.requests is not None:
        assert trace.requests.equals(whole.requests)
    expected = vars(whole.step_arrays())
    for _time in range(2):
        for field, array in vars(trace.step_arrays()).items():
            assert (array is None) == (expected[field] is None), field
            if array is not None:
                np.testing.assert_array_equal(array, expected[field])


def test_blocks_are_put_together_once(tmp_path, monkeypatch):
    path = written(tmp_path / "t.jsonl", *TRACES["steps"])
    in_small_blocks(monkeypatch)
    trace = read_trace(path, options=ReadOptions(steps="blocks"))
    assert trace.step_arrays() is trace.step_arrays()


@pytest.mark.parametrize(
    "flags", [[], ["--max-num-seqs", "9"], ["--bands"], ["-o", "c.html", "-o", "c.perfetto.json", "--force"]]
)
def test_blocks_are_analyzed_to_the_same_bytes(tmp_path, capsys, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    full = [step(number, num_running=[9, 9], compute_ms=[3 + number % 5, 4.5]) for number in range(80)]
    path = written(tmp_path / "t.jsonl", {**HEADER, "max_num_seqs": 9}, *full)
    assert run(["analyze", path, "--json", *flags]) == 0
    whole = capsys.readouterr()
    in_small_blocks(monkeypatch)
    assert run(["analyze", path, "--json", *flags]) == 0
    assert capsys.readouterr() == whole


MEASURE = """
import resource, sys
from lbal.cli.main import run
code = run(sys.argv[1:])
print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
@pytest.mark.parametrize(("command", "growth"), [("validate", 60), ("convert", 60), ("analyze", 420)])
def test_memory_is_bounded(tmp_path, command, growth):
    """Whole, 80 MB more take some 800 MB more: nothing of that block by block."""
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

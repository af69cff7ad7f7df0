"""A trace larger than memory is read block by block, with the same outcome as in one go."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace import source as source_module
from lbal.analyzers.trace import step_blocks
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
    monkeypatch.setattr(step_blocks, "BLOCK_CELLS", 20)
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
FAULTS = {
    "too few": {"kv_tokens": [1]},
    "negative": {"kv_tokens": [1, -1]},
    "no whole number": {"num_running": [1, 0.5]},
    "more than fit": {"num_running": [10, 11]},
    "too large": {"kv_tokens": [1e18, 1e18]},
    "a field more": {"wait_ms": [1, 1]},
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


def lines_told(capsys, path):
    """What `lbal validate` says of a file that it refuses."""
    assert run(["validate", path]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize("fault", FAULTS)
def test_all_bad_steps_are_counted_in_blocks_and_at_once(tmp_path, capsys, monkeypatch, fault):
    steps = [step(number, **(FAULTS[fault] if number % 6 == 5 else {})) for number in range(40)]
    path = written(tmp_path / "t.jsonl", HEADER, *steps)
    told = lines_told(capsys, path)
    assert f"{path}:7: " in told
    assert "(6 lines are bad: 7, 13, 19, 25, 31, …)" in told
    assert f"{path}:7: " in (at_once := refusal(path))
    assert "(6 lines are bad: 7, 13, 19, 25, 31, …)" in at_once
    in_small_blocks(monkeypatch)
    assert lines_told(capsys, path) == told


def refusal(path):
    """What reading the steps as one table says."""
    with pytest.raises(InputError) as caught:
        read_trace(path)
    return str(caught.value)


def test_all_steps_that_stand_twice_are_counted(tmp_path, capsys, monkeypatch):
    path = written(tmp_path / "t.jsonl", HEADER, *STEPS, *STEPS[38:], STEPS[39])
    told = lines_told(capsys, path)
    assert f"{path}:42: step: 38 stands twice (3 lines are bad: 42, 43, 44), expected one line per step" in told
    in_small_blocks(monkeypatch)
    assert lines_told(capsys, path) == told


@pytest.mark.parametrize(
    "changes",
    [{"prompt_tokens": -1}, {"finish_ms": -5.0}, {"arrival_ms": None}, {"rank": 7}, {"arrival_ms": 1e18}, {"more": 1}],
)
def test_all_bad_requests_are_counted(tmp_path, capsys, monkeypatch, changes):
    known = {"finish_ms": 99.0, "rank": 1}
    requests = [request(number, **known) for number in range(30)]
    for number in range(4, 30, 4):
        requests[number].update(changes)
    path = written(tmp_path / "t.jsonl", HEADER, *requests)
    told = lines_told(capsys, path)
    assert f"{path}:6: " in told
    assert "(7 lines are bad: 6, 10, 14, 18, 22, …)" in told
    in_small_blocks(monkeypatch)
    assert lines_told(capsys, path) == told


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


def assert_close(found, expected, place="result"):
    """Equal but for the order in which numbers were added up."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key, value in expected.items():
            assert_close(found[key], value, f"{place}.{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for index, value in enumerate(expected):
            assert_close(found[index], value, f"{place}[{index}]")
    elif isinstance(expected, float):
        rounded = ".series." in place  # to nine digits
        assert found == pytest.approx(expected, rel=1e-8 if rounded else 1e-12, abs=1e-12), place
    else:
        assert found == expected, place


def run_of_steps(count=300):
    """Steps with all that an analysis may look at, a gap and a step without work among them."""
    rng = np.random.default_rng(5)
    for number in range(count):
        running = rng.integers(0, 9, 2).tolist()
        tokens = [count * int(rng.integers(50, 90)) for count in running]
        own_ms = [
            2.0 + 0.01 * held + 0.3 * count + float(rng.random()) for held, count in zip(tokens, running, strict=True)
        ]
        if number == 40:
            tokens[0] = None
        if number == 50:
            running, tokens = [0, 0], [0, 0]
        times = {"step_ms": max(own_ms) + 5, "start_ms": number * 50}
        loads = {"kv_tokens": tokens, "num_running": running, "num_waiting": [0, number % 3], "compute_ms": own_ms}
        yield {"step": number, **times, **loads}


def without(steps, *fields):
    return [{name: value for name, value in record.items() if name not in fields} for record in steps]


SERVED = [
    request(number, admitted_ms=60 * number, finish_ms=60 * number + 400, output_tokens=9) for number in range(200)
]
ANALYZED = {
    "all is known": list(run_of_steps()),
    "modelled": without(run_of_steps(), "compute_ms"),
    "no times": without(run_of_steps(), "compute_ms", "step_ms"),
    "no clock": without(run_of_steps(), "start_ms"),
    "no tokens": without(run_of_steps(), "kv_tokens"),
    "no requests": without(run_of_steps(), "num_running"),
    "served requests": [*run_of_steps(), *SERVED],
    "one rank unseen": [
        {**record, "kv_tokens": [None, record["kv_tokens"][1]], "num_running": [None, record["num_running"][1]]}
        for record in run_of_steps()
    ],
    "steps that overlap": [{**record, "start_ms": record["start_ms"] / 9} for record in run_of_steps()],
    "prefill on some ranks": [
        {**record, "prefill_tokens": [0, 64 * (record["step"] % 5 == 0)]} for record in run_of_steps()
    ],
    "a clock that runs backwards": [*run_of_steps(), step(300, start_ms=1, num_waiting=[0, 0], compute_ms=[1, 2])],
    "in any order": sorted(run_of_steps(), key=lambda record: record["step"] * 7 % 300),
}


NOT_WHOLE = ("no tokens", "no requests", "one rank unseen")


@pytest.mark.parametrize("name", ANALYZED)
@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--window", "steady", "--max-num-seqs", "6"],
        ["--bands", "-o", "c.html", "--force"],
        ["-o", "c.perfetto.json", "--force"],
    ],
)
def test_blocks_are_analyzed_to_the_same_figures(tmp_path, capsys, monkeypatch, name, flags):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "t.jsonl", HEADER, *ANALYZED[name])
    arguments = ["analyze", path, "--json", "--step-model", "C=0.001,a=1e-6,b=1e-5", *flags]
    if name in ("all is known", "served requests"):
        arguments = ["analyze", path, "--json", *flags]
    code = run(arguments)
    whole = capsys.readouterr()
    in_small_blocks(monkeypatch)
    assert run(arguments) == code
    blocks = capsys.readouterr()
    assert blocks.err == whole.err
    cannot = {"steady": ANALYZED.keys() - {"served requests"}, "c.perfetto.json": NOT_WHOLE}
    assert code == (2 if any(name in cannot.get(flag, ()) for flag in flags) else 0)
    if code == 0:
        assert_close(json.loads(blocks.out), json.loads(whole.out))


MEASURE = """
import resource, sys
from lbal.analyzers.calibration import rank_times
from lbal.analyzers.statistics import long_series
from lbal.analyzers.trace import step_blocks
from lbal.analyzers.trace.formats import native
from lbal.analyzers.trace.reading import step_spool
from lbal.analyzers.trace.writing import native as writing
from lbal.cli.main import run
native.PIECE_BYTES, step_spool.KEEP_BYTES, long_series.KEEP_BYTES = 1 << 18, 1 << 20, 1 << 16
step_blocks.BLOCK_CELLS = 1 << 15
# Fewer rows of steps and ranks than the small file has:
rank_times.MOST_CELLS = writing.GROUP_ROWS = writing.SLICE_ROWS = 1 << 16
peaks = []
for name in ("small", "large"):
    assert run([sys.argv[1], name + sys.argv[2], *sys.argv[3:]]) == 0
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0], file=sys.stderr)
"""
COMMANDS = {
    "validate": ["validate", ".jsonl"],
    "validate gzip": ["validate", ".jsonl.gz"],
    "analyze": ["analyze", ".jsonl", "-o", "page.html", "--force"],
    "convert": ["convert", ".jsonl", "out.jsonl", "--force"],
    "convert to Parquet": ["convert", ".jsonl", "out.parquet", "--force"],
}
MOST_GROWTH_MIB = 30
"""Where the steps of the large file take 100 MiB as arrays alone."""


@pytest.fixture(scope="module")
def files_of_steps(tmp_path_factory):
    """Steps of 64 ranks, 2 MB and 24 MB of them."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    bodies = []
    for _ in range(200):
        running = rng.integers(1, 60, 64)
        loads = (running * rng.integers(10, 99, 64)).tolist(), running.tolist(), (running * 0.25).tolist()
        bodies.append(
            ',"step_ms":30,"kv_tokens":{},"num_running":{},"compute_ms":{}}}\n'.format(*loads).replace(" ", "")
        )
    for name, megabytes in (("small", 2), ("large", 24)):
        lines = (
            f'{{"step":{number}{bodies[number % 200]}' for number in range(megabytes * 1_000_000 // len(bodies[0]))
        )
        data = ('{"lbal_trace": 1}\n' + "".join(lines)).encode()
        (folder / f"{name}.jsonl").write_bytes(data)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(data, 1))
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss in KiB")
@pytest.mark.parametrize("command", COMMANDS)
def test_memory_does_not_grow_with_the_number_of_steps(files_of_steps, command):
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *COMMANDS[command]],
        cwd=files_of_steps,
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stderr.split()[-1]) < MOST_GROWTH_MIB

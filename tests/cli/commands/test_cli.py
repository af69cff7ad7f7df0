"""The command line: streams, exit codes, messages and files, as a user or a script meets them."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked_commands import folder_of_lbal

from lbal.analyzers.metrics import METRICS
from lbal.cli.main import run

REQUESTS = "".join(
    f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i * 37 % 400}, "output_tokens": {5 + i % 17}}}\n'
    for i in range(60)
)
REQUEST_TRACE = '{"lbal_trace": 1}\n' + REQUESTS
STEP_TRACE = (
    '{"lbal_trace": 1, "dp_size": 2, "max_num_seqs": 4}\n'
    '{"step": 0, "step_ms": 15, "start_ms": 0, "kv_tokens": [100, 300], "num_running": [1, 2], "compute_ms": [2, 5]}\n'
    '{"step": 1, "step_ms": 14, "start_ms": 15, "kv_tokens": [200, 200], "num_running": [2, 2], "compute_ms": [4, 4]}\n'
    '{"step": 2, "step_ms": 12, "start_ms": 29, "kv_tokens": [0, 100], "num_running": [0, 1], "compute_ms": [0, 2]}\n'
)
SMALL = ["--dp-size", "4", "--max-num-seqs", "8"]


@pytest.fixture
def requests(tmp_path) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_text(REQUEST_TRACE)
    return str(path)


@pytest.fixture
def steps(tmp_path) -> str:
    path = tmp_path / "steps.jsonl"
    path.write_text(STEP_TRACE)
    return str(path)


def lbal(*arguments: str, stdin: bytes | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a script runs it."""
    done = subprocess.run(
        [folder_of_lbal() / "lbal", *arguments],
        input=stdin,
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def refused(capsys, *arguments: str) -> str:
    """Run in this process, expect a refusal, and return its one line."""
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("lbal: ")
    return captured.err.strip()


def result_of(capsys, *arguments: str) -> dict:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def values(run_record: dict) -> dict[str, float]:
    return {name: measure["value"] for name, measure in run_record["metrics"].items()}


def test_replay_prints_a_headline_and_a_column_per_policy(requests):
    done = lbal("replay", requests, *SMALL, "--policy", "fcfs", "--policy", "jsq")
    assert done.returncode == 0
    first = done.stdout.splitlines()[0]
    assert re.fullmatch(
        r"jsq loses least of 2 policies: [\d.]+% of rank-time is barrier idle against [\d.]+% under fcfs, "
        r"with [+-][\d.]+% throughput \(modelled\)\.",
        first,
    )
    for label in (
        "barrier idle", "imbalance, mean", "balance ratio, mean", "throughput", "TPOT mean", "TPOT p99",
        "queue wait p99", "queue wait max", "slot use", "steps", "requests completed",
    ):  # fmt: skip
        row = next(line for line in done.stdout.splitlines() if line.startswith(label))
        assert " modelled " in row
    assert "h200/deepseek-v3/dp-attn+ep32/bf16kv" in done.stdout


def read_again(figures):
    """The figures of a replay that `analyze` gives too: all but the times between tokens, which a trace does not hold."""
    return {name: value for name, value in figures.items() if not name.startswith(("itl_ms", "longest_gap_ms"))}


def test_what_replay_writes_is_what_analyze_reads(requests, tmp_path, capsys):
    for name in ("trace.jsonl", "trace.jsonl.gz", "trace.parquet"):
        out = str(tmp_path / name)
        replayed = result_of(capsys, "replay", requests, *SMALL, "--policy", "jsq-kv", "-o", out)
        analysed = result_of(capsys, "analyze", out)
        ours, theirs = values(replayed["runs"][0]), values(analysed["runs"][0])
        assert read_again(ours) == pytest.approx({name: theirs[name] for name in read_again(ours)}, rel=1e-12)
        assert replayed["runs"][0]["attribution"] == pytest.approx(analysed["runs"][0]["attribution"], rel=1e-9)
        assert {measure["basis"] for measure in analysed["runs"][0]["metrics"].values()} == {"modelled"}


@pytest.mark.parametrize("window", ["admissions", "steady"])
def test_windows_agree_between_replay_and_analyze(requests, tmp_path, capsys, window):
    out = str(tmp_path / "trace.jsonl")
    options = ["--arrivals", "backlog", "--dp-size", "2", "--max-num-seqs", "3", "--window", window]
    replayed = result_of(capsys, "replay", requests, *options, "--policy", "jsq", "-o", out)
    analysed = result_of(capsys, "analyze", out, "--window", window)
    ours, theirs = values(replayed["runs"][0]), values(analysed["runs"][0])
    assert read_again(ours) == pytest.approx({name: theirs[name] for name in read_again(ours)}, rel=1e-12)
    whole = values(result_of(capsys, "analyze", out)["runs"][0])
    assert ours["steps"] < whole["steps"]


def test_an_empty_window_is_an_error(requests, capsys):
    message = refused(capsys, "replay", requests, "--dp-size", "4", "--max-num-seqs", "60", "--window", "steady")
    assert (
        "--window steady: round-robin has no such steps (the slots are never all taken before the last admission)"
        in message
    )


def test_analyze_tells_measured_from_modelled(steps, capsys):
    record = result_of(capsys, "analyze", steps)["runs"][0]
    assert record["metrics"]["barrier_idle_fraction"]["basis"] == "measured"
    assert record["metrics"]["barrier_idle_fraction"]["value"] == pytest.approx(5 / (2 * 41))
    assert record["metrics"]["kv_time_fraction"]["basis"] == "modelled"
    assert record["ranks"][0]["straggler_fraction"] == pytest.approx(0.5 / 3)


def test_analyze_models_idle_where_no_rank_times_were_measured(tmp_path, capsys):
    path = tmp_path / "no_times.jsonl"
    path.write_text(re.sub(r', "compute_ms": \[[^]]*\]', "", STEP_TRACE))
    model = "C=0.01,a=1e-5,b=1e-3"
    record = result_of(capsys, "analyze", str(path), "--step-model", model)["runs"][0]
    assert record["metrics"]["barrier_idle_fraction"] == {
        "value": pytest.approx(5 / (2 * 41)),
        "unit": "fraction",
        "basis": "modelled",
    }
    assert record["metrics"]["tokens_per_second"]["basis"] == "measured"
    assert record["metrics"]["imbalance_tokens_mean"]["basis"] == "measured"


def test_steps_with_gaps_are_left_out_and_counted(tmp_path, capsys):
    path = tmp_path / "gaps.jsonl"
    path.write_text(STEP_TRACE.replace('"kv_tokens": [200, 200]', '"kv_tokens": [200, null]'))
    result = result_of(capsys, "analyze", str(path))
    assert values(result["runs"][0])["steps"] == 2
    assert "1 of 3 steps have gaps in kv_tokens and are left out" in result["notes"]


def test_a_request_trace_is_answered_with_its_workload_and_a_replay_that_runs(requests):
    done = lbal("analyze", requests)
    assert done.returncode == 0
    assert "60 requests at 50 per second" in done.stdout.splitlines()[0]
    command = done.stdout.splitlines()[-1].split()
    assert command[:2] == ["lbal", "replay"]
    assert lbal(*command[1:]).returncode == 0


def test_json_is_the_published_schema_and_the_same_bytes_each_time(requests):
    first = lbal("replay", requests, *SMALL, "--policy", "random", "--json", "--seed", "7")
    again = lbal("replay", requests, *SMALL, "--policy", "random", "--json", "--seed", "7")
    assert first.stdout == again.stdout
    record = json.loads(first.stdout)
    assert record["schema"] == "lbal.result/1"
    assert record["command"] == "replay"
    assert record["inputs"][0]["requests"] == 60
    assert len(record["inputs"][0]["sha256"]) == 64
    assert record["config"]["step_model"]["unit"] == "seconds"
    for name, measure in record["runs"][0]["metrics"].items():
        assert measure["unit"] == METRICS[name].unit
        assert measure["basis"] in ("measured", "modelled")
    assert lbal("replay", requests, *SMALL, "--policy", "random", "--json", "--seed", "8").stdout != first.stdout


def test_results_are_written_whole_or_not_at_all(requests, tmp_path, capsys):
    out = tmp_path / "result.json"
    printed = result_of(capsys, "replay", requests, *SMALL, "-o", str(out))
    assert json.loads(out.read_text()) == printed
    assert "exists already" in refused(capsys, "replay", requests, *SMALL, "-o", str(out))
    assert run(["replay", requests, *SMALL, "-o", str(out), "--force"]) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".lbal")] == []


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere/result.json", "there is no directory"),
        ("result.pdf", "its suffix says no format, expected one of "),
        ("folder.json", "is a directory, expected a file name"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_before_any_work(requests, tmp_path, capsys, target, message):
    (tmp_path / "folder.json").mkdir()
    assert message in refused(capsys, "replay", requests, *SMALL, "-o", str(tmp_path / target))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_refused(requests, tmp_path, capsys):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert "cannot be written" in refused(capsys, "replay", requests, *SMALL, "-o", str(locked / "result.json"))


def test_several_policies_do_not_share_one_trace_file(requests, tmp_path, capsys):
    several = ["--policy", "jsq", "--policy", "fcfs"]
    message = refused(capsys, "replay", requests, *SMALL, *several, "-o", str(tmp_path / "trace.jsonl"))
    assert "a trace holds one policy and there are 2" in message
    assert run(["replay", requests, *SMALL, *several, "-o", str(tmp_path / "{policy}.jsonl")]) == 0
    assert {"jsq.jsonl", "fcfs.jsonl"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dp-size", "0"], "--dp-size: 0 is too small, expected a whole number of at least 1"),
        (["--dp-size", "two"], "--dp-size: 'two' does not fit"),
        (["--max-num-seqs", "-3"], "--max-num-seqs: -3 is too small"),
        (["--policy", "jqs"], "unknown policy 'jqs': did you mean 'jsq'?"),
        (["--policy", "jsq", "--policy", "jsq"], "--policy jsq: stands twice"),
        (["--policy", "recorded"], "names no rank for some requests"),
        (["--step-model", "h200/depseek"], "unknown step model 'h200/depseek': did you mean"),
        (["--step-model", "C=1,x=2"], "'x': unknown coefficient, expected C, a, b, b_mean, p, e, C_x"),
        (["--step-model", "C=-1"], "C: '-1' is no time, expected 0 to 10000 seconds"),
        (["--format", "azur"], "unknown format 'azur': did you mean 'azure'?"),
        (["--format", "azure"], "TIMESTAMP"),
        (["--window", "most"], "--window: 'most' is not known, expected all, admissions or steady"),
        (["--arrivals", "poisson"], "--arrivals: 'poisson' is not known"),
        (["--binding", "late"], "--binding: 'late' is not known"),
        (
            ["--dp-size", "99999999999999999999"],
            "is too large, expected a whole number of at least 1 and at most 65,536",
        ),
        (["--pool", "5"], "--pool: 5 has no meaning with arrival times"),
        (["--rate-scale", "2", "--arrivals", "backlog"], "--rate-scale: 2 has no meaning with a backlog"),
        (["--rate-scale", "2", "--arrivals", "closed:4"], "--rate-scale: 2 has no meaning with a closed loop"),
        (["--rate-scale", "2", "--arrivals", "poisson:4"], "--rate-scale: 2 has no meaning with a drawn rate"),
        (["--slot-use", "0.5", "--arrivals", "gamma:4,1"], "--slot-use: 0.5 has no meaning with a drawn rate"),
        (["--slot-use", "0.5", "--arrivals", "backlog"], "expected --arrivals trace beside it"),
        (["--pool", "5", "--arrivals", "closed:4"], "--pool: 5 has no meaning with a closed loop"),
        (["--arrivals", "closed:0"], "--arrivals: 'closed:0': '0' does not fit, expected closed:N with a whole number"),
        (["--arrivals", "closed:1.5"], "expected closed:N with a whole number N of at least 1"),
        (["--arrivals", "closed"], "--arrivals: 'closed' is not known, expected trace, backlog, closed:N"),
        (["--arrivals", "poisson:-1"], "'-1' does not fit, expected a RATE from 1e-06 to 1e+09"),
        (["--arrivals", "poisson:nan"], "'nan' does not fit, expected a RATE"),
        (["--arrivals", "gamma:4"], "--arrivals: 'gamma:4' is not known"),
        (["--arrivals", "gamma:4,0"], "'0' does not fit, expected a CV from 0.01 to 100"),
        (["--arrivals", "steps"], "--arrivals: 'steps' is not known"),
        (["--arrivals", "trace:1"], "--arrivals: 'trace:1' is not known"),
        (["--slo", "tpot"], "--slo: 'tpot' is not known, expected NAME=MS"),
        (
            ["--slo", "ttft=50"],
            "--slo: without prefill no time to the first token is modelled, expected --prefill NAME",
        ),
        (["--arrivals", "sessions"], "--arrivals: 'sessions' is not known, expected trace, backlog"),
        (["--policy", "vllm:stale=nan"], "stale: 'nan' does not fit, expected a number"),
        (["--policy", "sglang-total-requests:stale=99999999999999999999"], "does not fit, expected a whole number"),
        (["--step-model", "C=1,C=2,a=1"], "C: stands twice"),
        (["--step-model", "C=1"], "no rank would ever wait for another, expected a or b above 0"),
        (["--step-model", "a=1e300"], "a: '1e300' is no time, expected 0 to 10000 seconds"),
        (["--drift", "1e300"], "is no growth of load"),
        (["--rate-scale", "1e-300"], "--rate-scale: 1e-300 is no scale, expected 1e-06 to 1e+09"),
        (["--rate-scale", "0"], "--rate-scale: 0.0 is no scale"),
        (["--rate-scale", "nan"], "--rate-scale: nan is no scale"),
        (["--pool", "0", "--arrivals", "backlog"], "--pool: 0 is too small"),
        (["--kv-capacity", "10"], "can never hold request"),
        (["--polcy", "jsq"], "--polcy"),
    ],
)
def test_a_wrong_flag_is_one_line_and_exit_code_2(requests, capsys, arguments, message):
    given = {argument for argument in arguments if argument.startswith("--")}
    defaults = [
        part for flag, value in zip(SMALL[::2], SMALL[1::2], strict=True) if flag not in given for part in (flag, value)
    ]
    assert message in refused(capsys, "replay", requests, *defaults, *arguments)


def test_a_request_trace_without_dp_size_gets_the_assumed_one_and_a_word(requests, capsys):
    assert run(["replay", requests, "--policy", "jsq"]) == 0
    assert "note: the trace does not tell the size of the cluster: 8 x 64 slots are assumed" in capsys.readouterr().err


def test_a_step_trace_without_requests_cannot_be_replayed(steps, capsys):
    assert "nothing to replay" in refused(capsys, "replay", steps)


def test_a_trace_without_times_is_replayed_as_a_backlog(tmp_path, capsys):
    path = tmp_path / "lengths.csv"
    path.write_text("input_length,output_length\n" + "10,3\n" * 9)
    assert result_of(capsys, "replay", str(path), *SMALL)["config"]["arrivals"] == "backlog"
    assert "has no arrival times" in refused(capsys, "replay", str(path), *SMALL, "--arrivals", "trace")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x00\x01\x02\xff" * 100, "is binary"),
        (b"hello world\n", "its content is no known trace format"),
        (REQUEST_TRACE.encode()[:-30], ":61:"),
        (b"input_length,output_length\n10,3\n10", ":3:"),
        (b"input_length,output_length\n10,-3\n", ":2: output_length: -3 is"),
        (b"input_length,output_length\n10,3.5\n", ":2: output_length: 3.5 is not a whole number"),
        (b"input_length,output_length\nten,3\n", ":2: input_length: 'ten'"),
        (b"input_length,output_length\nNaN,3\n", ":2: input_length: nan is not"),
        (b"TIMESTAMP,ContextTokens\n2023-11-16 18:17:03.9799600,4808\n", "GeneratedTokens"),
        (REQUEST_TRACE.encode() + b'{"request_id": 5, "arrival_ms": 0, "prompt_tokens": 1, "output_tokens": 1}\n', "request_id: 5"),
        (STEP_TRACE.encode() + b'{"step": 3, "step_ms": 1, "start_ms": 41, "kv_tokens": [1], "num_running": [1], "compute_ms": [1]}\n', ":5: "),
        (STEP_TRACE.encode() + b'{"step": 2, "step_ms": 1, "start_ms": 41, "kv_tokens": [1, 1], "num_running": [1, 1], "compute_ms": [1, 1]}\n', "step"),
        (gzip.compress(REQUEST_TRACE.encode())[:-40], "cannot be read"),
    ],
)  # fmt: skip
def test_a_bad_trace_is_one_located_line_and_exit_code_2(tmp_path, capsys, content, message):
    path = tmp_path / "bad trace ü.txt"
    path.write_bytes(content)
    out = tmp_path / "out.json"
    for command in (["validate"], ["analyze", "-o", str(out)], ["replay", *SMALL, "-o", str(out)]):
        line = refused(capsys, command[0], str(path), *command[1:])
        assert message in line
        assert line.startswith(f"lbal: {path}"), line
        assert not out.exists()
    target = tmp_path / "out.jsonl"
    assert message in refused(capsys, "convert", str(path), str(target))
    assert not target.exists()


def test_times_that_run_backwards_are_sorted_or_refused(tmp_path, capsys):
    path = tmp_path / "backwards.jsonl"
    lines = REQUESTS.splitlines(keepends=True)
    path.write_text('{"lbal_trace": 1}\n' + lines[1] + lines[0] + "".join(lines[2:]))
    notes = result_of(capsys, "analyze", str(path))["notes"]
    assert any("1 arrival time runs backwards; requests were sorted" in note for note in notes)
    assert ":3: arrival_ms" in refused(capsys, "analyze", str(path), "--strict")


def test_standard_input_and_gzip_are_read(requests):
    packed = gzip.compress(Path(requests).read_bytes())
    for data in (Path(requests).read_bytes(), packed):
        done = lbal("replay", "-", *SMALL, "--json", stdin=data)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["inputs"][0]["name"] == "<stdin>"


def test_convert_keeps_everything(requests, tmp_path, capsys):
    parquet, back = str(tmp_path / "t.parquet"), str(tmp_path / "back.jsonl")
    assert run(["convert", requests, parquet]) == 0
    assert run(["convert", parquet, back]) == 0
    assert "exists already" in refused(capsys, "convert", requests, back) if capsys.readouterr() else False
    first, second = (result_of(capsys, "replay", name, *SMALL) for name in (requests, back))
    assert first["runs"] == second["runs"]
    streamed = lbal("convert", requests, "-")
    assert streamed.stdout.splitlines()[1:] == Path(back).read_text().splitlines()[1:]


def test_validate_says_what_is_in_a_trace(steps, requests):
    done = lbal("validate", steps, requests)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        f"{steps}: valid native trace with 3 steps of 2 ranks",
        f"{requests}: valid native trace with 60 requests",
    ]


@pytest.mark.parametrize("what", ["policies", "formats", "metrics", "step-models", "power-models", "reports"])
def test_list_describes_what_is_there(what):
    done = lbal("list", what)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 2
    result = json.loads(lbal("list", what, "--json").stdout)
    assert result["schema"] == "lbal.result/1"
    records = result["items"]
    if not what.endswith("-models"):
        assert all(all(record.values()) for record in records)
    for record in records:
        assert next(iter(record.values())) in done.stdout


def test_nothing_is_cut_in_a_narrow_pipe_and_blocks_fit_a_narrow_terminal(requests):
    policies = [
        part for name in ("fcfs", "round-robin", "random", "jsq", "jsq-kv", "lpt") for part in ("--policy", name)
    ]
    wide = lbal("replay", requests, *SMALL, *policies)
    narrow = lbal("replay", requests, *SMALL, *policies, COLUMNS="80")
    assert "…" not in wide.stdout + narrow.stdout
    table = narrow.stdout.split("\n\n", 2)[2]
    assert max(map(len, table.splitlines())) <= 80
    numbers = re.findall(r"\d[\d,.]*", wide.stdout)
    assert sorted(set(numbers)) == sorted(set(re.findall(r"\d[\d,.]*", narrow.stdout)))


def test_a_reader_that_goes_away_is_no_error(requests):
    done = subprocess.run(
        f"{sys.executable} -m lbal.cli list metrics | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_an_interrupt_exits_130_and_leaves_no_file(tmp_path):
    path, out = tmp_path / "many.csv", tmp_path / "trace.jsonl"
    path.write_text("input_length,output_length\n" + "100,40\n" * 3_000_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "lbal.cli", "replay", str(path), *SMALL, "--policy", "jsq", "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(2.5)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert b"Traceback" not in error
    assert [item.name for item in tmp_path.iterdir()] == ["many.csv"]


def test_an_internal_error_exits_3_in_one_line(requests, capsys, monkeypatch):
    import lbal.replay.experiment.figures

    monkeypatch.setattr(lbal.replay.experiment.figures, "run_of", lambda *_: 1 / 0)
    assert run(["replay", requests, *SMALL]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "internal error: ZeroDivisionError" in captured.err


def test_the_version_is_that_of_the_package():
    from importlib.metadata import version

    assert lbal("--version").stdout.strip() == f"lbal {version('lbal')}"


def test_a_non_utf8_terminal_gets_text_without_an_error(requests):
    done = subprocess.run(
        [sys.executable, "-m", "lbal.cli", "replay", requests, *SMALL],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stderr
    done.stdout.decode("ascii")


def test_mostly_empty_and_overloaded_ranks_are_said_with_the_switch(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    for gap, word in ((2000, "mostly empty"), (1, "overloaded")):
        lines = [
            f'{{"request_id": {i}, "arrival_ms": {i * gap}, "prompt_tokens": 100, "output_tokens": 30}}'
            for i in range(300)
        ]
        path.write_text('{"lbal_trace": 1}\n' + "\n".join(lines) + "\n")
        notes = " ".join(result_of(capsys, "replay", str(path), *SMALL)["notes"])
        assert f"the ranks are {word}" in notes
        assert "--rate-scale" in notes


def test_slot_use_finds_the_rate_scale_and_uses_it_for_every_policy(requests, capsys):
    policies = ["--policy", "jsq", "--policy", "random", "--window", "admissions"]
    result = result_of(
        capsys, "replay", requests, "--dp-size", "2", "--max-num-seqs", "4", *policies, "--slot-use", "0.6"
    )
    assert result["config"]["window"] == "admissions"
    assert values(result["runs"][0])["slot_use"] == pytest.approx(0.6, abs=1e-3)
    scale = result["config"]["rate_scale"]
    assert any(
        note.startswith(f"--rate-scale {scale:.6g} keeps 60") and "under jsq" in note for note in result["notes"]
    )
    again = result_of(
        capsys, "replay", requests, "--dp-size", "2", "--max-num-seqs", "4", *policies, "--rate-scale", repr(scale)
    )
    assert again["runs"] == result["runs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--slot-use", "0.9999"],
            "no arrival rate keeps 0.9999 of the slots busy under jsq, expected a share of at most 0.",
        ),
        (["--slot-use", "0.001"], "even single requests keep more than 0.001 of the slots busy"),
        (["--slot-use", "1.5"], "1.5 is no share, expected a number between 0 and 1"),
        (["--slot-use", "0.5", "--rate-scale", "2"], "expected no --rate-scale beside it"),
        (["--slot-use", "0.5", "--arrivals", "backlog"], "0.5 has no meaning with a backlog"),
        (["--drift", "fast"], "--drift: 'fast' is no growth of load"),
    ],
)
def test_a_slot_use_or_drift_that_cannot_be_is_refused(requests, capsys, arguments, message):
    line = refused(capsys, "replay", requests, "--dp-size", "2", "--max-num-seqs", "4", "--policy", "jsq", *arguments)
    assert message in line


def test_drift_is_in_the_result_and_in_the_trace(requests, tmp_path, capsys):
    out = str(tmp_path / "t.jsonl")
    result = result_of(capsys, "replay", requests, *SMALL, "--policy", "jsq", "--drift", "window:200", "-o", out)
    assert result["config"]["drift"] == "window:200"
    assert result_of(capsys, "analyze", out)["config"]["drift"] == "window:200"
    assert run(["replay", requests, *SMALL, "--drift", "0"]) == 0
    assert "drift 0" in capsys.readouterr().out


def test_the_report_says_how_late_signals_are(requests, capsys):
    assert (
        run(["replay", requests, *SMALL, "--policy", "jsq", "--policy", "vllm", "--policy", "sglang-total-tokens"]) == 0
    )
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("signals"))
    assert line == (
        "signals     live (jsq) · renewed every 100 ms (vllm) · renewed every 15 steps and 20 ms (sglang-total-tokens)"
    )


def test_a_cache_that_cannot_be_written_only_costs_time(requests, tmp_path):
    """Numba falls back from the package's directory to the user's; neither may be there."""
    code = "import numba.core.caching as c\nc.CacheImpl._locator_classes = []\nfrom lbal.cli.main import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", code, "replay", requests, *SMALL, "--policy", "jsq"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "jsq loses" in done.stdout
    assert all(line.startswith("lbal: note:") for line in done.stderr.splitlines()), done.stderr


def test_force_overwrites_only_what_lbal_wrote(requests, tmp_path, capsys):
    folder = tmp_path / "mine.parquet"
    folder.mkdir()
    (folder / "notes.txt").write_text("keep me")
    for command in (["replay", requests, *SMALL, "--policy", "jsq", "-o"], ["convert", requests]):
        assert "is a directory, expected" in refused(capsys, *command, str(folder), "--force")
    assert (folder / "notes.txt").read_text() == "keep me"
    trace = str(tmp_path / "trace.parquet")
    assert run(["convert", requests, trace]) == run(["convert", requests, trace, "--force"]) == 0


def test_the_input_is_never_overwritten(requests, tmp_path, capsys):
    before = Path(requests).read_bytes()
    assert "is the input" in refused(capsys, "convert", requests, requests, "--force")
    assert "is the input" in refused(capsys, "replay", requests, *SMALL, "--policy", "jsq", "-o", requests, "--force")
    link = tmp_path / "link.jsonl"
    link.symlink_to(requests)
    assert "is the input" in refused(capsys, "convert", requests, str(link), "--force")
    assert Path(requests).read_bytes() == before


def test_one_output_named_twice_is_refused(requests, tmp_path, capsys):
    out = str(tmp_path / "r.json")
    assert "stands twice" in refused(capsys, "replay", requests, *SMALL, "-o", out, "-o", out)
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("redirection", "code", "message"),
    [
        ("validate {trace} >&-", 2, "standard output: is closed"),
        ("analyze {trace} >&-", 2, "standard output: is closed"),
        ("analyze {trace} --json >&-", 2, "standard output: is closed"),
        ("convert {trace} - >&-", 2, "standard output: is closed"),
        ("list policies >&- 2>&-", 2, ""),
        ("--version >&-", 2, "standard output: is closed"),
        ("analyze --help >&-", 2, "standard output: is closed"),
        ("validate {trace} > /dev/full", 2, "standard output: cannot be written"),
        ("--help > /dev/full", 2, "standard output: cannot be written"),
        ("validate - <&-", 2, "<stdin>: is closed"),
        ("validate nowhere 2> /dev/full", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full_are_refusals(requests, redirection, code, message):
    command = f"{sys.executable} -m lbal.cli " + redirection.format(trace=requests)
    done = subprocess.run(command, shell=True, executable="/bin/bash", capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_damaged_cache_only_costs_time(steps, tmp_path):
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first = lbal("analyze", steps, **environment)
    assert first.returncode == 0
    for damage in (b"", b"junk", b"\x80\x04junk"):
        files = [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".nbi", ".nbc")]
        assert files
        for path in files:
            path.write_bytes(damage)
        done = lbal("analyze", steps, **environment)
        assert done.returncode == 0, done.stderr
        assert (done.stdout, done.stderr) == (first.stdout, first.stderr)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('"arrival_ms": 9, "admitted_ms": 5, "finish_ms": 20', "admitted_ms: 5.0 is before the arrival_ms"),
        ('"arrival_ms": 1, "admitted_ms": 5, "finish_ms": 4', "finish_ms: 4.0 is before the admitted_ms"),
        ('"arrival_ms": 1e27, "admitted_ms": 1e27, "finish_ms": 1e28', "arrival_ms: 1e+27 is too large"),
    ],
)
def test_impossible_times_are_refused(tmp_path, capsys, line, message):
    path = tmp_path / "t.jsonl"
    path.write_text('{"lbal_trace": 1}\n{"request_id": 0, "prompt_tokens": 1, "output_tokens": 2, ' + line + "}\n")
    assert f"{path}:2: {message}" in refused(capsys, "validate", str(path))


def test_more_running_requests_than_slots_are_refused(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text(STEP_TRACE.replace('"max_num_seqs": 4', '"max_num_seqs": 1'))
    assert "num_running: 2 is more than fits" in refused(capsys, "validate", str(path))


def test_steps_whose_clocks_disagree_are_left_out_and_counted(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text(STEP_TRACE.replace('"compute_ms": [2, 5]', '"compute_ms": [2, 50]'))
    result = result_of(capsys, "analyze", str(path))
    assert values(result["runs"][0])["steps"] == 2
    assert any("1 of 3 steps have a compute_ms beyond their step_ms" in note for note in result["notes"])


def test_a_step_model_slower_than_the_measured_steps_is_refused(tmp_path, capsys):
    path = tmp_path / "t.jsonl"
    path.write_text(re.sub(r', "compute_ms": \[[^]]*\]', "", STEP_TRACE))
    message = refused(capsys, "analyze", str(path), "--step-model", "a=1,b=1")
    assert "takes longer than the measured step in 3 of 3 steps" in message


def test_a_rank_that_never_works_has_no_time_for_its_load(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [
        f'{{"step": {i}, "step_ms": 9, "kv_tokens": [{50 + i}, 0], "num_running": [2, 0], "compute_ms": [{5 + i}, 0]}}\n'
        for i in range(3)
    ]
    path.write_text('{"lbal_trace": 1}\n' + "".join(rows))
    done = lbal("analyze", str(path))
    assert done.returncode == 0
    assert done.stderr.startswith("lbal: note: the part of rank times that no load explains is taken as 0: only 3")
    assert "n/a" in done.stdout
    assert "nan" not in done.stdout


def test_a_replay_without_end_is_refused(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text(f"input_length,output_length\n1,{2**40}\n")
    assert "a request asks for 1,099,511,627,776 output tokens" in refused(capsys, "replay", str(path), *SMALL)


def test_a_policy_file_that_exits_is_a_refusal(requests, tmp_path, capsys):
    path = tmp_path / "leaves.py"
    path.write_text("import sys; sys.exit(5)\n")
    assert "the file fails on import: SystemExit: 5" in refused(
        capsys, "replay", requests, *SMALL, "--policy", f"{path}:P"
    )


def test_a_line_to_copy_is_not_broken_on_a_narrow_terminal(requests):
    done = lbal("analyze", requests, COLUMNS="60")
    assert done.stdout.splitlines()[-1].startswith("lbal replay ")


def test_lbal_alone_shows_its_help():
    done = lbal()
    assert done.returncode == 2
    assert "Usage: lbal [OPTIONS] COMMAND" in done.stderr + done.stdout
    assert len((done.stderr + done.stdout).splitlines()) > 10

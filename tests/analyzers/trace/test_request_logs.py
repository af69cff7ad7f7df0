"""Request logs of benchmarks, simulators, routers and servers: units, clocks, failures, ranks."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lbal.analyzers.errors import InputError, UsageError
from lbal.analyzers.trace.formats import ReadOptions, read_trace
from lbal.analyzers.trace.trace import Trace
from lbal.cli.main import run

FIELD = (
    json.loads(path.read_text())
    if (path := Path(__file__).parents[4] / "shared/field/expected_traces.json").exists()
    else {}
)


def read(tmp_path: Path, text: str, name: str = "t", **options: object) -> Trace:
    path = tmp_path / name
    path.write_text(text)
    return read_trace(str(path), options=ReadOptions(**options))  # type: ignore[arg-type]


def column(trace: Trace, name: str) -> list[object]:
    assert trace.requests is not None
    return trace.requests[name].to_list()


def moon(*times: object, **more: object) -> str:
    return "".join(
        json.dumps({"timestamp": time, "input_length": 10, "output_length": 5, **more}) + "\n" for time in times
    )


@pytest.mark.parametrize("key", FIELD)
def test_field_files_read_as_is_right_for_them(key: str, shared: Path) -> None:
    case = FIELD[key]
    right = case["right"]
    path = str(shared / "field" / case["file"])
    if right.get("exit") == 2:
        with pytest.raises(InputError):
            read_trace(path)
        return
    trace = read_trace(path)
    assert trace.requests is not None
    wanted = [name for name in ("arrival_ms", "prompt_tokens", "output_tokens", "rank") if right.get(name) is not None]
    found = sorted(zip(*(column(trace, name) for name in wanted), strict=True)) if wanted else []
    expected = sorted(zip(*(right[name] for name in wanted), strict=True)) if wanted else []
    assert len(found) == len(expected)
    for row, should_be in zip(found, expected, strict=True):
        assert row == pytest.approx(should_be, abs=1e-3)
    if right.get("failed"):
        assert sum(trace.meta.excluded.values()) == right["failed"]
    if "arrival_ms" in right and right["arrival_ms"] is None:
        assert "arrival_ms" not in trace.requests.columns
    if right.get("time_unit"):
        assert trace.meta.time_unit == right["time_unit"]


def test_whole_timestamps_of_mooncake_are_ms(tmp_path: Path) -> None:
    trace = read(tmp_path, moon(0, 40, 529))
    assert column(trace, "arrival_ms") == [0.0, 40.0, 529.0]
    assert (trace.meta.time_unit, trace.meta.warnings) == ("ms", ())


def test_fractions_that_make_sense_as_seconds_are_seconds_and_it_is_said(tmp_path: Path) -> None:
    trace = read(tmp_path, moon(0.0, 2.5, 4.0))
    assert column(trace, "arrival_ms") == [0.0, 2500.0, 4000.0]
    assert trace.meta.warnings == ("timestamps have fractions and are read as seconds (0.5 requests per second)",)


def test_fractions_that_make_sense_as_ms_are_ms_and_it_is_said(tmp_path: Path) -> None:
    trace = read(tmp_path, moon(0.0, 250.5, 400.25))
    assert column(trace, "arrival_ms") == [0.0, 250.5, 400.25]
    assert trace.meta.warnings == ("timestamps have fractions and are read as ms (5 requests per second)",)


@pytest.mark.parametrize("times", [(0, 1, 1, 1), (0.0, 10.5, 41.0)])
def test_a_unit_that_nothing_tells_is_refused_with_both_readings(tmp_path: Path, times: tuple[float, ...]) -> None:
    with pytest.raises(
        InputError, match=r"the unit of time is open.*if it is ms.*if it is s.*time_unit=ms or time_unit=s"
    ):
        read(tmp_path, moon(*times))


@pytest.mark.parametrize(("unit", "last"), [("s", 1000.0), ("ms", 1.0), ("us", 0.001), ("ns", 0.000001)])
def test_the_unit_may_be_named(tmp_path: Path, unit: str, last: float) -> None:
    trace = read(tmp_path, moon(0, 1, 1, 1), time_unit=unit)
    assert column(trace, "arrival_ms")[-1] == last
    assert trace.meta.time_unit == unit


def test_qwen_bailian_counts_in_seconds_though_its_keys_are_those_of_mooncake(tmp_path: Path) -> None:
    trace = read(tmp_path, moon(0, 30, 61, chat_id=1, parent_chat_id=-1, turn=1, type="text"))
    assert trace.meta.format == "qwen-bailian"
    assert column(trace, "arrival_ms") == [0.0, 30_000.0, 61_000.0]


def test_a_unit_for_timestamps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this format has timestamps"):
        read(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,4,1\n", time_unit="s")


def test_a_time_on_some_lines_only_is_refused_at_the_first_that_differs(tmp_path: Path) -> None:
    text = moon(0) + '{"input_length": 1, "output_length": 2}\n'
    with pytest.raises(InputError, match=r":2: timestamp: is missing, unlike in the lines before"):
        read(tmp_path, text)


def test_a_chain_of_requests_is_refused_by_name(tmp_path: Path) -> None:
    text = moon(0) + '{"input_length": 1, "output_length": 2, "wait_for": ["a"], "delay": 5}\n'
    with pytest.raises(InputError, match=r"chains of requests \(delay, wait_for\) are not replayed"):
        read(tmp_path, text)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_separators_and_the_case_of_the_header_do_not_matter(tmp_path: Path, separator: str) -> None:
    lines = ["timestamp,contexttokens,generatedtokens", "2023-11-16T18:17:03.5,4.0,10", "2023-11-16T18:17:04.5,0,1"]
    trace = read(tmp_path, "\n".join(line.replace(",", separator) for line in lines) + "\n")
    assert trace.meta.format == "azure"
    assert column(trace, "arrival_ms") == [0.0, 1000.0]
    assert column(trace, "prompt_tokens") == [4, 0]


@pytest.mark.parametrize("zone", ["Z", "+00:00", "-07:00"])
def test_iso_times_may_carry_a_zone(tmp_path: Path, zone: str) -> None:
    text = f"TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10T00:00:00{zone},4,1\n2024-05-10T00:00:10.5{zone},4,1\n"
    assert column(read(tmp_path, text), "arrival_ms") == [0.0, 10_500.0]


def test_images_are_counted_and_said(tmp_path: Path) -> None:
    text = "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2025-01-01 00:00:00,3,4,1\n2025-01-01 00:00:01,0,4,1\n"
    (warning,) = read(tmp_path, text).meta.warnings
    assert warning.startswith("1 requests carry 3 images")


def test_all_bad_lines_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    text = "input_length,output_length\n" + "1,2\n" + "x,2\n" * 7
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    assert ":3: input_length: 'x' is not a whole number (7 lines are bad: 3, 4, 5, 6, 7, …)" in str(caught.value)


def sglang_finished(**info: object) -> str:
    record = {"event": "request.finished", "rid": "a", "out": {"meta_info": info}}
    return f"[2026-01-01 00:00:00] {json.dumps(record)}\n"


RECORDS = {
    "mooncake": moon(0),
    "qwen-bailian": moon(0, chat_id=1, parent_chat_id=-1, turn=1),
    "sglang-requests": sglang_finished(prompt_tokens=3, completion_tokens=2, request_received_ts=1.0),
    "sglang-request-metrics": '{"request_parameters": "", "prompt_tokens": 3, "completion_tokens": 2}\n',
    "dynamo-requests": '{"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": '
    '{"input_tokens": 3, "output_tokens": 2, "request_received_ms": 5}}\n',
    "aiperf": '{"metadata": {"request_start_ns": 5}, "metrics": {"input_sequence_length": {"value": 3, "unit": ""}, '
    '"output_sequence_length": {"value": 2, "unit": ""}}}\n',
    "llmservingsim-bench": '{"input_toks": 3, "output_toks": 2, "arrival_time": 1.0}\n',
    "vllm-bench": '{"input_lens": [3], "output_lens": [2], "start_times": [1.0], "ttfts": [0.1], "itls": [[0.1]]}\n',
}
"""A line of each request log that has a JSON object per line."""


@pytest.mark.parametrize("name", RECORDS)
def test_all_bad_lines_of_json_records_are_counted(tmp_path: Path, name: str) -> None:
    line = RECORDS[name]
    assert read(tmp_path, line * 2).meta.format == name
    # A line that is cut, and one with a text where a number must be.
    cut = line[:-3] + "\n"
    wrong = re.sub(r"\b([23]|10)\b(?=[,}\]])", r'"x\1"', line)
    if name == "aiperf":
        wrong = line.replace('"request_start_ns": 5', '"request_start_ns": "x"')
    assert wrong != line
    with pytest.raises(InputError) as caught:
        read(tmp_path, line * 2 + cut + line + wrong * 6 + line)
    assert ":3: " in str(caught.value)
    assert "(7 lines are bad: 3, 5, 6, 7, 8, …)" in str(caught.value)


def test_a_first_line_that_is_damaged_is_one_of_the_bad_lines(tmp_path: Path) -> None:
    line = RECORDS["llmservingsim-bench"]
    with pytest.raises(InputError, match=r":1: .*\(2 lines are bad: 1, 3\)"):
        read(tmp_path, line[:-3] + "\n" + line + line[:-3] + "\n" + line)


def test_records_that_cannot_be_are_counted_like_lines_that_cannot_be_read(tmp_path: Path) -> None:
    line = RECORDS["llmservingsim-bench"]
    without = line.replace("1.0", "null")
    with pytest.raises(InputError, match=r":2: arrival time: has none.*\(3 lines are bad: 2, 3, 5\)"):
        read(tmp_path, line + without + without + line + line.replace("3", "-3"))


def test_rows_that_blis_did_not_serve_are_left_out_by_their_status(tmp_path: Path) -> None:
    text = "arrival_time_us,input_tokens,output_tokens,status\n0,10,5,ok\n1000,10,5,error\n3000,10,5,timeout\n"
    trace = read(tmp_path, text)
    assert column(trace, "arrival_ms") == [0.0]
    assert trace.meta.excluded == {"status error": 1, "status timeout": 1}


def test_llmservingsim_tells_ranks_and_moments_in_ns(tmp_path: Path) -> None:
    header = "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL\n"
    trace = read(tmp_path, header + '2,0,m,64,8,1000000,9000000,8000000,500000,2000000,1,"[1, 2]"\n')
    assert trace.requests is not None
    assert trace.requests.row(0, named=True) | {"request_id": 0} == {
        "request_id": 0,
        "arrival_ms": 0.0,
        "prompt_tokens": 64,
        "output_tokens": 8,
        "rank": 2,
        "admitted_ms": 0.5,
        "first_token_ms": 2.0,
        "finish_ms": 8.0,
    }


def test_failed_requests_of_a_benchmark_are_left_out_by_reason(tmp_path: Path) -> None:
    run = {
        "backend": "vllm",
        "input_lens": [1, 2, 3],
        "output_lens": [4, 0, 6],
        "start_times": [10.0, 10.5, 11.0],
        "ttfts": [0.1, 0.0, 0.2],
        "errors": ["", "timeout", "closed"],
    }
    trace = read(tmp_path, json.dumps(run, indent=1))
    assert column(trace, "prompt_tokens") == [1]
    assert trace.meta.excluded == {"failed (0 output tokens)": 1, "failed (error)": 1}


def test_lists_of_different_lengths_are_refused(tmp_path: Path) -> None:
    run = {"input_lens": [1, 2], "output_lens": [4], "start_times": [1.0, 2.0]}
    with pytest.raises(InputError, match="output_lens: has 1 elements, expected 2, as many as input_lens"):
        read(tmp_path, json.dumps(run))


def test_a_type_that_does_not_fit_is_named_with_its_field(tmp_path: Path) -> None:
    run = {"input_lens": [1, "two"], "output_lens": [4, 4], "start_times": [1.0, 2.0]}
    with pytest.raises(InputError, match=r":1: input_lens\[1\]: expected `int`, got `str`"):
        read(tmp_path, json.dumps(run))


def test_ranks_of_several_decode_workers_are_numbered_one_after_another(tmp_path: Path) -> None:
    def event(number: int, worker: int, rank: int) -> str:
        request = {
            "request_id": str(number),
            "input_tokens": 5,
            "output_tokens": 2,
            "request_received_ms": number,
            "worker": {"decode_worker_id": worker, "decode_dp_rank": rank},
        }
        return json.dumps({"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": request}) + "\n"

    trace = read(tmp_path, event(1, 20, 1) + event(2, 10, 0) + event(3, 20, 0))
    assert column(trace, "rank") == [2, 0, 1]


def test_moments_that_run_backwards_are_unknown_and_counted(tmp_path: Path) -> None:
    info = {"id": "a", "prompt_tokens": 5, "completion_tokens": 2, "dp_rank": 1, "e2e_latency": 1.0}
    line = {**info, "request_parameters": "{}", "first_token_latency": 2.0, "request_received_ts": 5.0}
    trace = read(tmp_path, json.dumps(line) + "\n")
    assert trace.requests is not None
    assert "first_token_ms" not in trace.requests.columns
    assert trace.meta.warnings == ("1 times of requests run backwards and are taken as unknown",)


def test_ids_that_stand_twice_are_replaced_by_numbers(tmp_path: Path) -> None:
    info = {"id": "a", "prompt_tokens": 5, "completion_tokens": 2, "request_parameters": "", "request_received_ts": 5.0}
    trace = read(tmp_path, (json.dumps(info) + "\n") * 2)
    assert column(trace, "request_id") == [0, 1]
    assert "1 request ids stand more than once" in trace.meta.warnings[0]


def test_a_request_log_without_rank_says_from_which_version_on_it_has_one(tmp_path: Path) -> None:
    info = {"meta_info": {"id": "a", "prompt_tokens": 5, "completion_tokens": 2, "e2e_latency": 1.5}}
    line = {"timestamp": "2026-08-22T10:00:03.5", "event": "request.finished", "out": info}
    trace = read(tmp_path, f"[2026-08-22 10:00:03] {json.dumps(line)}\nother text\n")
    assert trace.meta.warnings == (
        "1 line is no finished request",
        "1 requests have no dp_rank (SGLang writes it from version 0.5.10 on)",
    )
    assert column(trace, "finish_ms") == [1500.0]


def test_named_columns_read_any_delimited_file(tmp_path: Path) -> None:
    text = "when;who;in;out;gpu\n5;a;10;2;1\n7;b;20;3;0\n"
    columns = {"arrival": "when", "prompt": "in", "output": "out", "rank": "gpu", "id": "who", "unit": "ms"}
    trace = read(tmp_path, text, columns=columns)
    assert trace.requests is not None
    assert trace.requests.rows() == [("a", 0.0, 10, 2, 1), ("b", 2.0, 20, 3, 0)]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"prompt": "in"}, "output is missing"),
        ({"prompt": "in", "output": "out", "arrival": "when"}, "unit is missing beside arrival"),
        ({"prompt": "in", "output": "out", "when": "when"}, "'when' is not known"),
        ({"prompt": "in", "output": "out", "arrival": "when", "unit": "min"}, "unit 'min' is not known"),
    ],
)
def test_named_columns_that_cannot_be_are_refused(tmp_path: Path, columns: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read(tmp_path, "when,in,out\n1,2,3\n", columns=columns)


def test_a_named_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such column in the header 'when,in,out'"):
        read(tmp_path, "when,in,out\n1,2,3\n", columns={"prompt": "prompt", "output": "out"})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"experiments": [{"requests": [{"response_timestamps": [1]}]}]}', "GenAI-Perf: it has no token counts"),
        ('{"session_id": "s", "sub_requests": [{"input_toks": 1}]}', "sessions of chained calls"),
        ('{"id": "a", "hash_id_scope": "local", "requests": [{"t": 0, "in": 5, "out": 2}]}', "a Weka agent session"),
        ("0,1.33,8.6,Weibull,0.37,0.39\n600,0,0,,0,0\n", "the rates of a ServeGen client"),
        ('{"request_id": "a", "arrival_ms": 0.0, "input_length": 4, "output_length": 1}', "lbal_trace: is missing"),
    ],
)
def test_what_is_no_request_trace_is_refused_by_its_own_name(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(tmp_path, text + "\n")


@pytest.mark.parametrize("name", [*RECORDS, "lengths", "native"])
def test_prompts_of_no_tokens_are_kept_and_counted(tmp_path: Path, name: str) -> None:
    others = {"lengths": "3,2\n", "native": '{"request_id": 1, "prompt_tokens": 3, "output_tokens": 2}\n'}
    head = {"lengths": "input_length,output_length\n", "native": '{"lbal_trace": 1}\n'}.get(name, "")
    line = {**RECORDS, **others}[name]
    empty = re.sub(r"^3|\b(?:3|10)\b(?=[,}\]])", "0", line, count=1)
    assert empty != line
    lines = [line, empty, line]
    if name == "native":
        lines = [text.replace('"request_id": 1', f'"request_id": {row}') for row, text in enumerate(lines)]
    trace = read(tmp_path, head + "".join(lines))
    assert sorted(column(trace, "prompt_tokens"))[0] == 0  # type: ignore[type-var]
    assert len(column(trace, "prompt_tokens")) == 3
    assert "1 of 3 requests has a prompt of 0 tokens; it counts with its output alone" in trace.meta.warnings


def test_what_is_said_of_empty_prompts_is_said_once_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, kept = tmp_path / "t.csv", tmp_path / "kept.jsonl"
    source.write_text("input_length,output_length\n0,3\n5,2\n0,1\n")
    told = "2 of 3 requests have prompts of 0 tokens; they count with their output alone"
    assert run(["convert", str(source), str(kept)]) == 0
    capsys.readouterr()
    for command in ("validate", "analyze", "replay"):
        for trace in (source, kept):
            assert run([command, str(trace)]) == 0
            assert capsys.readouterr().err.count(told) == 1, (command, trace)
            assert run([command, str(trace), "--json"]) == 0
            (described,) = json.loads(capsys.readouterr().out)["inputs"]
            assert described["warnings"].count(told) == 1

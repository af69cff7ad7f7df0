"""What holds for every format: told apart by content, read whole, and kept whole by the native format."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from damaged_lines import damaged
from forward_passes import record
from vllm_lines import iteration, periodic

from lbal.analyzers.errors import InputError, UsageError
from lbal.analyzers.trace.formats import FORMATS, LogReader, ReadOptions, read_trace
from lbal.analyzers.trace.source import Source
from lbal.analyzers.trace.trace import REQUEST_COLUMNS, STEP_COLUMNS, Trace
from lbal.analyzers.trace.writing.native import write_native, write_parquet

NATIVE = """\
{"lbal_trace": 1, "engine": "vllm", "dp_size": 2, "max_num_seqs": 4, "config": {"policy": "jsq"}, "seed": 7}
{"request_id": "a", "arrival_ms": 0, "prompt_tokens": 5, "output_tokens": 2, "rank": 1, "finish_ms": null}
{"request_id": "b", "arrival_ms": 1.5, "prompt_tokens": 0, "output_tokens": 1, "rank": null, "finish_ms": 60}
{"step": 3, "step_ms": 31.25, "start_ms": 0, "kv_tokens": [5, null], "num_running": [1, 0], "compute_ms": [0.1, null]}
{"step": 4, "step_ms": null, "start_ms": 31.25, "kv_tokens": [6.5, 1], "num_running": [null, 1], "compute_ms": [1, 2]}
"""
TEXTS = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,GPT-4,472,18,490,API log\n",
    "lengths": "input_length,output_length\n632,34\n220,7\n",
    "mooncake": '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n',
    "native": NATIVE,
    "vidur": "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n",
    "splitwise-sim": "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
    "0,2,0,1,1,4096,32\n",
    "llmservingsim": "instance id,request id,model,input,output,arrival,end_time,latency,queuing_delay,TTFT,TPOT,ITL\n"
    '1,0,m,64,8,1000000,9000000,8000000,500000,2000000,857142,"[1, 2]"\n',
    "blis": "request_id,input_tokens,output_tokens,server_input_tokens,arrival_time_us,first_chunk_time_us,"
    "last_chunk_time_us,status\n0,10,5,12,0,5000,10000,ok\n",
    "vllm-bench": '{"backend": "vllm", "input_lens": [10, 20], "output_lens": [3, 4], "ttfts": [0.5, 0.25], '
    '"start_times": [81234.5, 81235.0], "latencies": [2.0, 1.5], "errors": ["", ""]}\n',
    "sglang-bench": '{"backend": "sglang", "sharegpt_output_len": null, "random_input_len": 8, "input_lens": [10, 20], '
    '"output_lens": [3, 4], "errors": ["", ""]}\n',
    "aiperf": '{"metadata": {"request_start_ns": 1759813207532900363, "request_end_ns": 1759813207838764604}, '
    '"metrics": {"input_sequence_length": {"value": 550, "unit": "tokens"}, "output_sequence_length": '
    '{"value": 9, "unit": "tokens"}}, "error": null}\n',
    "guidellm": '{"metadata": {"guidellm_version": "0.3"}, "benchmarks": [{"requests": {"successful": [{"request_id": "a", '
    '"request_start_time": 100.0, "request_end_time": 102.0, "prompt_tokens": 7, "output_tokens": 3}], "errored": [], '
    '"incomplete": []}}]}\n',
    "inference-perf": '[{"start_time": 7410.0, "end_time": 7412.5, "info": {"input_tokens": 270, "output_tokens": 44}, '
    '"error": null}]\n',
    "llmperf": '[{"error_code": null, "number_input_tokens": 515, "number_output_tokens": 271}]\n',
    "otel": '{"name": "llm_request", "startTimeUnixNano": "1755856800000000000", "attributes": '
    '{"gen_ai.usage.prompt_tokens": 1024, "gen_ai.usage.completion_tokens": 200, "gen_ai.latency.e2e": 4.25}}\n',
    "dynamo-requests": '{"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": {"request_id": "r", '
    '"input_tokens": 128, "output_tokens": 16, "request_received_ms": 1000, "total_time_ms": 100, '
    '"worker": {"decode_worker_id": 7, "decode_dp_rank": 1}}}\n',
    "sglang-requests": '[2026-08-22 10:00:03] {"event": "request.finished", "rid": "r0", "out": {"meta_info": {"id": "r0", '
    '"prompt_tokens": 812, "completion_tokens": 143, "dp_rank": 3, "e2e_latency": 3.5, '
    '"request_received_ts": 1787392800.0}}}\n',
    "sglang-request-metrics": '{"request_parameters": "{}", "id": "a", "prompt_tokens": 1024, "completion_tokens": 200, '
    '"dp_rank": 3, "e2e_latency": 4.25, "request_received_ts": 1755856800.0}\n',
    "llmservingsim-bench": '{"request_id": "b", "input_toks": 23, "output_toks": 5, "arrival_time": 1788445768.5, '
    '"queued_ts": 69.0, "scheduled_ts": 69.5, "last_token_ts": 71.0}\n',
    "qwen-bailian": '{"chat_id": 1, "parent_chat_id": -1, "timestamp": 61.25, "input_length": 10, "output_length": 5, '
    '"type": "text", "turn": 1, "hash_ids": [1]}\n',
    "vllm-iterations": "".join(iteration("C", rank, step, 4, kv_percent=5) for step in (7, 8) for rank in (0, 1)),
    "vllm-periodic": periodic(0, 5, 1, 20.5) + periodic(1, 7, 0, 30),
    "lmdeploy": "[2026-02-05 17:05:17 DP0] Avg thr (in/out): 4618.5 / 2756.3 tokens/s, API server (completed/routed/"
    "waiting): 1 / 50 / 50, Engine (running/waiting): 45 / 5, KV cache: 21.6%, \n",
    "dyntra-lb": "INFO 08-22 10:00:00 [x.py:89] [dyntra_lb] requests_by_rank (DP Workload Status):\n"
    "INFO 08-22 10:00:00 [x.py:97]  DP0 | Run(2): [ 12, 700]  | Wait(1): [ 16]\n"
    "INFO 08-22 10:00:00 [x.py:97]  DP1 | Run(0): []  | Wait(0): []\n"
    "INFO 08-22 10:00:00 [y.py:96] schedule() | blk num [752] | block size [scheduler=128, dyntra_lb=128]\n",
    "trtllm-log": "[08/22/2026-10:00:00] [TRT-LLM] [I] iter = 12, global_rank = 0, rank = 0, num_scheduled_requests = 3, "
    "host_step_time = 12.5ms, timestamp = 2026-08-22 10:00:00, states = {'num_ctx_tokens': 0, 'cached_kv_tokens': 9}\n",
    "trtllm-metrics": '{"iter": 2, "attentionDpRank": 1, "iterLatencyMS": 25.0, "inflightBatchingStats": '
    '{"numGenRequests": 9, "numGenKvTokens": 638, "numScheduledRequests": 9}}\n',
    "vllm-prometheus": 'vllm:num_requests_running{engine="0"} 27.0\nvllm:num_requests_running{engine="1"} 5.0\n',
    "sglang": "".join(
        f"[2026-08-22 10:00:0{second} DP{rank} TP{rank}] Decode batch, #running-req: 3, #token: 900, token usage: 0.41, "
        "cuda graph: True, gen throughput (token/s): 150.0, #queue-req: 0\n"
        for second in (1, 2)
        for rank in (0, 1)
    ),
    "sglang-loads": '{"timestamp": "2026-08-22T10:00:00+00:00", "version": "0.5.23", "loads": [{"dp_rank": 0, '
    '"num_running_reqs": 3, "num_used_tokens": 900}, {"dp_rank": 1, "num_running_reqs": 4, "num_used_tokens": 700}]}\n',
    "sglang-prometheus": 'sglang:num_running_reqs{dp_rank="0"} 3.0\nsglang:num_running_reqs{dp_rank="1"} 4.0\n',
    "fpm": "".join(record(rank, step) for step in (7, 8) for rank in (0, 1)),
}


@pytest.fixture
def examples(tmp_path: Path) -> dict[str, Path]:
    """One small valid trace per format, all called `trace`, so that a name tells nothing."""
    paths = {}
    for name, text in TEXTS.items():
        paths[name] = tmp_path / name / "trace"
        paths[name].parent.mkdir()
        paths[name].write_text(text)
    paths["parquet"] = tmp_path / "parquet" / "trace"
    write_parquet(read_trace(str(paths["native"])), paths["parquet"])
    return paths


def same(one: Trace, other: Trace) -> bool:
    """Equal tables and metadata, apart from where each was read from."""
    for left, right in ((one.requests, other.requests), (one.steps, other.steps)):
        if (left is None) is not (right is None) or (left is not None and not left.equals(right, null_equal=True)):
            return False
    config = {key: value for key, value in other.meta.config.items() if key != "converted_from"}
    where = {"source": one.meta.source, "format": one.meta.format, "sha256": one.meta.sha256}
    ranks = [[source["ranks"] for source in trace.meta.sources] for trace in (one, other)]
    return ranks[0] == ranks[1] and one.meta == replace(other.meta, config=config, sources=one.meta.sources, **where)


def test_every_format_in_the_registry_has_an_example(examples: dict[str, Path]) -> None:
    assert sorted(examples) == FORMATS.names()


def matching(path: Path) -> list[str]:
    with Source(str(path)) as source:
        return [cls.name for cls in FORMATS.classes() if cls.matches(source)]


@pytest.mark.parametrize("name", FORMATS.names())
def test_exactly_one_format_matches_an_example(name: str, examples: dict[str, Path]) -> None:
    assert matching(examples[name]) == [name]


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_format_says_what_it_holds_and_its_unit_of_time(name: str) -> None:
    cls = FORMATS.get(name)
    assert cls.content in ("requests", "steps", "requests and steps")
    assert cls.time_unit
    assert cls.__doc__


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_trace_of_every_format_has_known_columns_and_says_where_it_is_from(
    name: str, examples: dict[str, Path]
) -> None:
    trace = read_trace(str(examples[name]))
    assert trace.meta.format == name
    assert trace.meta.source == str(examples[name])
    assert trace.meta.sha256 is not None
    assert len(trace.meta.sha256) == 64
    content = FORMATS.get(name).content
    assert (trace.requests is not None) is ("requests" in content)
    assert (trace.steps is not None) is ("steps" in content)
    if trace.requests is not None:
        assert {key: kind for key, kind in trace.requests.schema.items() if key != "request_id"} == {
            key: kind for key, kind in REQUEST_COLUMNS.items() if key in trace.requests.columns
        }
    if trace.steps is not None:
        assert all(STEP_COLUMNS[key] == kind for key, kind in trace.steps.schema.items())


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_survives_the_way_through_native_and_parquet(
    name: str, examples: dict[str, Path], tmp_path: Path
) -> None:
    first = read_trace(str(examples[name]))
    write_native(first, tmp_path / "one.jsonl.gz")
    one = read_trace(str(tmp_path / "one.jsonl.gz"))
    write_parquet(one, tmp_path / "two")
    two = read_trace(str(tmp_path / "two"))
    write_native(two, tmp_path / "three.jsonl.gz")
    assert same(first, one)
    assert one.meta.config == two.meta.config
    assert same(first, two)
    assert (tmp_path / "three.jsonl.gz").read_bytes() == (tmp_path / "one.jsonl.gz").read_bytes()


def test_a_converted_trace_remembers_its_first_source(examples: dict[str, Path], tmp_path: Path) -> None:
    azure = read_trace(str(examples["azure"]))
    write_native(azure, tmp_path / "one.jsonl")
    write_parquet(read_trace(str(tmp_path / "one.jsonl")), tmp_path / "two")
    origin = {"format": "azure", "name": "trace", "sha256": azure.meta.sha256}
    assert read_trace(str(tmp_path / "two")).meta.config == {"converted_from": origin}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_format_is_told_by_its_content(name: str, packed: str, how: str, tmp_path: Path) -> None:
    pack = {"plain": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[packed]
    data = pack(TEXTS[name].encode())
    path = tmp_path / "some.thing"
    path.write_bytes(data)
    stdin = io.BytesIO(data)
    trace = read_trace("-", stdin=stdin) if how == "stdin" else read_trace(str(path))
    assert trace.meta.format == name
    assert trace.meta.source == ("<stdin>" if how == "stdin" else str(path))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("mark", ["\ufeff", "\n \n"], ids=["byte order mark", "blank lines"])
def test_a_mark_or_blank_lines_before_the_text_do_not_matter(name: str, mark: str, tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_text(TEXTS[name], encoding="utf-8")
    marked.write_text(mark + TEXTS[name], encoding="utf-8")
    assert same(read_trace(str(plain)), read_trace(str(marked)))


@pytest.mark.parametrize("name", TEXTS)
def test_carriage_returns_and_blank_lines_do_not_matter(name: str, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.write_text(TEXTS[name])
    other.write_bytes(TEXTS[name].replace("\n", "\r\n\r\n  \r\n").encode())
    assert same(read_trace(str(plain)), read_trace(str(other)))


def test_the_format_may_be_named(examples: dict[str, Path]) -> None:
    assert read_trace(str(examples["lengths"]), format_name="lengths").num_requests == 2
    with pytest.raises(UsageError, match="unknown format 'azur': did you mean 'azure'"):
        read_trace(str(examples["azure"]), format_name="azur")


@pytest.mark.parametrize("text", ["hello\n", "a,b,c\n1,2,3\n", "[1, 2]\n", '{"a": 1}\n', "{\n"])
def test_content_that_is_no_trace_is_refused_with_the_known_formats(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_trace(str(path))
    known = ", ".join(FORMATS.names())
    assert str(caught.value) == f"{path}: its content is no known trace format, expected one of {known}"


def test_a_directory_that_is_no_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_trace(str(tmp_path))
    assert str(caught.value) == f"{tmp_path}: the directory has no files, expected logs in it, or a meta.json"


@pytest.mark.parametrize(
    ("file", "name", "requests", "origin"),
    [
        ("AzureLLMInferenceTrace_conv.csv", "azure", 19_366, "2023-11-16 18:15:46.6805900"),
        ("AzureLLMInferenceTrace_code.csv", "azure", 8_819, "2023-11-16 18:17:03.9799600"),
        ("mooncake_conversation_trace.jsonl", "mooncake", 12_031, "0"),
        ("burstgpt_lengths_8000.csv", "lengths", 8_000, None),
    ],
)
def test_real_traces_are_read_whole(shared: Path, file: str, name: str, requests: int, origin: str | None) -> None:
    trace = read_trace(str(shared / "traces" / file))
    assert (trace.meta.format, trace.num_requests, trace.meta.time_origin) == (name, requests, origin)
    assert trace.meta.excluded == {}
    assert ("arrival_ms" in trace.requests.columns) is (origin is not None)
    if trace.requests is not None and origin is not None:
        assert trace.requests["arrival_ms"][0] == 0.0


@pytest.mark.parametrize(
    ("file", "name", "last"),
    [
        ("azure_llm.csv", "azure", (2, 77397.559, 110, 27)),
        ("azure_llm_2024.csv", "azure", (1, 172809990.07, 200, 20)),
        ("burstgpt.csv", "burstgpt", (2, 113000.0, 417, 276)),
        ("burstgpt_v2.csv", "burstgpt", (1, 51000.0, 36, 29)),
        ("mooncake_trace.jsonl", "mooncake", (4, 30535.0, 6472, 26)),
    ],
)
def test_sample_log_lines_are_read(shared: Path, file: str, name: str, last: tuple[int, float, int, int]) -> None:
    trace = read_trace(str(shared / "logs" / file))
    assert trace.requests is not None
    row = trace.requests.select("request_id", "arrival_ms", "prompt_tokens", "output_tokens").row(-1)
    assert (trace.meta.format, row) == (name, last)


def test_no_sample_log_fits_two_formats(shared: Path) -> None:
    for path in sorted((shared / "logs").iterdir()):
        assert len(matching(path)) <= 1, path.name


def test_strict_refuses_times_that_run_backwards(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(TEXTS["mooncake"].replace("0,", "9,", 1) + TEXTS["mooncake"])
    relaxed = read_trace(str(path))
    assert relaxed.meta.warnings == ("1 arrival time runs backwards; requests were sorted by arrival",)
    with pytest.raises(InputError) as caught:
        read_trace(str(path), options=ReadOptions(strict=True))
    expected = "expected times in order (or no --strict, to sort them)"
    assert str(caught.value) == f"{path}:2: timestamp: runs backwards from the request before it, {expected}"


LOGS = sorted(name for name in TEXTS if issubclass(FORMATS.get(name), LogReader))


@pytest.mark.parametrize("name", LOGS)
def test_no_damage_of_a_log_raises_anything_but_a_refusal(name: str, tmp_path: Path) -> None:
    text = 3 * TEXTS[name].encode()
    generator = np.random.default_rng(7)
    path = tmp_path / "x.log"
    read = 0
    for _ in range(300):
        path.write_bytes(damaged(text, generator))
        try:
            steps = read_trace(path, format_name=name).step_arrays()
        except InputError:
            continue
        read += 1
        for loads in (steps.num_running, steps.kv_tokens):
            assert (np.isnan(loads) | (loads >= 0)).all()
    assert read > 100

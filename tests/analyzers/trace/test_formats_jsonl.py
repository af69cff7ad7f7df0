"""JSON Lines: Mooncake request logs, and the native format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import ReadOptions, mooncake, native, read_trace
from lbal.analyzers.trace.reading.fields import Rules
from lbal.analyzers.trace.trace import Trace

COUNT = "expected a whole number from 0 to 2**40"
COUNTS = "expected an array of: a whole number from 0 to 2**40, or null"
LOADS = "expected an array of: a number of at least 0, or null"
SAME = "expected the same fields on each of these lines, with null for a gap"
HEADER = '{"lbal_trace": 1, "dp_size": 2}'
REQUEST = '{"request_id": 1, "prompt_tokens": 5, "output_tokens": 2}'
STEP = '{"step": 0, "kv_tokens": [5, 6], "num_running": [1, 1]}'
Read = Callable[..., Trace]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reads lines, each given with its line end put after it (the last one too, unless `end` says otherwise)."""
    monkeypatch.chdir(tmp_path)

    def reader(*lines: str, end: str = "\n", strict: bool = False) -> Trace:
        Path("t.jsonl").write_text("\n".join(lines) + end)
        return read_trace("t.jsonl", options=ReadOptions(strict=strict))

    return reader


def refusal(read: Read, *lines: str, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        read(*lines, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def moon(timestamp: object = 0, prompt: object = 5, output: object = 2, **more: object) -> str:
    return json.dumps({"timestamp": timestamp, "input_length": prompt, "output_length": output, **more})


def step(number: object = 0, kv: object = (5, 6), running: object = (1, 1), **more: object) -> str:
    return json.dumps({"step": number, "kv_tokens": kv, "num_running": running, **more})


def request(request_id: object = 1, prompt: object = 5, output: object = 2, **more: object) -> str:
    return json.dumps({"request_id": request_id, "prompt_tokens": prompt, "output_tokens": output, **more})


# Mooncake


def test_mooncake_times_count_from_the_earliest_request(read: Read) -> None:
    trace = read(moon(1000), moon(1002.5, delay=5, session_id="s", hash_ids=[1], more={"a": [1]}), moon(900, 0, 1))
    assert trace.requests is not None
    assert trace.requests.rows() == [(2, 0.0, 0, 1), (0, 100.0, 5, 2), (1, 102.5, 5, 2)]
    assert trace.meta.time_origin == "900"


def test_ids_are_kept_as_ints_where_all_are_and_as_strings_otherwise(read: Read) -> None:
    for ids, kept in (([7, 3], [7, 3]), (["a", "b"], ["a", "b"]), ([7, "b"], ["7", "b"])):
        requests = read(*(moon(request_id=value) for value in ids)).requests
        assert requests is not None
        assert requests["request_id"].to_list() == kept


def test_ids_on_some_rows_only_give_way_to_numbers(read: Read) -> None:
    trace = read(moon(request_id=7), moon(), moon(request_id=None))
    assert trace.requests is not None
    assert trace.requests["request_id"].to_list() == [0, 1, 2]
    assert trace.meta.warnings == ("2 of 3 requests have no request_id; all were numbered in file order",)


@pytest.mark.parametrize("one", [moon, lambda **fields: request(fields["request_id"])])
def test_an_id_that_stands_twice_is_refused(read: Read, one: Callable[..., str]) -> None:
    first = [] if one is moon else [HEADER]
    lines = [*first, *(one(request_id=value) for value in ("a", "b", "a"))]
    assert refusal(read, *lines) == f"t.jsonl:{len(lines)}: request_id: 'a' stands twice, expected unique ids"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (moon(prompt=-3), f"input_length: -3 is negative, {COUNT}"),
        (moon(prompt=3.5), f"input_length: 3.5 is not a whole number, {COUNT}"),
        (moon(output=3.0), f"output_length: 3.0 is not a whole number, {COUNT}"),
        (moon(output="3"), f"output_length: '3' is not a whole number, {COUNT}"),
        (moon(output=None), f"output_length: null is not a whole number, {COUNT}"),
        (moon(output=True), f"output_length: true is not a whole number, {COUNT}"),
        (moon(output=2**40 + 1), f"output_length: 1099511627777 is too large, {COUNT}"),
        (moon(prompt=float("nan")), f"input_length: nan is not a whole number, {COUNT}"),
        (moon(float("nan")), "timestamp: nan is not finite, expected a finite number, or null"),
        (moon(float("inf")), "timestamp: inf is not finite, expected a finite number, or null"),
        (moon().replace("0", "1e999", 1), "timestamp: inf is not finite, expected a finite number, or null"),
        (moon("soon"), "timestamp: 'soon' is not a number, expected a finite number, or null"),
        ('{"timestamp": 0, "input_length": 1}', f"output_length: is missing in a Mooncake line, {COUNT}"),
        ("[1, 2]", "is not a JSON object, expected a JSON object"),
        ('{"a" 1}', "is not JSON (Expecting ':' delimiter at column 6), expected a JSON object"),
        (moon() + " " + moon(), "is not JSON (Extra data at column 57), expected a JSON object"),
        ("[" * 100_000, "is nested too deeply, expected a JSON object"),
    ],
)
def test_a_bad_mooncake_line_is_refused(read: Read, line: str, problem: str) -> None:
    told, expected = problem.split(", expected ")
    both = f"t.jsonl:3: {told} (2 lines are bad: 3, 4), expected {expected}"
    assert refusal(read, moon(), "", line, moon(prompt=-1)) == both


def test_a_failed_mooncake_request_is_excluded_and_counted(read: Read) -> None:
    trace = read(moon(0, output=0), moon(5), moon(9), moon(7))
    assert trace.num_requests == 3
    assert trace.meta.excluded == {"failed (0 output tokens)": 1}
    assert trace.meta.time_origin == "5"
    expected = "expected times in order (or no --strict, to sort them)"
    problem = f"t.jsonl:4: timestamp: runs backwards from the request before it, {expected}"
    assert refusal(read, moon(0, output=0), moon(5), moon(9), moon(7), strict=True) == problem


@pytest.mark.parametrize("lines", [[moon(), moon()], [HEADER, REQUEST, STEP]], ids=["mooncake", "native"])
def test_a_last_line_that_is_cut_is_refused_and_one_without_line_end_is_not(read: Read, lines: list[str]) -> None:
    assert read(*lines, end="").meta.warnings == ()
    cut = [*lines[:-1], lines[-1][:-4]]
    problem = refusal(read, *cut, end="")
    assert problem.startswith(f"t.jsonl:{len(lines)}: is not JSON (")
    assert problem.endswith("), truncated?, expected a JSON object")


# native


def test_a_native_trace_has_its_requests_steps_and_metadata(read: Read) -> None:
    trace = read(
        '{"lbal_trace": 1, "format": "native", "kind": "replayed", "engine": "jsq", "max_num_seqs": 8, "seed": 3,'
        ' "step_model": {"a": 1.5}, "config": {"x": [1]}, "excluded": {"other": 2}, "warnings": ["w"]}',
        request(4, arrival_ms=0, rank=1, admitted_ms=None),
        step(7, [5, None], [1, None], step_ms=2.5, compute_ms=[0.5, None], num_waiting=[0, 3], start_ms=0),
        request(5, arrival_ms=1, rank=None, admitted_ms=2.5),
        step(9, [6.25, 0], [1, 0], step_ms=None, compute_ms=[1, 2], num_waiting=[0, 0], start_ms=2.5),
    )
    assert trace.requests is not None
    assert trace.steps is not None
    assert trace.requests.columns == [
        "request_id",
        "arrival_ms",
        "prompt_tokens",
        "output_tokens",
        "rank",
        "admitted_ms",
    ]
    assert trace.requests.rows() == [(4, 0.0, 5, 2, 1, None), (5, 1.0, 5, 2, None, 2.5)]
    assert trace.steps.columns == [
        "step", "rank", "kv_tokens", "num_running", "num_waiting", "compute_ms", "step_ms", "start_ms",
    ]  # fmt: skip
    assert trace.steps.rows() == [
        (7, 0, 5.0, 1, 0, 0.5, 2.5, 0.0),
        (7, 1, None, None, 3, None, 2.5, 0.0),
        (9, 0, 6.25, 1, 0, 1.0, None, 2.5),
        (9, 1, 0.0, 0, 0, 2.0, None, 2.5),
    ]
    meta = trace.meta
    assert (meta.kind, meta.engine, meta.dp_size, meta.max_num_seqs, meta.seed) == ("replayed", "jsq", 2, 8, 3)
    assert (meta.step_model, meta.config, meta.excluded) == ({"a": 1.5}, {"x": [1]}, {"other": 2})
    assert (meta.format, meta.warnings, meta.time_unit) == ("native", ("w",), "ms")


def test_steps_out_of_order_are_put_in_order(read: Read) -> None:
    steps = read(HEADER, step(2), step(1, [7, 8])).steps
    assert steps is not None
    assert steps["step"].to_list() == [1, 1, 2, 2]


def test_failed_native_requests_add_to_those_excluded_before(read: Read) -> None:
    header = '{"lbal_trace": 1, "excluded": {"failed (0 output tokens)": 2}}'
    trace = read(header, request(1, output=0), request(2))
    assert trace.meta.excluded == {"failed (0 output tokens)": 3}


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (
            '{"lbal_trace": 2}',
            "lbal_trace: is version 2 of the native format, expected version 1, which this lbal reads",
        ),
        ('{"lbal_trace": 1, "dp_sise": 2}', "dp_sise: is no field of a trace header, expected 'dp_size'"),
        (
            '{"lbal_trace": 1, "dp_size": 0}',
            "dp_size: 0 is not positive, expected a whole number of at least 1, or null",
        ),
        (
            '{"lbal_trace": 1, "kind": "real"}',
            "kind: 'real' is not 'recorded' or 'replayed', expected 'recorded' or 'replayed'",
        ),
        ('{"lbal_trace": 1, "engine": 3}', "engine: 3 is not a string, expected a string, or null"),
        ('{"lbal_trace": 1, "config": []}', "config: [] is not an object, expected an object"),
        (
            '{"lbal_trace": 1, "warnings": [1]}',
            "warnings: element 0: 1 is not a string, expected an array of: a string",
        ),
        (
            '{"lbal_trace": 1, "excluded": {"a": -1}}',
            f"excluded: a: -1 is negative, expected an object of: {COUNT[9:]}",
        ),
        (
            '{"lbal_trace": 1,}',
            "is not JSON (Illegal trailing comma before end of object at column 17), expected a JSON object",
        ),
        (REQUEST, 'lbal_trace: is missing, expected a header line such as {"lbal_trace": 1}'),
        (STEP, 'lbal_trace: is missing, expected a header line such as {"lbal_trace": 1}'),
    ],
)
def test_a_bad_header_is_refused(read: Read, header: str, problem: str) -> None:
    if "trailing comma" in problem:  # worded otherwise by other versions of Python
        assert refusal(read, header, STEP).startswith("t.jsonl:1: is not JSON (")
    else:
        assert refusal(read, header, STEP) == f"t.jsonl:1: {problem}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (step(0), "step: 0 stands twice, expected one line per step"),
        (step(1, [5]), "kv_tokens: has 1 element, expected 2, one per rank"),
        (step(1, [5, 6, 7]), "kv_tokens: has 3 elements, expected 2, one per rank"),
        (step(1, running=[1]), "num_running: has 1 element, expected 2, one per rank"),
        (step(1, [5, -6]), f"kv_tokens: element 1: -6 is negative, {LOADS}"),
        (step(1, [5, "6"]), f"kv_tokens: element 1: '6' is not a number, {LOADS}"),
        (step(1, [5, float("nan")]), f"kv_tokens: element 1: nan is not finite, {LOADS}"),
        (step(1, running=[1, 1.5]), f"num_running: element 1: 1.5 is not a whole number, {COUNTS}"),
        (step(1, kv=None), f"kv_tokens: null is not an array, {LOADS}"),
        (step(-1), f"step: -1 is negative, {COUNT}"),
        (step(1, step_ms=0), "step_ms: 0 is not positive, expected a number above 0, or null"),
        (step(1, num_runing=[1, 2]), "num_runing: is no field of a step line, expected 'num_running'"),
        (step(1, step_ms=2), f"step_ms: stands here, unlike in line 2, {SAME}"),
        (
            '{"step": 1, "kv_tokens": [1, 2]}',
            "num_running: is missing, unlike in line 2, expected the same fields on each of these lines, with null for a gap",
        ),
        (
            step(1, request_id=4),
            "request_id: is no field of a step line, expected one of step, kv_tokens, num_running, "
            "num_waiting, prefill_tokens, prefill_pairs, padded_running, compute_ms, kv_fraction, wait_ms, step_ms, start_ms",
        ),
        (request(2, promt_tokens=4), "promt_tokens: is no field of a request line, expected 'prompt_tokens'"),
        (request(2, prompt=-5), f"prompt_tokens: -5 is negative, {COUNT}"),
        (request(2, rank=2), "rank: 2 is out of range, expected a rank in 0..1"),
        (request(2, rank=-1), f"rank: -1 is negative, {COUNT}, or null"),
        (request(2.5), "request_id: 2.5 is no id, expected a string or a whole number of up to 64 bits"),
        (request(2, arrival_ms=float("inf")), "arrival_ms: inf is not finite, expected a finite number, or null"),
        (request(2, arrival_ms=None), "arrival_ms: is missing, expected a time on every request or on none"),
    ],
)
def test_a_bad_native_line_is_refused(read: Read, line: str, problem: str) -> None:
    assert refusal(read, HEADER, STEP, line) == f"t.jsonl:3: {problem}"


def test_a_field_that_only_later_lines_lack_is_asked_for_as_null(read: Read) -> None:
    problem = refusal(read, HEADER, request(1, rank=0), request(2, rank=1), request(3))
    assert problem == f"t.jsonl:4: rank: is missing, unlike in line 2, {SAME}"


def test_the_first_step_tells_the_ranks_where_the_header_does_not(read: Read) -> None:
    assert read('{"lbal_trace": 1}', step(kv=[1, 2, 3], running=[1, 1, 1])).meta.dp_size == 3
    problem = refusal(read, '{"lbal_trace": 1}', STEP, step(1, kv=[1, 2, 3], running=[1, 1, 1]))
    assert problem == "t.jsonl:3: kv_tokens: has 3 elements, expected 2, one per rank"


def test_a_header_alone_is_refused(read: Read) -> None:
    assert refusal(read, HEADER) == "t.jsonl: no requests and no steps, expected at least one of either"


def test_whole_blocks_of_steps_and_of_requests_and_mixed_ones_read_alike(read: Read) -> None:
    requests = [request(i, arrival_ms=i) for i in range(20)]
    steps = [step(i, [i, 2 * i]) for i in range(20)]
    mixed = [line for pair in zip(requests, steps, strict=True) for line in pair]
    apart, together = read(HEADER, *requests, *steps), read(HEADER, *mixed)
    assert apart.requests is not None
    assert apart.requests.equals(together.requests)
    assert apart.steps is not None
    assert apart.steps.equals(together.steps)


# the fast decoders against the rules

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([2**40, 2**40 + 1, 2**63, -(2**63), 10**400]),
    st.floats(allow_nan=False, allow_infinity=False, width=16),
    st.text(max_size=2),
)
ELEMENTS = st.one_of(VALUES, st.lists(VALUES, max_size=2), st.dictionaries(st.text(max_size=1), VALUES, max_size=1))


@pytest.mark.parametrize(
    ("record", "rules"),
    [
        (mooncake._Line, mooncake.RULES),
        (native._StepLine, native.STEP_RULES),
        (native._RequestLine, native.REQUEST_RULES),
    ],
)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_the_fast_decoder_accepts_what_the_rules_accept(record: type, rules: Rules, data: st.DataObject) -> None:
    names = st.sampled_from([*rules.kinds, "other"])
    valid = {name: [1] if "array" in rules.kinds[name].expected else 1 for name in rules.required}
    line = valid | data.draw(st.dictionaries(names, ELEMENTS, max_size=2))
    try:
        msgspec.json.decode(json.dumps(line).encode(), type=record)
        fast = True
    except msgspec.ValidationError:
        fast = False
    try:
        rules.refuse(line, "f", 1)
        plain = True
    except InputError:
        plain = False
    assert fast is plain

"""Looks at SGLang from outside: polls of /v1/loads, scrapes of /metrics, and its own barrier metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import lbal
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats import read_trace


def load(rank: int, running: int, used: int, **more) -> dict:
    return {
        "dp_rank": rank,
        "num_running_reqs": running,
        "num_used_tokens": used,
        "num_total_tokens": used + 5000,
        **more,
    }


def poll(second: int, *loads: dict) -> dict:
    return {"timestamp": f"2026-08-22T10:00:{second:02d}+00:00", "version": "0.5.23", "loads": list(loads)}


POLLS = [poll(second, load(0, 8, 100 + second), load(1, 9, 200 + second)) for second in range(4)]


def wait(second: float, total_us: float, passes: float = 0.0) -> dict:
    return {"decode_moments": [passes, 33 * passes, total_us, 0.0, 0.0, 0.0], "gen_throughput": 1.0}


def test_used_tokens_are_the_load_and_waiting_ones_are_not(read) -> None:
    trace = read(json.dumps(POLLS[0]))
    assert trace.step_arrays().kv_tokens.tolist() == [[100, 200]]
    assert trace.meta.engine_version == "0.5.23"


@pytest.mark.parametrize(
    "written",
    [
        lambda polls: "\n".join(map(json.dumps, polls)),
        lambda polls: "".join(map(json.dumps, polls)),
        lambda polls: json.dumps(polls),
        lambda polls: json.dumps(polls, indent=4),
        lambda polls: "\n".join(json.dumps(each, indent=2) for each in polls),
        lambda polls: "\n".join(json.dumps({"ts": 5, "body": each}) for each in polls),
    ],
    ids=["lines", "end to end", "list", "pretty list", "pretty", "wrapped"],
)
def test_polls_are_read_however_they_were_appended(written, read) -> None:
    steps = read(written(POLLS)).step_arrays()
    assert steps.kv_tokens.tolist() == [[100 + second, 200 + second] for second in range(4)]
    assert steps.start_ms.tolist() == [0, 1000, 2000, 3000]


def test_step_times_are_those_of_the_passes_between_polls(read) -> None:
    moments = [(1000, 20e6), (1100, 22.5e6), (1100, 22.5e6), (50, 1e6)]  # the last after a restart
    polls = [poll(second, load(0, 8, 100, **wait(second, us, n))) for second, (n, us) in enumerate(moments)]
    step_ms = read("\n".join(map(json.dumps, polls))).step_arrays().step_ms
    assert np.array_equal(step_ms, [20.0, 25.0, np.nan, 20.0], equal_nan=True)


def test_a_damaged_poll_is_counted_and_the_next_one_is_read(read) -> None:
    lines = [json.dumps(each) for each in POLLS]
    lines[1] = lines[1][: len(lines[1]) // 2]
    trace = read("\n".join(lines))
    assert trace.step_arrays().kv_tokens[:, 0].tolist() == [100, 102, 103]
    assert trace.meta.excluded == {"polls that cannot be read": 1}
    assert read("\n".join(json.dumps(each, indent=2) for each in POLLS)[:-40]).num_steps == 3


@pytest.mark.parametrize("between", ["", "\n", ",\n"], ids=["end to end", "lines", "commas"])
@pytest.mark.parametrize("damage", ["cut", "a quote", "a brace", "lost bytes"])
def test_a_damaged_poll_costs_no_other_one(between: str, damage: str, read) -> None:
    """`curl >> file` writes no line ends: the next answer begins where the last one ends."""
    for at in range(5, len(json.dumps(POLLS[1])) - 5, 7):
        lines = [json.dumps(each) for each in POLLS]
        whole = lines[1]
        rest = {
            "cut": "",
            "a quote": '"' + whole[at + 1 :],
            "a brace": "{" + whole[at + 1 :],
            "lost bytes": whole[at + 4 :],
        }
        lines[1] = whole[:at] + rest[damage]
        if damage == "cut" and not between:
            continue  # nothing tells where the cut one ends
        tokens = read(between.join(lines)).step_arrays().kv_tokens[:, 0].tolist()
        assert {100, 102, 103} <= set(tokens), at


def test_looks_that_a_rank_has_not_renewed_are_told(read) -> None:
    old = poll(30, load(0, 8, 100, timestamp=1787392802.0), load(1, 9, 200, timestamp=1787392829.9))
    assert any("1 of 2 looks at a rank are more than 5 s older" in note for note in read(json.dumps(old)).meta.warnings)


def test_a_poll_without_load_says_so(read) -> None:
    with pytest.raises(InputError, match="is a poll of SGLang's /v1/loads without num_running_reqs"):
        read(json.dumps({"timestamp": "2026-08-22T10:00:00+00:00", "loads": []}))


def test_the_sample_poll_reads_as_it_is(shared: Path) -> None:
    trace = read_trace(shared / "logs/sglang_loads.json")
    steps = trace.step_arrays()
    assert (steps.kv_tokens[0, 0], steps.num_running[0, 0], steps.step_ms[0]) == (64500, 33, 21.0)
    assert (trace.meta.max_num_seqs, trace.meta.kv_capacity) == (64, 157000)


def barrier(
    rank: int,
    *,
    scheduled: float,
    short: float,
    idle: float,
    busy: float,
    wait: Sequence[float] = (),
    ratios: Sequence[float] = (),
) -> str:
    """The text of SGLang's own barrier metrics of a rank, with the waits in s and the ratios max/mean observed so far."""
    labels = f'dp_rank="{rank}",model_name="m",tp_rank="{rank}"'
    lines = [f"sglang:num_running_reqs{{{labels}}} 8.0", f"sglang:num_used_tokens{{{labels}}} 800.0"]
    for kind, value in (("scheduled", scheduled), ("imbalance", short)):
        lines.append(f'sglang:dp_attention_tokens_total{{kind="{kind}",{labels}}} {value}')
        lines.append(f'sglang:dp_attention_pairs_total{{kind="{kind}",{labels}}} {2 * value}')
    for state, value in (("busy", busy), ("idle", idle)):
        lines.append(f'sglang:dp_attention_steps_total{{rank_state="{state}",{labels}}} {value}')
    for name, values, bounds in (
        ("sync_wait_seconds", wait, (0.001, 0.01, 0.1)),
        ("token_imbalance_ratio", ratios, (1.0, 1.5, 2.0)),
    ):
        for bound in (*bounds, float("inf")):
            le = "+Inf" if bound == float("inf") else bound
            below = sum(value <= bound for value in values)
            lines.append(f'sglang:dp_attention_{name}_bucket{{le="{le}",{labels}}} {below}.0')
        lines.append(f"sglang:dp_attention_{name}_sum{{{labels}}} {sum(values)}")
        lines.append(f"sglang:dp_attention_{name}_count{{{labels}}} {len(values)}.0")
    return "\n".join(lines) + "\n"


FIRST = "2026-08-22T10:00:00Z\n" + barrier(0, scheduled=1000, short=0, idle=5, busy=95, wait=[0.5], ratios=[1.9])
LAST = "2026-08-22T10:00:10Z\n" + barrier(
    0, scheduled=4000, short=1000, idle=25, busy=175, wait=[0.5, 0.005, 0.005, 0.05], ratios=[1.9, 1.2, 1.4, 1.0]
)


def test_the_barrier_metrics_are_those_between_the_scrapes_under_their_own_names(read) -> None:
    trace = read(FIRST + LAST)
    found = trace.meta.config["sglang_barrier_metrics"]
    assert found["dp_attention_tokens_total"]["share"] == 0.25
    assert found["dp_attention_pairs_total"]["share"] == 0.25
    assert found["dp_attention_steps_total"]["idle_share"] == {"0": 0.2}
    assert found["dp_attention_token_imbalance_ratio"] == {
        "mean": pytest.approx(1.2),
        "count": 3,
        "p50_at_most": 1.5,
        "p90_at_most": 1.5,
        "p99_at_most": 1.5,
    }
    wait = found["dp_attention_sync_wait_seconds"]
    assert (wait["mean"], wait["p50_at_most"], wait["p99_at_most"]) == (pytest.approx(0.02), 0.01, 0.1)
    assert wait["share_of_rank_time"] == pytest.approx(0.006)
    notes = "\n".join(lbal.analyze(trace).notes)
    assert "SGLang's own sglang:dp_attention_token_imbalance_ratio, between the first scrape and the last" in notes
    assert "max/mean of new tokens over ranks is 1.200 on average over 3 passes, p50 at most 1.5" in notes
    assert lbal.analyze(trace).config["sglang_barrier_metrics"] == found


def test_of_one_scrape_the_barrier_metrics_are_since_the_start(read) -> None:
    trace = read(LAST)
    assert trace.meta.config["sglang_barrier_metrics"]["dp_attention_tokens_total"]["share"] == 0.2
    assert any("since the start of the server" in note for note in trace.meta.warnings)


def test_a_counter_that_began_anew_counts_since_then(read) -> None:
    anew = FIRST.replace("10:00:00", "10:00:20")
    found = read(LAST + anew).meta.config["sglang_barrier_metrics"]
    assert found["dp_attention_steps_total"]["idle_share"] == {"0": 0.05}


def test_copies_of_a_series_by_other_processes_are_not_added(read) -> None:
    text = "".join(
        f'sglang:num_running_reqs{{dp_rank="{rank}",tp_rank="{tp}"}} {5 + rank}.0\n'
        for tp in (3, 0, 1)
        for rank in (0, 1)
    )
    trace = read(text)
    assert trace.step_arrays().num_running.tolist() == [[5, 6]]
    assert any("those of the first count" in note for note in trace.meta.warnings)


def test_the_text_form_of_loads_is_a_scrape(read) -> None:
    lines = [
        f'{name}{{dp_rank="{rank}"}} {value + rank}\n'
        for name, value in (
            ("sglang_num_running_reqs", 8),
            ("sglang_num_waiting_reqs", 1),
            ("sglang_num_used_tokens", 900),
            ("sglang_num_total_tokens", 5000),
            ("sglang_max_total_num_tokens", 157000),
        )
        for rank in (0, 1)
    ]
    steps = read("".join(lines)).step_arrays()
    assert (steps.num_running.tolist(), steps.kv_tokens.tolist()) == ([[8, 9]], [[900, 901]])


def test_one_rank_alone_is_told_the_switch_for_the_others(read) -> None:
    warnings = read('sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 5.0\n').meta.warnings
    assert any("--enable-metrics-for-all-schedulers" in note for note in warnings)
    assert any("SGLANG_ENABLE_METRICS_DP_ATTENTION=1" in note for note in warnings)


def test_a_scrape_without_load_says_what_is_missing(read) -> None:
    with pytest.raises(InputError, match="is a scrape of SGLang without sglang:num_running_reqs"):
        read("# TYPE sglang:prompt_tokens counter\nsglang:prompt_tokens_total 5\n")


def test_the_sample_scrape_reads_as_it_is(shared: Path) -> None:
    steps = read_trace(shared / "logs/sglang_prometheus.txt").step_arrays()
    assert (steps.num_running[0, 3], steps.kv_tokens[0, 3], steps.num_waiting[0, 3]) == (33, 64500, 0)

"""The sample traces: made anew they are the same bytes, and the figures worked out by hand are those that lbal prints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import folder_of_lbal

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
LOG = "sglang_decode_8_ranks.log"
TRACES = ["two_ranks_three_steps.jsonl", "skewed_8_ranks.jsonl", "own_time_4_ranks.jsonl", "requests_2000.jsonl", LOG]

BY_HAND = {
    "barrier_idle_fraction": 13 / 98,
    "barrier_idle_rank_seconds": 0.013,
    "imbalance_tokens_mean": 1000 / 3,
    "balance_ratio_mean": 23 / 36,
    "imbalance_ratio_mean": 29 / 18,
    "tokens_per_second": 7 / 0.049,
    "makespan_s": 0.049,
    "steps": 3,
    "slot_use": 7 / 12,
    "perfect_balance_speedup": 49 / 42.5,
    "perfect_balance_throughput_fraction": 42.5 / 49,
    "kv_time_fraction": 14 / 49,
    "requests_completed": 6,
    "tpot_ms_mean": 98 / 6,
    "queue_wait_ms_max": 26,
    "queue_wait_steps_max": 1,
}


def result_of(*arguments):
    command = [folder_of_lbal() / "lbal", *arguments, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.fixture(scope="module")
def small():
    return result_of("analyze", str(SAMPLES / "two_ranks_three_steps.jsonl"))["runs"][0]


@pytest.fixture(scope="module")
def skewed():
    return result_of("analyze", str(SAMPLES / "skewed_8_ranks.jsonl"))


def test_the_generator_writes_the_committed_bytes(tmp_path):
    subprocess.run([sys.executable, str(SAMPLES / "generate.py"), str(tmp_path)], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(TRACES)
    for name in TRACES:
        assert (tmp_path / name).read_bytes() == (SAMPLES / name).read_bytes(), name


def test_a_sample_has_rank_times_with_a_constant_part_and_no_rank_of_it_is_slow():
    found = result_of("analyze", str(SAMPLES / "own_time_4_ranks.jsonl"))
    assert found["config"]["step_model"]["a"] == pytest.approx(40e-9, rel=0.03)
    assert found["config"]["step_model"]["C"] == pytest.approx(0.020, rel=0.01), "15 ms, and 5 ms of each rank"
    assert [rank["work_factor"] for rank in found["runs"][0]["ranks"]] == pytest.approx([1.0] * 4, abs=0.01)
    assert "most of it because of uneven numbers of requests" in found["headline"]
    assert not [note for note in found["notes"] if "load explains" in note]


def test_the_samples_are_small():
    assert sum((SAMPLES / name).stat().st_size for name in TRACES) < 1_000_000
    assert (SAMPLES / LOG).stat().st_size < 100_000


def test_the_log_shows_the_rank_with_the_long_documents_and_loses_no_line():
    result = result_of("analyze", str(SAMPLES / LOG))
    (trace,), (run,) = result["inputs"], result["runs"]
    assert (trace["format"], trace["steps"], trace["excluded"]) == ("sglang", 44, {})
    assert result["config"]["max_num_seqs"] == 64
    assert result["headline"].startswith(
        "13.8% of rank-time is barrier idle (modelled), most of it because of uneven lengths"
    )
    assert "Lengths of requests differ: the fullest rank holds 2.831 times the mean KV tokens" in result["headline"]
    assert [rank["straggler_fraction"] for rank in run["ranks"]] == [0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("name", BY_HAND)
def test_a_figure_of_the_small_trace_is_the_one_worked_out_by_hand(small, name):
    assert small["metrics"][name]["value"] == pytest.approx(BY_HAND[name], rel=1e-12)


def test_the_idle_of_the_small_trace_has_the_causes_worked_out_by_hand(small):
    by_hand = {"empty": 6 / 98, "count": 3 / 98, "length": 4 / 98, "speed": 0, "unexplained": 0}
    assert small["attribution"] == pytest.approx(by_hand, abs=1e-12)


def test_in_the_small_trace_rank_0_never_waits_and_rank_1_does_13_of_49_ms(small):
    idle = [rank["idle_fraction"] for rank in small["ranks"]]
    assert idle == pytest.approx([0, 13 / 49], abs=1e-12)
    assert [rank["straggler_fraction"] for rank in small["ranks"]] == [1, 0]


def test_idle_of_the_small_trace_is_measured_but_its_share_of_kv_rests_on_a_model(small):
    assert small["metrics"]["barrier_idle_fraction"]["basis"] == "measured"
    assert small["metrics"]["kv_time_fraction"]["basis"] == "modelled"


def test_replaying_the_small_trace_as_recorded_gives_the_figures_worked_out_by_hand():
    trace, model = str(SAMPLES / "two_ranks_three_steps.jsonl"), "C=0.01,a=1e-5,b=0.001"
    metrics = result_of("replay", trace, "--policy", "recorded", "--step-model", model)["runs"][0]["metrics"]
    for name, value in BY_HAND.items():
        assert metrics[name]["value"] == pytest.approx(value, rel=1e-12), name
        assert metrics[name]["basis"] == "modelled"


def test_the_document_of_the_samples_states_the_figures_that_are_tested():
    text = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for shown in ("13/98 = 13.3%", "6/98, 3/98, 4/98", "23/36", "29/18", "49/42.5", "7/12", "14/49", "458 steps"):
        assert shown in text


def test_the_slow_rank_of_the_skewed_trace_is_named(skewed):
    (note,) = skewed["notes"]
    assert note.startswith("rank 5 takes 1.20x the time that its load explains")


def test_the_coefficients_behind_the_skewed_trace_are_found_again(skewed):
    model = skewed["config"]["step_model"]
    assert model["C"] == pytest.approx(0.020, rel=0.01)
    assert model["a"] == pytest.approx(40e-9, rel=0.05)
    assert model["b"] == pytest.approx(150e-6, rel=0.05)


def test_the_ranks_with_long_prompts_are_the_stragglers_of_the_skewed_trace(skewed):
    shares = [rank["straggler_fraction"] for rank in skewed["runs"][0]["ranks"]]
    assert shares[2] + shares[3] > 0.8
    assert skewed["runs"][0]["attribution"]["length"] == max(skewed["runs"][0]["attribution"].values())


def test_the_loads_of_the_skewed_trace_are_those_of_its_requests():
    records = [json.loads(line) for line in (SAMPLES / "skewed_8_ranks.jsonl").read_text().splitlines()[1:]]
    requests = [record for record in records if "request_id" in record]
    steps = [record for record in records if "step" in record]
    assert len(steps) == 458
    assert len(requests) == 400
    starts = {step["start_ms"]: index for index, step in enumerate(steps)}
    tokens = [[0] * 8 for _ in steps]
    running = [[0] * 8 for _ in steps]
    for request in requests:
        first, rank = starts[request["admitted_ms"]], request["rank"]
        assert request["arrival_ms"] <= request["admitted_ms"]
        for age in range(request["output_tokens"]):
            tokens[first + age][rank] += request["prompt_tokens"] + age
            running[first + age][rank] += 1
        last = steps[first + request["output_tokens"] - 1]
        assert request["finish_ms"] == pytest.approx(last["start_ms"] + last["step_ms"], abs=1e-6)
    assert tokens == [step["kv_tokens"] for step in steps]
    assert running == [step["num_running"] for step in steps]
    assert max(map(max, running)) <= 16


def test_the_request_trace_loads_the_cluster_of_the_readme_well():
    trace = str(SAMPLES / "requests_2000.jsonl")
    (run,) = result_of("replay", trace, "--dp-size", "8", "--max-num-seqs", "32", "--policy", "jsq")["runs"]
    assert 0.6 < run["metrics"]["slot_use"]["value"] < 0.9
    assert run["metrics"]["requests_completed"]["value"] == 2000

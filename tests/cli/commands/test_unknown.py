"""What a trace does not tell is n/a with the reason, never 0; and what is there is still told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lbal.cli.main import run

MODEL = ["--step-model", "C=0.001,a=1e-6,b=1e-4,b_mean=0"]


@pytest.fixture
def analyzed(tmp_path: Path, capsys):
    """Analyses steps and returns the one run, with what was printed as notes."""

    def analyze(header: dict[str, Any], *steps: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
        path = tmp_path / "x.jsonl"
        lines = [{"lbal_trace": 1, **header}, *({"step": number, **step} for number, step in enumerate(steps))]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert run(["analyze", str(path), *MODEL, "--json", "-o", str(tmp_path / "x.html"), "--force"]) == 0
        out, err = capsys.readouterr()
        assert run(["analyze", str(path), *MODEL]) == 0
        capsys.readouterr()
        result = json.loads(out)
        return result, result["runs"][0], err

    return analyze


def value(record: dict[str, Any], name: str) -> float:
    return record["metrics"][name]["value"]


def test_counts_alone_give_imbalance_of_requests_and_no_figure_of_tokens(analyzed) -> None:
    result, record, notes = analyzed(
        {"max_num_seqs": 64}, {"num_running": [8, 8, 8, 8]}, {"num_running": [27, 5, 0, 0]}
    )
    assert value(record, "request_imbalance_ratio_mean") == (1 + 3.375) / 2
    assert value(record, "imbalance_requests_mean") == (4 * 27 - 32) / 2
    for name in ("imbalance_tokens_mean", "balance_ratio_mean", "imbalance_ratio_mean", "kv_time_fraction"):
        assert name not in record["metrics"]
        assert record["unavailable"][name] == "the trace has no KV tokens"
    assert [rank["kv_tokens_mean"] for rank in record["ranks"]] == [None] * 4
    assert [rank["empty_fraction"] for rank in record["ranks"]] == [0, 0, 0.5, 0.5]
    assert set(record["attribution"]) == {"empty", "count", "speed", "unexplained"}
    assert "of running requests only" in result["headline"]
    assert "figures of tokens are n/a" in notes
    step_ms = [1 + 0.1 * 8, 1 + 0.1 * 27]
    assert value(record, "barrier_idle_fraction") == pytest.approx(0.1 * (4 * 27 - 32) / (4 * sum(step_ms)))


def test_gaps_are_of_the_load_that_the_trace_has(analyzed) -> None:
    _, _, notes = analyzed({}, {"num_running": [8, 2]}, {"num_running": [8, None]})
    assert "1 of 2 steps have gaps in num_running and are left out" in notes
    assert "kv_tokens" not in notes


def test_the_time_between_samples_is_no_pause(analyzed) -> None:
    looks = [{"num_running": [8, 2], "kv_tokens": [80, 20], "start_ms": number * 1e5} for number in range(2)]
    _, _, notes = analyzed({"resolution": "sampled"}, *looks)
    assert "no step runs" not in notes


def test_null_columns_are_the_same_as_none(analyzed) -> None:
    nulls = {"kv_tokens": [None, None], "num_running": [3, 1]}
    _, with_nulls, _ = analyzed({}, nulls)
    _, without, _ = analyzed({}, {"num_running": [3, 1]})
    assert with_nulls == without


def test_figures_of_some_of_the_ranks_say_that_idle_is_a_lower_bound(analyzed) -> None:
    loads = {"num_running": [None, None, 12, 6], "kv_tokens": [None, None, 768, 384], "step_ms": 100}
    result, record, notes = analyzed({"dp_size": 4}, loads, loads)
    assert [rank["rank"] for rank in record["ranks"]] == record["ranks_seen"] == [2, 3]
    assert value(record, "balance_ratio_mean") == 0.75
    assert value(record, "imbalance_tokens_mean") == 384
    assert record["worst_steps"][0]["straggler"] == 2
    assert result["inputs"][0]["ranks_seen"] == [2, 3]
    assert "a lower bound, of 2 of 4 ranks" in result["headline"]
    assert "the straggler may be on a rank that is not there" in notes


def test_tokens_alone_give_balance_and_no_figure_of_requests(analyzed) -> None:
    _, record, _ = analyzed({}, {"kv_tokens": [300, 100], "step_ms": 20})
    assert value(record, "balance_ratio_mean") == pytest.approx(2 / 3)
    assert value(record, "barrier_idle_rank_seconds") == pytest.approx(200e-6)
    for name in ("tokens_per_second", "energy_joules_per_token"):
        assert record["unavailable"][name] == "the trace has no running requests"
    assert record["attribution"] == {}


def test_samples_claim_nothing_of_single_steps(analyzed) -> None:
    loads = {"kv_tokens": [300, 100], "num_running": [2, 2], "start_ms": 0}
    result, record, _ = analyzed({"resolution": "sampled"}, loads, {**loads, "start_ms": 10_000})
    assert record["metrics"]["imbalance_tokens_mean"]["basis"] == "sampled"
    assert record["worst_steps"] == []
    for name in ("makespan_s", "barrier_idle_fraction_p99", "barrier_idle_rank_seconds", "energy_joules"):
        assert record["unavailable"][name] == "the trace has samples, not every step"
    assert "from samples" in result["headline"]
    assert result["inputs"][0]["resolution"] == "sampled"


def test_a_drawing_of_single_steps_is_refused_where_they_are_not_told(tmp_path, capsys) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"lbal_trace": 1}\n{"step": 0, "num_running": [1, 2]}\n')
    assert run(["analyze", str(path), "-o", str(tmp_path / "x.perfetto.json")]) == 2
    assert "shows single steps of all ranks" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["n01_counts_only", "n18_missing_node"])
def test_situations_from_the_field(name: str, shared: Path, capsys) -> None:
    assert run(["analyze", str(shared / "field" / f"{name}.jsonl"), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)["runs"]
    if name == "n01_counts_only":
        assert value(record, "request_imbalance_ratio_mean") == (1.0 + 3.375) / 2
    else:
        assert (record["ranks_seen"], value(record, "balance_ratio_mean")) == ([2, 3], 0.75)
        assert value(record, "imbalance_tokens_mean") == (384 + 390) / 2


ITERATIONS = "".join(
    f"(EngineCore_DP{rank} pid=9) INFO 05-01 10:00:0{step} [core.py:452] Iteration({step}): 0 context requests, 0 context "
    f"tokens, {running} generation requests, {running} generation tokens, iteration elapsed time: 40.00 ms\n"
    for step, loads in enumerate([(27, 5), (8, 8)])
    for rank, running in enumerate(loads)
)
SCRAPES = "".join(
    f'vllm:num_requests_running{{engine="{rank}",model_name="m"}} {running}.0\n' for rank, running in enumerate((27, 5))
)


@pytest.mark.parametrize(("log", "steps"), [(ITERATIONS, [(27, 5), (8, 8)]), (SCRAPES, [(27, 5)])])
def test_logs_of_counts_tell_imbalance_of_requests_and_idle_of_them_alone(log, steps, tmp_path, capsys) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(log)
    assert run(["analyze", str(path), *MODEL, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (record,) = result["runs"]
    step_ms = 40 if log == ITERATIONS else None
    idle_ms = [0.1 * (2 * max(loads) - sum(loads)) for loads in steps]
    took_ms = [step_ms or 1 + 0.1 * max(loads) for loads in steps]
    assert value(record, "barrier_idle_fraction") == pytest.approx(sum(idle_ms) / (2 * sum(took_ms)))
    assert value(record, "running_max_over_mean_p95") == 27 / 16
    assert value(record, "request_imbalance_ratio_mean") == pytest.approx(
        sum(2 * max(loads) / sum(loads) for loads in steps) / len(steps)
    )
    assert "of running requests only" in result["headline"]
    told = {
        name for name in record["metrics"] if "kv" in name or name.startswith(("imbalance_tokens", "balance_ratio"))
    }
    assert told == set()
    for name in ("imbalance_tokens_mean", "balance_ratio_mean", "kv_tokens_max_over_mean_p50", "kv_time_fraction"):
        assert record["unavailable"][name] == "the trace has no KV tokens"
    assert {rank["kv_tokens_mean"] for rank in record["ranks"]} == {None}

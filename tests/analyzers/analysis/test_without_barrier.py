"""Ranks that do not wait for one another: the answer tells how uneven their loads are, and no figure of idle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sglang_lines import decode
from vllm_lines import iteration, started

import lbal
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.trace.trace import Trace
from lbal.cli.main import run

TOKENS = {0: 1000, 1: 3000}
APART_IN_PASSES = 700


def plain_dp(apart: int = APART_IN_PASSES) -> str:
    """Every pass of two copies of the server, whose counts of passes are `apart`."""
    rows = [
        decode(rank, 10 * (rank + 1), TOKENS[rank], second=second, iteration=second + apart * rank, prefix="plain DP")
        for second in range(30)
        for rank in TOKENS
    ]
    return "".join(rows)


def dense_vllm() -> str:
    lines = [
        iteration("C", rank, 5 + step + APART_IN_PASSES * rank, 10 * (rank + 1), clock=f"08-22 10:00:{step:02d}", kv_percent=rank + 1)
        for step in range(30)
        for rank in TOKENS
    ]  # fmt: skip
    return started("C", 2) + "".join(lines)


LOGS = {
    "plain DP under SGLang": plain_dp(),
    "plain DP, started together": plain_dp(0),
    "dense under vLLM": dense_vllm(),
}


def trace_of(text: str, folder: Path) -> Trace:
    path = folder / "server.log"
    path.write_text(text)
    return lbal.read_trace(path)


@pytest.mark.parametrize("name", LOGS)
def test_the_headline_says_that_idle_does_not_apply_and_how_uneven_loads_are(name: str, tmp_path: Path) -> None:
    result = lbal.analyze(trace_of(LOGS[name], tmp_path))
    assert result.headline.startswith("Barrier idle does not apply: ")
    assert "rank-time" not in result.headline
    assert "the busiest runs 1.333 times the mean number of requests" in result.headline
    assert (
        result.runs[0]
        .metrics.keys()
        .isdisjoint({"barrier_idle_fraction", "perfect_balance_speedup", "energy_joules", "barrier_idle_fraction_p50"})
    )
    assert not any(value.basis == "modelled" for value in result.runs[0].metrics.values())
    assert "the ranks do not wait for one another" in result.runs[0].details["unavailable"]["barrier_idle_fraction"]
    assert not any(getattr(result.runs[0], part) for part in ("attribution", "headroom", "ranks", "worst_steps"))
    assert "figures those of load are theirs" in result.next["advice"]


@pytest.mark.parametrize("name", [name for name in LOGS if "together" not in name])
def test_passes_that_each_rank_counts_are_put_side_by_side_by_the_clock(name: str, tmp_path: Path) -> None:
    trace = trace_of(LOGS[name], tmp_path)
    running = trace.step_arrays().num_running
    assert (trace.meta.alignment, trace.meta.resolution) == ("time", "sampled")
    assert running.tolist() == [[10, 20]] * 30


@pytest.mark.parametrize("apart", [0, APART_IN_PASSES])
def test_copies_of_the_server_with_a_log_each_are_known_too(apart: int, tmp_path: Path) -> None:
    lines = plain_dp(apart).splitlines(keepends=True)
    for rank in TOKENS:
        (tmp_path / f"server-{rank}.log").write_text("".join(line for line in lines if f"DP{rank} " in line))
    trace = lbal.read_trace(tmp_path)
    assert trace.step_arrays().num_running.tolist() == [[10, 20]] * 30
    assert lbal.analyze(trace).headline.startswith("Barrier idle does not apply: ")


def test_tokens_are_told_where_they_are_known(tmp_path: Path) -> None:
    result = lbal.analyze(trace_of(LOGS["plain DP under SGLang"], tmp_path))
    assert "The fullest rank holds 1.500 times the mean KV tokens" in result.headline
    assert (
        "mean loads: rank 0 1,000 KV tokens and 10.0 requests; rank 1 3,000 KV tokens and 20.0 requests" in result.notes
    )


def test_it_stays_so_in_the_native_form(tmp_path: Path) -> None:
    trace = trace_of(LOGS["plain DP under SGLang"], tmp_path)
    lbal.write_native(trace, tmp_path / "again.jsonl")
    assert lbal.analyze(lbal.read_trace(tmp_path / "again.jsonl")).headline == lbal.analyze(trace).headline


def test_every_report_says_it_and_none_shows_idle(tmp_path: Path, capsys) -> None:
    log = tmp_path / "server.log"
    log.write_text(LOGS["plain DP under SGLang"])
    names = [str(tmp_path / f"out.{suffix}") for suffix in ("json", "csv", "md", "html")]
    assert run(["analyze", str(log), *[word for name in names for word in ("-o", name)]]) == 0
    assert (
        "barrier idle                          %              the ranks do not wait for one another"
        in capsys.readouterr().out
    )
    stored = json.loads(Path(names[0]).read_text())
    assert set(stored["runs"][0]["unavailable"]) <= set(METRICS)
    assert lbal.load_result(names[0]).headline == stored["headline"]
    for name in names[2:]:
        assert "Barrier idle does not apply" in Path(name).read_text()
    assert run(["compare", names[0], names[0]]) == 0
    capsys.readouterr()
    assert run(["analyze", str(log), "-o", str(tmp_path / "x.perfetto.json")]) == 2
    assert "which the trace does not tell" in capsys.readouterr().err


def test_ranks_of_attention_dp_still_wait(tmp_path: Path) -> None:
    text = LOGS["plain DP, started together"].replace("DP1 TP0]", "DP1 TP1]")
    result = lbal.analyze(trace_of(text, tmp_path))
    assert "of rank-time is barrier idle" in result.headline
    assert np.isfinite(result.runs[0].metrics["barrier_idle_fraction"].value)

"""Where the whole run and its steps up to the last admission disagree on the best policy, each verdict says so."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
import pytest

import lbal
from lbal.analyzers.trace.trace import Trace, TraceMeta
from lbal.cli.reports.table import TableReport

POLICIES = ("fcfs", "bf-io")


def trace_of(seed: int) -> Trace:
    """160 requests with outputs of a heavy tail: few of them make most of the run, after the last admission."""
    rng = np.random.default_rng(seed)
    outputs = np.maximum(1, rng.pareto(1.1, 160) * 6).astype(int).clip(1, 1500)
    prompts = rng.lognormal(6, 1, 160).astype(int) + 1
    requests = pl.DataFrame({"request_id": np.arange(160), "prompt_tokens": prompts, "output_tokens": outputs})
    return Trace.of(TraceMeta("made.jsonl", "native"), requests, None)


def replayed(seed: int, window: str, policies=POLICIES, **options):
    return lbal.replay(
        trace_of(seed), policies=policies, dp_size=4, max_num_seqs=8, arrivals="backlog",
        window=window, **{"step_model": "paper-release", **options},
    )  # fmt: skip


def figures(record: dict, label: str) -> tuple[float, float]:
    (run,) = [run for run in record["runs"] if run["label"] == label]
    return tuple(run["metrics"][name]["value"] for name in ("barrier_idle_fraction", "tokens_per_second"))


@pytest.fixture(scope="module")
def both() -> dict:
    return {window: replayed(6, window) for window in ("all", "admissions")}


@pytest.mark.parametrize(
    ("window", "elsewhere", "best", "best_there", "where"),
    [
        ("all", "admissions", "fcfs", "bf-io", r"Up to the last admission, in 41 of 501 steps, "),
        ("admissions", "all", "bf-io", "fcfs", r"In the whole run "),
    ],
)
def test_each_window_says_that_the_other_has_another_verdict(both, window, elsewhere, best, best_there, where):
    headline = both[window].headline
    assert headline.startswith(f"{best} loses least of 2 policies: ")
    told = re.search(
        rf"{where}{best_there} loses least instead: (.+)% against (.+)% under {best}, with \+(.+)% throughput\.$",
        headline,
    )
    assert told is not None, headline
    idle, rival_idle, gain = map(float, told.groups())
    there = both[elsewhere].as_dict()
    (least, rate), (more, rival_rate) = figures(there, best_there), figures(there, best)
    assert (idle, rival_idle) == (pytest.approx(least * 100, abs=0.05), pytest.approx(more * 100, abs=0.05))
    assert gain == pytest.approx((rate / rival_rate - 1) * 100, abs=0.05)
    for run in both[window].as_dict()["runs"]:
        told_idle, told_rate = figures(there, run["label"])
        assert run["elsewhere"]["window"] == elsewhere
        assert run["elsewhere"]["barrier_idle_fraction"] == pytest.approx(told_idle)
        assert run["elsewhere"]["tokens_per_second"] == pytest.approx(told_rate)


@pytest.mark.parametrize("suffix", ["txt", "json", "md", "html"])
def test_every_report_says_it(both, tmp_path, suffix):
    if suffix == "txt":
        text = TableReport().render(both["admissions"])
    else:
        path = tmp_path / f"r.{suffix}"
        both["admissions"].write(path)
        text = path.read_text()
    assert "In the whole run fcfs loses least instead: " in " ".join(text.split())


@pytest.mark.parametrize("window", ["all", "admissions"])
def test_nothing_is_said_where_both_agree(window):
    headline = replayed(2, window).headline
    least = {name: figures(replayed(2, name).as_dict(), "fcfs") < figures(replayed(2, name).as_dict(), "bf-io")
             for name in ("all", "admissions")}  # fmt: skip
    assert least["all"] == least["admissions"]
    assert "instead" not in headline


def test_runs_of_several_seeds_say_it_too():
    headline = replayed(6, "admissions", repeat=2, jobs=1, resample="none").headline
    assert "In the whole run fcfs loses least instead: " in headline


def test_the_whole_run_has_no_other_window_where_all_enter_at_once():
    result = lbal.replay(trace_of(6), policies=POLICIES, dp_size=4, max_num_seqs=40, arrivals="backlog", pool=160)
    for run in result.as_dict()["runs"]:
        assert "elsewhere" not in run


def test_the_other_window_counts_the_tokens_that_prompts_give():
    arguments = {"prefill": "vllm", "step_model": None}
    told = {window: replayed(6, window, **arguments).as_dict() for window in ("all", "admissions")}
    for run in told["all"]["runs"]:
        idle, rate = figures(told["admissions"], run["label"])
        assert run["elsewhere"]["barrier_idle_fraction"] == pytest.approx(idle)
        assert run["elsewhere"]["tokens_per_second"] == pytest.approx(rate)

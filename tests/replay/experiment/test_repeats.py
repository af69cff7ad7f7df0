"""Repeats: requests drawn anew, the same for every policy; means, intervals and paired differences that follow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.statistics.student import mean_interval
from lbal.cli.main import run
from lbal.replay.experiment.repeats import block_length, resampled

TRACE = str(Path(__file__).resolve().parents[3] / "sample_traces" / "skewed_8_ranks.jsonl")
TWO = ["--policy", "jsq", "--policy", "random"]


def result_of(capsys, *arguments):
    capsys.readouterr()
    assert run(["replay", TRACE, *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@given(st.integers(1, 200), st.integers(0, 50))
def test_requests_are_drawn_in_whole_blocks_with_their_gaps(count, seed):
    import polars as pl

    from lbal.replay.scenario.workload import Workload

    gaps = np.arange(count) * 3.0 + 1
    workload = Workload(
        "test", pl.Series("request_id", np.arange(count)), np.arange(count) + 10, np.arange(count) + 1000,
        5.0 + np.cumsum(gaps) - gaps[0], np.arange(count) % 4,
    )  # fmt: skip
    drawn = resampled(workload, seed)
    origin = drawn.prompt_tokens - 10
    assert len(drawn) == count
    assert (drawn.output_tokens == origin + 1000).all()
    assert (drawn.recorded_rank == origin % 4).all()
    assert drawn.arrival_ms[0] == 5.0
    inside = np.arange(1, count) % block_length(count) != 0
    assert (np.diff(origin)[inside] % count == 1 % count).all()
    kept = origin[1:] > 0
    assert np.diff(drawn.arrival_ms)[kept] == pytest.approx(gaps[origin[1:]][kept])
    assert (resampled(workload, seed).prompt_tokens == drawn.prompt_tokens).all()


def test_a_workload_without_times_is_drawn_without_times(workload_of):
    drawn = resampled(workload_of(range(1, 30), [5] * 29), 1)
    assert drawn.arrival_ms is None
    assert sorted(drawn.prompt_tokens) != list(range(1, 30))


def test_means_and_intervals_are_those_of_the_seeds(capsys):
    result = result_of(capsys, *TWO, "--repeat", "3", "--seed", "7", "--jobs", "1")
    for record in result["runs"]:
        repeats = record["repeats"]
        assert repeats["seeds"] == [7, 8, 9]
        for name, values in repeats["values"].items():
            measure = {**record["metrics"], **record["headroom"]}[name]
            assert measure["value"] == pytest.approx(np.mean(values), rel=1e-12)
            interval = mean_interval(values)
            if interval is None:
                assert len(set(values)) == 1, name
                assert name not in repeats["intervals"]
            else:
                assert repeats["intervals"][name] == interval._asdict(), name
        assert len(set(repeats["values"]["barrier_idle_fraction"])) == 3
    assert result["config"]["repeat"] == 3


def test_processes_change_no_byte(capsys):
    texts = [json.dumps(result_of(capsys, *TWO, "--repeat", "4", "--jobs", jobs)["runs"]) for jobs in ("1", "2", "2")]
    assert texts[0] == texts[1] == texts[2]


def test_a_seed_gives_the_same_figures_whatever_else_runs(capsys):
    """Common random numbers: what a policy serves does not depend on the others, nor on the number of repeats."""
    together = result_of(capsys, *TWO, "--repeat", "3", "--jobs", "1")["runs"]
    alone = result_of(capsys, "--policy", "random", "--repeat", "2", "--jobs", "1")["runs"][0]
    name = "barrier_idle_fraction"
    assert together[1]["label"] == "random"
    assert together[1]["repeats"]["values"][name][:2] == alone["repeats"]["values"][name]
    tokens = [run["repeats"]["values"]["tokens_per_second_bound"] for run in together]
    assert tokens[0] == tokens[1]


def test_differences_of_policies_are_paired(capsys):
    result = result_of(capsys, *TWO, "--repeat", "4", "--jobs", "1")
    (pair,) = result["comparison"]["pairs"]
    assert (pair["base_run"], pair["head_run"]) == ("jsq", "random")
    found = next(each for each in pair["differences"] if each["metric"] == "barrier_idle_fraction")
    values = [np.array(run["repeats"]["values"]["barrier_idle_fraction"]) for run in result["runs"]]
    low, high = mean_interval(values[1] - values[0])
    assert (found["low"], found["high"]) == pytest.approx((low, high))
    assert found["interval_over"] == "seeds"


def test_pairing_is_what_makes_small_differences_visible(capsys):
    """The interval of the difference is much narrower than those of the two means."""
    result = result_of(capsys, "--policy", "jsq", "--policy", "jsq-kv", "--repeat", "8", "--jobs", "1")
    (pair,) = result["comparison"]["pairs"]
    found = next(each for each in pair["differences"] if each["metric"] == "energy_joules_per_token")
    alone = [run["repeats"]["intervals"]["energy_joules_per_token"] for run in result["runs"]]
    assert found["high"] - found["low"] < min(each["high"] - each["low"] for each in alone) / 3


def test_without_resampling_only_policies_that_draw_differ(capsys):
    result = result_of(capsys, *TWO, "--repeat", "2", "--resample", "none", "--jobs", "1")
    jsq, random = [run["repeats"]["values"]["barrier_idle_fraction"] for run in result["runs"]]
    assert jsq[0] == jsq[1]
    assert random[0] != random[1]
    plain = result_of(capsys, "--policy", "jsq")["runs"][0]["metrics"]["barrier_idle_fraction"]["value"]
    assert jsq[0] == plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeat", "0"], "--repeat: 0 does not fit"),
        (["--repeat", "1001"], "--repeat: 1001 does not fit, expected a whole number from 1 to 1,000"),
        (["--repeat", "2", "--bands"], "are not shown together"),
        (["--repeat", "2", "-o", "x.jsonl"], "have no single trace to write"),
        (["--repeat", "2", "--resample", "days"], "--resample: 'days' is not known, expected blocks or none"),
        (["--repeat", "2", "--jobs", "0"], "--jobs"),
        (["--repeat", "2", "--jobs", "2", "--window", "steady", "--max-num-seqs", "300"], "--window steady"),
    ],
)
def test_repeats_that_cannot_be_are_refused_also_from_other_processes(capsys, arguments, message):
    capsys.readouterr()
    assert run(["replay", TRACE, "--policy", "jsq", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_the_table_shows_means_intervals_and_what_is_sure(capsys):
    capsys.readouterr()
    assert run(["replay", TRACE, "--policy", "recorded", "--policy", "jsq", "--repeat", "4", "--jobs", "1"]) == 0
    captured = capsys.readouterr()
    assert "(modelled; means of 4 seeds, the difference in idle is " in captured.out
    assert "95% intervals of the means over seeds" in captured.out
    assert "Differences, paired over seeds\njsq against recorded" in captured.out
    assert "in blocks of 20 consecutive requests, the same for every policy" in captured.err


def test_results_of_two_files_with_repeats_are_paired_over_seeds(tmp_path, capsys):
    for name, policy in (("a", "jsq"), ("b", "jsq-kv")):
        out = str(tmp_path / f"{name}.json")
        assert run(["replay", TRACE, "--policy", policy, "--repeat", "3", "--jobs", "1", "-o", out]) == 0
    capsys.readouterr()
    assert run(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--json"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)["comparison"]["pairs"]
    assert {each["interval_over"] for each in pair["differences"] if "low" in each} == {"seeds"}

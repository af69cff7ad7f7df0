"""The same admissions placed anew: possible, bounded from below, and the same from a trace as from the replay itself."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from lbal.analyzers.barrier.bounds import Admissions
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.trace.writing.native import write_native
from lbal.cli.app import app
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import headroom_of, run_of
from lbal.replay.experiment.same_admissions import admissions_of, idle_placed_anew
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=2e-6, per_request_s=1e-4)


def workload_of(count=600, seed=1, gap_ms=40.0):
    rng = np.random.default_rng(seed)
    return Workload(
        "random",
        pl.Series("request_id", np.arange(count)),
        rng.lognormal(5.5, 0.9, count).astype(np.int64) + 1,
        rng.geometric(1 / 30, count).astype(np.int64),
        np.cumsum(rng.exponential(gap_ms, count)),
        None,
    )


def figures_of(workload, policy, shape=(4, 8), window="all"):
    cluster, conditions = Cluster(*shape, MODEL), Conditions()
    replayed = replay(workload, cluster, parse_policy(policy), conditions)
    idle = run_of(Windowed.of(replayed, window)).metrics["barrier_idle_fraction"].value
    unavoidable = headroom_of(Windowed.of(replayed, window), workload, cluster, conditions)[
        "unavoidable_idle_fraction"
    ].value
    rows = Windowed.of(replayed, window).rows
    return replayed, idle, unavoidable, idle_placed_anew(admissions_of(replayed, workload), cluster, Drift(), rows)


@pytest.mark.parametrize(("gap_ms", "at_most"), [(15.0, 1.0), (40.0, 0.75), (800.0, 1.0)])
def test_it_lies_between_what_is_unavoidable_and_what_a_plain_placement_idles(gap_ms, at_most):
    # With all slots taken (15 ms) there is hardly a choice of ranks, with one request at a time (800 ms) nothing to even out.
    _, idle, unavoidable, anew = figures_of(workload_of(gap_ms=gap_ms), "fcfs")
    assert unavoidable <= anew + 1e-12
    assert anew < at_most * idle


def test_a_window_counts_its_own_steps():
    workload = workload_of()
    *_, whole = figures_of(workload, "fcfs")
    *_, admissions = figures_of(workload, "fcfs", window="admissions")
    assert whole != admissions


def test_two_requests_that_met_on_one_rank_are_parted():
    # As recorded: both on rank 0 for 10 steps, 1 and 2 tokens of ms a rank. Anew: one each.
    model = StepTimeModel("tokens", shared_s=0.0, per_token_s=1e-3)
    admissions = Admissions(np.array([3, 3]), np.array([10, 10]), np.array([100, 100]))
    cluster = Cluster(2, 2, model)
    assert idle_placed_anew(admissions, cluster, Drift(), slice(0, 13)) == 0
    one = Admissions(np.array([3]), np.array([10]), np.array([100]))
    assert idle_placed_anew(one, cluster, Drift(), slice(0, 13)) == pytest.approx(0.5), "one rank has nothing to do"


def test_steps_without_work_between_admissions_count_as_steps():
    model = StepTimeModel("steps", shared_s=1e-3, per_token_s=1e-3)
    admissions = Admissions(np.array([0, 50]), np.array([2, 2]), np.array([10, 10]))
    # Loads 10 and 11 on one of two ranks, twice; 52 steps of which 48 are empty, and a last one of no steps is left out.
    expected = 2 * (10 + 11) / (2 * (52 + 2 * (10 + 11)))
    assert idle_placed_anew(admissions, Cluster(2, 1, model), Drift(), slice(None)) == pytest.approx(expected)
    never = Admissions(np.array([0, 50, 51]), np.array([2, 2, 0]), np.array([10, 10, 9]))
    assert idle_placed_anew(never, Cluster(2, 1, model), Drift(), slice(None)) == pytest.approx(expected)


def analysed(path):
    result = CliRunner().invoke(app, ["analyze", str(path), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_analyze_finds_the_same_in_the_written_trace(tmp_path):
    replayed, idle, _, anew = figures_of(workload_of(), "fcfs")
    write_native(replayed.trace, tmp_path / "trace.jsonl")
    record = analysed(tmp_path / "trace.jsonl")
    run = record["runs"][0]
    assert run["headroom"]["replaced_idle_fraction"]["value"] == pytest.approx(anew, rel=1e-9)
    assert run["metrics"]["barrier_idle_fraction"]["value"] == pytest.approx(idle, rel=1e-9)
    assert any("placed by the solver, idle" in finding for finding in record["headroom"]["findings"])


def test_a_trace_that_does_not_account_for_all_requests_says_nothing_of_it(tmp_path):
    replayed, *_ = figures_of(workload_of(), "fcfs")
    write_native(replayed.trace, tmp_path / "trace.jsonl")
    lines = (tmp_path / "trace.jsonl").read_text().splitlines()
    kept = [line for line in lines if not line.startswith('{"request_id":7,')]
    assert len(kept) == len(lines) - 1
    (tmp_path / "less.jsonl").write_text("\n".join(kept) + "\n")
    assert "replaced_idle_fraction" not in analysed(tmp_path / "less.jsonl")["runs"][0]["headroom"]


def test_replaying_the_recorded_placement_tells_it_too(tmp_path):
    replayed, idle, *_ = figures_of(workload_of(), "fcfs")
    write_native(replayed.trace, tmp_path / "trace.jsonl")
    arguments = ["replay", str(tmp_path / "trace.jsonl"), "--policy", "recorded", "--policy", "jsq", "--json"]
    result = CliRunner().invoke(app, [*arguments, "--step-model", "C=0.01,a=2e-6,b=1e-4"])
    assert result.exit_code == 0, result.output
    recorded, other = json.loads(result.stdout)["runs"]
    assert 0 < recorded["headroom"]["replaced_idle_fraction"]["value"] < idle
    assert "replaced_idle_fraction" not in other["headroom"]

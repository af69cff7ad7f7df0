"""The replay gives the figures of the released simulator of arXiv 2601.17855, from its own trajectory.

The released simulator computes imbalance, idle rate and energy after finished requests have left and before new ones
enter, so those are derived here from the loads entering the steps and the requests that end with them.
"""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from released_setting import OURS, SHAPES, cluster_of

from lbal.analyzers.models.step_models import step_model
from lbal.analyzers.trace.formats import read_trace
from lbal.replay.engine.engine import Replay, replay
from lbal.replay.experiment.figures import run_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Conditions
from lbal.replay.scenario.workload import Workload

IDLE_W, MAX_W, GAMMA = 100.0, 400.0, 0.7
RELATIVE = 1e-9


def released_figures(replayed: Replay) -> dict[str, float]:
    """Its metrics by its names and formulas, from our per-step trajectory."""
    steps, requests = replayed.trace.step_arrays(), replayed.trace.requests
    ranks, window = steps.dp_size, int(replayed.admitted_step.max())
    with_token = steps.kv_tokens + steps.num_running
    left = np.zeros_like(with_token)
    last_step = replayed.admitted_step + requests["output_tokens"].to_numpy() - 1
    complete = (requests["prompt_tokens"] + requests["output_tokens"]).to_numpy()
    np.add.at(left, (last_step, requests["rank"].to_numpy()), complete)
    after = with_token - left
    largest = after.max(axis=1)
    share = np.divide(after, largest[:, None], out=np.zeros_like(after), where=largest[:, None] > 0)
    watts = (IDLE_W + (MAX_W - IDLE_W) * share**GAMMA).sum(axis=1)
    step_s = steps.step_ms / 1e3
    emitted = steps.num_running.sum(axis=1)
    imbalance = ranks * with_token.max(axis=1) - with_token.sum(axis=1)
    run_s = requests.select((pl.col("finish_ms") - pl.col("admitted_ms")) / 1e3).to_series()
    return {
        "steps_total": len(steps),
        "steps_measured": window,
        "makespan": step_s.sum(),
        "throughput_tokens_per_sec": emitted[:window].sum() / step_s[:window].sum(),
        "avg_gpu_imbalance": (ranks * largest - after.sum(axis=1))[:window].mean(),
        "avg_gpu_idle_rate": (1 - share.mean(axis=1))[:window].mean(),
        "avg_gpu_utilization": (emitted[:window] / (ranks * replayed.trace.meta.max_num_seqs)).mean(),
        "avg_latency": requests["finish_ms"].mean() / 1e3,
        "avg_latency_per_token": (run_s / requests["output_tokens"]).mean(),
        "total_energy": (watts * step_s)[:window].sum(),
        "avg_power": watts[:window].mean() / ranks,
        "imb_hist_cut": imbalance[:window].mean(),
        "imb_hist_all": imbalance.mean(),
    }


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OURS)
def test_every_figure_of_the_released_simulator_is_reproduced(shared, name, shape):
    recorded = json.loads((shared / "reference/parity/released_simulator_burstgpt.json").read_text())
    expected = next(r for r in recorded["runs"] if (r["policy"], r["G"], r["B"]) == (name, *shape))
    workload = Workload.of(read_trace(str(shared / "traces/burstgpt_lengths_8000.csv")))
    model = step_model("paper-release", shape[1])
    assert (model.shared_s, model.per_token_s) == pytest.approx((expected["C"], expected["t_length"]), rel=RELATIVE)
    found = released_figures(
        replay(workload, cluster_of(*shape), parse_policy(OURS[name]), Conditions(arrivals="backlog"))
    )
    assert found == pytest.approx({key: expected[key] for key in found}, rel=RELATIVE)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["FCFS", "JSQ", "ALIGN"])
def test_long_runs_agree_in_our_own_metrics(shared, name, shape, seed):
    recorded = json.loads((shared / "reference/parity/released_simulator_resampled.json").read_text())
    keys = (seed, *shape, name)
    expected = next(r for r in recorded["runs"] if (r["seed"], r["G"], r["B"], r["policy"]) == keys)
    lengths = pl.read_csv(shared / "traces/burstgpt_lengths_8000.csv").to_numpy()
    order = np.random.default_rng(seed).integers(0, len(lengths), 40_000)
    prompts, outputs = lengths[order].T
    workload = Workload("resampled", pl.Series(np.arange(len(order))), prompts, outputs, None, None)
    cluster = cluster_of(*shape)
    replayed = replay(workload, cluster, parse_policy(OURS[name]), Conditions(arrivals="backlog"), keep_steps=False)
    in_window, whole = (run_of(Windowed.of(replayed, window)).metrics for window in ("admissions", "all"))
    assert whole["steps"].value == expected["steps"]
    assert in_window["steps"].value == expected["window_steps"]
    for ours, theirs in {
        "imbalance_tokens_mean": "imbalance_entering",
        "perfect_balance_throughput_fraction": "perfect_balance_throughput_fraction",
        "tokens_per_second": "tokens_per_s_window",
    }.items():
        assert in_window[ours].value == pytest.approx(expected[theirs], rel=RELATIVE), ours
    for ours, theirs, scale in (
        ("makespan_s", "makespan_s", 1),
        ("tpot_ms_mean", "tpot_s", 1e3),
        ("queue_wait_steps_p99", "wait_steps_p99", 1),
        ("queue_wait_steps_max", "wait_steps_max", 1),
    ):
        assert whole[ours].value == pytest.approx(expected[theirs] * scale, rel=RELATIVE), ours

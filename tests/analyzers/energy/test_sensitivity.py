"""Bands: the same trajectory under other coefficients, which must equal accounting for it with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.barrier.accounts import account, join
from lbal.analyzers.barrier.step_time import Band, StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.energy.power import NOMINAL, EnergyView, PaperPower, TwoStatePower, Watts
from lbal.analyzers.energy.sensitivity import BandedRun, compare, slope_models, variants
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL, step_model
from lbal.cli.main import run
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import banded, other_slopes
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions

BANDED = StepTimeModel(
    "banded",
    0.010,
    1e-5,
    1e-3,
    1e-4,
    bands=(Band("C", 0.008, 0.013), Band("a", 0.9e-5, 1.4e-5), Band("b", 0.5e-3, 2e-3)),
)
POWERS = [TwoStatePower("two", Watts(200, 300, 400), Watts(50, 100, 150), 40, n_half=4.0), PaperPower()]
SMALL = ["--dp-size", "4", "--max-num-seqs", "8"]


def test_variants_are_all_combinations_with_the_nominal_one_first():
    found = variants(BANDED)
    assert len(found) == 27
    assert len({tuple(sorted(each.levels.items())) for each in found}) == 27
    assert (found[0].levels, found[0].slopes, found[0].extra_ms) == ({}, 0, 0)
    assert slope_models(BANDED)[0].with_coefficients() == BANDED
    assert len(variants(StepTimeModel("exact", 0.01, 1e-5))) == 1


def test_measured_presets_have_the_published_bands():
    bands = {band.coefficient: band for band in step_model("h100/llama3-70b/tp4", 64).bands}
    assert (bands["C"].low, bands["C"].high) == pytest.approx((0.85 * 0.0161, 1.25 * 0.0161), rel=1e-3)
    assert bands["a"].high / bands["a"].low == pytest.approx(1.3 / 0.95)
    assert bands["b"].high - bands["b"].low == pytest.approx(85e-6), "the engine's 5 to 90 us per request"
    deepseek = step_model(DEFAULT_STEP_MODEL, 64)
    assert {band.coefficient: band for band in deepseek.bands}["b"].low == deepseek.per_request_s
    assert step_model("paper-release", 64).bands == ()


@given(st.integers(0, 3), st.sampled_from(POWERS), st.sampled_from(["fcfs", "jsq"]))
@settings(max_examples=12, deadline=None)
def test_every_variant_equals_accounting_for_the_same_loads_with_its_coefficients(seed, power, policy):
    random = np.random.default_rng(seed)
    workload = make_workload(random.integers(1, 400, 60), random.integers(1, 30, 60))
    cluster = Cluster(3, 4, BANDED.with_speeds({1: 0.8}))
    conditions = Conditions(arrivals="backlog")
    replayed = replay(
        workload, cluster, parse_policy(policy), conditions, curves=power.curves, also=other_slopes(cluster)
    )
    found = banded(Windowed.of(replayed, "all"))
    steps = replayed.trace.step_arrays()
    untimed = type(steps)(steps.step, steps.kv_tokens, steps.num_running)
    for each, totals, tpot in zip(found.variants, found.totals, found.tpot_ms, strict=True):
        ends = {band.coefficient: band for band in BANDED.bands}
        values = {name: getattr(ends[name], level) for name, level in each.levels.items()}
        model = cluster.step_model.with_coefficients(**values)
        expected = account(untimed, model, measured=False, curves=power.curves)
        assert vars(totals) == pytest.approx(vars(RunTotals.of(expected, model)), rel=1e-9, abs=1e-9)
        end = np.cumsum(expected.step_ms)
        outputs = workload.output_tokens
        last = replayed.admitted_step + outputs - 1
        took = end[last] - end[replayed.admitted_step] + expected.step_ms[replayed.admitted_step]
        assert tpot["tpot_ms_mean"] == pytest.approx((took / outputs).mean())
        assert tpot["tpot_ms_p99"] == pytest.approx(np.percentile(took / outputs, 99))


def make_workload(prompts, outputs):
    import polars as pl

    from lbal.replay.scenario.workload import Workload

    return Workload("test", pl.Series("request_id", np.arange(len(prompts))), prompts, outputs, None, None)


def test_asking_for_bands_changes_no_figure():
    random = np.random.default_rng(1)
    workload = make_workload(random.integers(1, 400, 60), random.integers(1, 30, 60))
    cluster, conditions = Cluster(3, 4, BANDED), Conditions(arrivals="backlog")
    plain = replay(workload, cluster, parse_policy("jsq"), conditions)
    with_bands = replay(workload, cluster, parse_policy("jsq"), conditions, also=other_slopes(cluster))
    assert plain.trace.steps.equals(with_bands.trace.steps)
    for name, value in vars(join(list(plain.accounts.values()))).items():
        np.testing.assert_array_equal(value, getattr(join(list(with_bands.accounts.values())), name))


def run_of(time_ms: float, idle_ms: float, model: StepTimeModel = BANDED) -> BandedRun:
    """One step of two ranks, with the same totals under every slope but for a, of which idle is half as sensitive."""
    chosen = variants(model)
    totals = [
        RunTotals(2, 1, time_ms, idle_ms * each.per_token_s / model.per_token_s, 10, 100, 0, 0, 0, 0, 0)
        for each in slope_models(model)
    ]
    return BandedRun.of(chosen, totals, [{}] * len(totals))


def test_a_sign_that_flips_inside_the_bands_is_found_with_where():
    power = TwoStatePower("two", Watts(290, 300, 310), Watts(10, 100, 290), 10)
    longer_but_waiting, shorter = run_of(20.0, 10.0), run_of(18.5, 0.0)
    found = {each.metric: each for each in compare(shorter, longer_but_waiting, EnergyView(power))}
    energy = found["energy_joules_per_token"]
    assert energy.nominal > 0 > energy.low, "waiting is cheap, so the shorter run uses more, unless waiting is dear"
    assert energy.flips
    assert energy.against is not None
    assert energy.against.power.wait == "high"
    assert not found["tokens_per_second"].flips
    assert found["tokens_per_second"].nominal == pytest.approx(20 / 18.5 - 1)


def test_ranges_hold_the_nominal_figure_and_grow_with_the_bands():
    view = EnergyView(POWERS[0])
    ranges = run_of(20.0, 10.0).ranges(view)
    assert ranges["barrier_idle_fraction"][0] < 0.25 < ranges["barrier_idle_fraction"][1]
    exact = run_of(20.0, 10.0, StepTimeModel("exact", 0.01, 1e-5)).ranges(view)
    assert exact["barrier_idle_fraction"] == (0.25, 0.25)
    assert exact["energy_joules"][0] < exact["energy_joules"][1], "power has a range all the same"
    assert POWERS[0].energy(run_of(20.0, 10.0).totals[0], 1, NOMINAL).joules > 0


REQUESTS = '{"lbal_trace": 1}\n' + "".join(
    f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i * 997 % 4000}, "output_tokens": {5 + i % 17}}}\n'
    for i in range(60)
)


@pytest.fixture
def requests(tmp_path) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_text(REQUESTS)
    return str(path)


def test_bands_are_in_the_result_and_in_words(requests, capsys):
    arguments = ["replay", requests, *SMALL, "--policy", "fcfs", "--policy", "jsq-kv", "--bands"]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bands"]["variants"] == 18
    names = [each["metric"] for each in found["bands"]["comparisons"]]
    assert names == ["tokens_per_second", "tpot_ms_mean", "barrier_idle_fraction", "energy_joules_per_token"]
    for each in found["bands"]["comparisons"]:
        assert each["change"]["low"] <= each["change"]["nominal"] <= each["change"]["high"]
        assert each["flips"] == (each["other_sign_at"] is not None)
    for name in ("barrier_idle_fraction", "tokens_per_second", "tpot_ms_mean", "energy_joules_per_token"):
        for each in found["runs"]:
            value = each["metrics"][name]
            assert value["low"] < value["value"] < value["high"], name
    assert run(arguments) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Ranges over the bands" in text
    assert "Throughput of " in text
    assert ("The sign flips inside the bands: with " in text) == any(
        each["flips"] for each in found["bands"]["comparisons"]
    )


def test_bands_of_an_exact_model_are_those_of_the_power_alone(requests, capsys):
    arguments = ["replay", requests, *SMALL, "--policy", "jsq", "--bands", "--step-model", "C=0.01,a=1e-7"]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = found["runs"][0]["metrics"]
    assert "low" not in metrics["barrier_idle_fraction"]
    assert metrics["energy_joules"]["low"] < metrics["energy_joules"]["high"]
    assert run(arguments) == 0
    assert "bands of the power model alone" in " ".join(capsys.readouterr().out.split())


def test_bands_of_a_recorded_trace_leave_alone_what_was_measured(tmp_path, capsys):
    lines = [
        f'{{"step": {k}, "step_ms": {30 + k % 5}, "kv_tokens": [{9000 + 100 * k}, {20000 - 90 * k}], "num_running": [3, {4 + k % 3}]}}'
        for k in range(20)
    ]
    path = tmp_path / "steps.jsonl"
    path.write_text('{"lbal_trace": 1, "dp_size": 2}\n' + "\n".join(lines) + "\n")
    assert run(["analyze", str(path), "--bands", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["runs"][0]["metrics"]
    assert metrics["barrier_idle_fraction"]["low"] < metrics["barrier_idle_fraction"]["high"]
    assert "low" not in metrics["tokens_per_second"], "step times were measured"

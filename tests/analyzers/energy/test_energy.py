"""Energy: by hand, against the plain formula, the exact two-state identity and the released simulator."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from released_setting import OURS, SHAPES, cluster_of

from lbal.analyzers.barrier.account_pass import PowerCurves
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.energy.figures import energy_figures, saving, saving_figures
from lbal.analyzers.energy.power import (
    LEVELS,
    Costs,
    EnergyView,
    PaperPower,
    PowerPoint,
    RunTotals,
    TwoStatePower,
    Watts,
)
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.models.power_models import PAPER, power_model, power_presets
from lbal.analyzers.models.step_models import step_model
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import StepArrays
from lbal.cli.main import run
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Conditions
from lbal.replay.scenario.workload import Workload

MODEL = StepTimeModel("test", shared_s=0.010, per_token_s=1e-5, per_request_s=1e-3)
FLAT = TwoStatePower("flat", Watts(200, 300, 400), Watts(50, 100, 150), idle_w=40)
CURVED = TwoStatePower("curved", Watts(200, 300, 400), Watts(50, 100, 150), idle_w=40, n_half=2.0)
POWERS = [FLAT, CURVED, PaperPower()]


def identity_saving(eta, rho, c, alpha):
    """Share of the energy saved when imbalance shrinks by a factor `alpha` and the work stays, with two powers.

    rho*eta*(1 - 1/alpha) / (1 + c + rho*eta), with eta = imbalance / work (both in tokens), rho = wait power / busy
    power and c = shared time / working time, exact for b = 0 and one busy power.
    """
    return rho * eta * (1 - 1 / alpha) / (1 + c + rho * eta)


def steps_of(kv_tokens, num_running, **columns) -> StepArrays:
    tokens = np.asarray(kv_tokens, np.float64)
    extra = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    return StepArrays(np.arange(len(tokens)), tokens, np.asarray(num_running, np.float64), **extra)


def totals_of(steps, power, model=MODEL) -> RunTotals:
    return RunTotals.of(account(steps, model, measured=False, curves=power.curves), model)


TWO_RANKS = steps_of([[100, 300], [200, 200], [0, 100]], [[1, 2], [2, 2], [0, 1]])
"""Steps of 15, 14 and 12 ms, in which rank 0 waits 3, 0 and 2 ms and rank 1 never."""


def test_two_ranks_three_steps_by_hand():
    energy = FLAT.energy(totals_of(TWO_RANKS, FLAT), gpus_per_rank=2)
    assert energy.wait_joules == pytest.approx(2 * 100 * 0.005)
    assert energy.busy_joules == pytest.approx(2 * 300 * (0.082 - 0.005))
    # f(n) = n/(n+2) is 1/3, 1/2, 1/2, 1/2, 0 and 1/3: busy power 267, 300, 300, 300, 200 and 267 W.
    curved = CURVED.energy(totals_of(TWO_RANKS, CURVED), gpus_per_rank=1)
    assert curved.wait_joules == pytest.approx(0.5)
    assert curved.busy_joules == pytest.approx((800 / 3 * 12 + 300 * 15 + 300 * 14 * 2 + 200 * 10 + 800 / 3 * 12) / 1e3)
    figures = energy_figures(totals_of(TWO_RANKS, FLAT), EnergyView(FLAT, gpus_per_rank=2))
    assert figures["energy_joules"].value == pytest.approx(47.2)
    assert figures["energy_joules_per_token"].value == pytest.approx(47.2 / 8)
    assert figures["energy_wait_fraction"].value == pytest.approx(1 / 47.2)
    assert figures["energy_joules"].low == pytest.approx(2 * (200 * 0.077 + 50 * 0.005))
    assert figures["energy_joules"].high == pytest.approx(2 * (400 * 0.077 + 150 * 0.005))
    assert figures["energy_joules_per_token_wait_idle"].value == pytest.approx(2 * (300 * 0.077 + 40 * 0.005) / 8)
    assert figures["energy_joules_per_token_wait_busy"].value == pytest.approx(2 * 300 * 0.082 / 8)


def test_the_paper_formula_by_hand():
    # Shares of the largest load: 1/3, 1, 1, 1, 0, 1.
    joules = PaperPower().energy(totals_of(TWO_RANKS, PaperPower()), 1).joules
    share = (1 / 3) ** 0.7
    assert joules == pytest.approx((100 * 82 + 300 * (15 * (1 + share) + 14 * 2 + 12)) / 1e3)


def plain_joules(steps, model, power, point) -> float:
    """Rank by rank and step by step, as the formulas read."""
    rank_ms = model.rank_time_ms(steps.kv_tokens, steps.num_running)
    step_ms = model.common_ms(steps.num_running) + rank_ms.max(axis=1)
    joules = 0.0
    for step, rank in np.ndindex(rank_ms.shape):
        wait = (rank_ms[step].max() - rank_ms[step, rank]) / 1e3
        took, n = step_ms[step] / 1e3, steps.num_running[step, rank]
        if isinstance(power, PaperPower):
            largest = steps.kv_tokens[step].max()
            share = steps.kv_tokens[step, rank] / largest if largest else 0.0
            joules += (power.idle_w + (power.max_w - power.idle_w) * share**power.gamma) * took
            continue
        busy = getattr(power.busy, point.busy)
        if point.busy == "nominal" and power.n_half:
            busy = power.busy.low + (power.busy.high - power.busy.low) * n / (n + power.n_half)
        waiting = {"idle": power.idle_w, "busy": busy, **power.wait._asdict()}[point.wait]
        joules += busy * (took - wait) + waiting * wait
    return joules


loads_strategy = st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        arrays(np.int64, shape, elements=st.integers(0, 5_000)), arrays(np.int64, shape, elements=st.integers(0, 40))
    )
)
points = st.sampled_from([PowerPoint(busy, wait) for busy in LEVELS for wait in (*LEVELS, "idle", "busy")])


@given(loads_strategy, st.sampled_from(POWERS), points, st.sampled_from([{}, {0: 0.8}]))
@settings(deadline=None)
def test_sums_equal_the_formula_rank_by_rank(loads, power, point, speeds):
    steps, model = steps_of(*loads), MODEL.with_speeds(speeds)
    found = power.energy(totals_of(steps, power, model), 3, point).joules
    assert found == pytest.approx(3 * plain_joules(steps, model, power, point), rel=1e-9)


@given(loads_strategy, st.sampled_from([FLAT, CURVED]))
@settings(deadline=None)
def test_energy_grows_with_the_wait_power_and_lies_between_the_bounds(loads, power):
    totals = totals_of(steps_of(*loads), power)
    joules = [power.energy(totals, 1, PowerPoint(wait=wait)).joules for wait in ("idle", *LEVELS, "busy")]
    assert (np.diff(joules) >= -1e-9).all()
    if totals.idle_ms > 0:
        more = replace(power, wait=Watts(*(watts + 1 for watts in power.wait)))
        assert more.energy(totals, 1).joules > power.energy(totals, 1).joules


@pytest.mark.parametrize("power", POWERS, ids=lambda power: power.name)
@given(st.integers(1, 6), st.integers(1, 5_000), st.integers(1, 40))
@settings(deadline=None)
def test_without_idle_nothing_is_spent_waiting_and_nothing_can_be_saved(power, ranks, tokens, running):
    totals = totals_of(steps_of([[tokens] * ranks], [[running] * ranks]), power)
    figures = energy_figures(totals, EnergyView(power))
    assert totals.idle_ms == 0
    assert figures["perfect_balance_energy_saving_fraction"].value == pytest.approx(0, abs=1e-12)
    if power.waits_apart:
        assert figures["energy_wait_fraction"].value == 0
    assert saving(totals, totals, EnergyView(power)) == 0


@given(
    arrays(np.float64, (4, 3), elements=st.integers(100, 5_000).map(float)),
    st.floats(1.1, 50),
    st.floats(0.05, 1.0),
    st.floats(0, 0.1),
)
@settings(deadline=None)
def test_the_saving_is_that_of_the_two_state_identity(tokens, alpha, rho, shared_s):
    """Imbalance a factor alpha smaller, the same work: each rank moves towards the mean of its step."""
    model = StepTimeModel("tokens", shared_s, 1e-5)
    power = TwoStatePower("two", Watts(500, 500, 500), Watts(*[500 * rho] * 3), idle_w=0)
    mean = tokens.mean(axis=1, keepdims=True)
    before, after = (steps_of(each, np.ones_like(tokens)) for each in (tokens, mean + (tokens - mean) / alpha))
    work, imbalance = tokens.sum(), (3 * tokens.max(axis=1) - tokens.sum(axis=1)).sum()
    c = 3 * 4 * shared_s / (1e-5 * work)
    found = saving(totals_of(after, power, model), totals_of(before, power, model), EnergyView(power))
    assert found == pytest.approx(identity_saving(imbalance / work, rho, c, alpha), abs=1e-9)
    figures = saving_figures(totals_of(after, power, model), totals_of(before, power, model), EnergyView(power))
    if found > 1e-4:
        assert figures["energy_saving_wait_share"].value == pytest.approx(1), "the work is the same"


def test_the_identity_gives_the_published_examples():
    assert identity_saving(2 / 3, 0.29, 0, np.inf) == pytest.approx(0.16, abs=0.005)
    assert identity_saving(2 / 3, 1.0, 0, np.inf) == pytest.approx(0.40, abs=0.005)


def after_departures(replayed) -> StepArrays:
    """Loads after the token of the step, without the requests that end with it: when the released simulator looks."""
    steps, requests = replayed.trace.step_arrays(), replayed.trace.requests
    loads = steps.kv_tokens + steps.num_running
    last = replayed.admitted_step + requests["output_tokens"].to_numpy() - 1
    complete = (requests["prompt_tokens"] + requests["output_tokens"]).to_numpy()
    np.subtract.at(loads, (last, requests["rank"].to_numpy()), complete)
    return replace(steps, kv_tokens=loads)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OURS)
def test_the_paper_power_model_gives_the_energies_of_the_released_simulator(shared, name, shape):
    recorded = json.loads((shared / "reference/parity/released_simulator_burstgpt.json").read_text())
    expected = next(r for r in recorded["runs"] if (r["policy"], r["G"], r["B"]) == (name, *shape))
    workload = Workload.of(read_trace(str(shared / "traces/burstgpt_lengths_8000.csv")))
    cluster, power = cluster_of(*shape), power_presets()[PAPER]
    replayed = replay(workload, cluster, parse_policy(OURS[name]), Conditions(arrivals="backlog"))
    window = after_departures(replayed).part(slice(0, int(replayed.admitted_step.max())))
    joules = power.energy(totals_of(window, power, cluster.step_model), 1).joules
    assert joules == pytest.approx(expected["total_energy"], rel=1e-9)


# Presets and the user's own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("h100/llama3-70b/tp8", "h100"),
        ("gb200/deepseek-v3/dp-attn+ep32/bf16kv", "gb200"),
        ("paper-release", "paper"),
    ],
)
def test_the_power_model_is_that_of_the_step_model(model, expected):
    power, assumed = power_model(None, step_model(model, 72))
    assert (power.name, assumed) == (expected, "")


def test_a_step_model_without_an_accelerator_gets_an_assumed_power_model_that_is_said():
    power, assumed = power_model(None, step_model("C=0.01,a=1e-8", 72))
    assert power.name == "h200"
    assert assumed


def test_parallel_presets_have_their_accelerators_per_rank():
    assert step_model("h100/llama3-70b/tp8", 72).gpus_per_rank == 8
    assert step_model("h100/deepseek-v3/dp-attn+ep32/bf16kv", 72).gpus_per_rank == 1


def test_a_power_model_of_ones_own_is_read_from_a_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"busy": {"low": 300, "nominal": 400, "high": 500}, "wait": 120, "idle": 90, "n_half": 16}')
    power, _ = power_model(str(path), MODEL)
    assert (power.busy, power.wait, power.idle_w, power.n_half) == ((300, 400, 500), (120, 120, 120), 90, 16)


REQUESTS = '{"lbal_trace": 1}\n' + "".join(
    f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i * 37 % 400}, "output_tokens": {5 + i % 17}}}\n'
    for i in range(60)
)


@pytest.fixture
def requests(tmp_path) -> str:
    path = tmp_path / "requests.jsonl"
    path.write_text(REQUESTS)
    return str(path)


SMALL = ["--dp-size", "4", "--max-num-seqs", "8"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "mine.json: holds [1], expected a JSON object with the fields of a model"),
        ("{", "mine.json:1: is no JSON: "),
        ('{"busy": 400}', "mine.json: wait: is missing, expected a number from 0 to 10000"),
        ('{"busy": "a lot", "wait": 1}', "mine.json: busy: 'a lot' is no number"),
        ('{"busy": 400, "wait": {"low": 1, "high": 2}}', "mine.json: wait: has the fields low, high, expected low,"),
        ('{"busy": 400, "wait": {"low": 3, "nominal": 1, "high": 2}}', "mine.json: wait: 3, 1, 2 are not in order"),
        ('{"busy": 400, "wait": 1, "buzy": 2}', "mine.json: buzy: is no field of a power model"),
        ('{"busy": -400, "wait": 1}', "mine.json: busy: -400 is out of range"),
    ],
)
def test_a_power_file_that_cannot_be_used_is_refused_in_one_line(requests, tmp_path, capsys, content, message):
    path = tmp_path / "mine.json"
    path.write_text(content)
    assert run(["replay", requests, *SMALL, "--power-model", str(path)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--power-model", "h10"], "unknown power model 'h10': did you mean 'h100'?"),
        (["--gpus-per-rank", "0"], "--gpus-per-rank: 0 cannot be"),
        (["--costs", "pue"], "--costs: 'pue' is no KEY=VALUE"),
        (["--costs", "carbn=2"], "unknown cost 'carbn': did you mean 'carbon'?"),
        (["--costs", "pue=0.5"], "--costs: pue=0.5: cannot be, expected a number from 1 to 10, or low, nominal, high"),
        (["--costs", "carbon=mars"], "expected a number from 0 to 10000, or world, us,"),
        (["--costs", "pue=1.2,pue=1.3"], "--costs: pue stands twice"),
        (["--rank-speed", "7=0.8"], "--rank-speed 7=0.8: there are 4 ranks, expected one of 0..3"),
        (["--rank-speed", "1=0"], "--rank-speed: '1=0' cannot be"),
        (["--rank-speed", "fast"], "--rank-speed: 'fast' is no RANK=SPEED, expected such as 3=0.8"),
        (["--rank-speed", "1=0.5,1=0.6"], "--rank-speed: rank 1 stands twice"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(requests, capsys, arguments, message):
    assert run(["replay", requests, *SMALL, *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


# In results ----------------------------------------------------------------------------------------------------------


def result_of(capsys, *arguments: str) -> dict:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_comparison_tells_the_saving_and_the_share_of_it_on_wait_power(requests, capsys):
    found = result_of(capsys, "replay", requests, *SMALL, "--power-model", "h100")
    metrics = [each["metrics"] for each in found["runs"]]
    assert "energy_saving_fraction" not in metrics[0], "the reference"
    per_token = [each["energy_joules_per_token"]["value"] for each in metrics]
    for mine, each in zip(per_token[1:], metrics[1:], strict=True):
        assert each["energy_saving_fraction"]["value"] == pytest.approx(1 - mine / per_token[0])
        assert ("energy_saving_wait_share" in each) == (each["energy_saving_fraction"]["value"] > 5e-5)
        assert each["energy_joules"]["low"] < each["energy_joules"]["value"] < each["energy_joules"]["high"]
    assert found["config"]["power_model"]["name"] == "h100"
    assert all(value["basis"] == "modelled" for each in metrics for name, value in each.items() if "energy" in name)


def test_accelerators_per_rank_multiply_the_energy_and_no_share(requests, capsys):
    one, eight = (
        result_of(capsys, "replay", requests, *SMALL, "--policy", "jsq", "--gpus-per-rank", k)["runs"][0]["metrics"]
        for k in ("1", "8")
    )
    assert eight["energy_joules"]["value"] == pytest.approx(8 * one["energy_joules"]["value"])
    assert eight["energy_wait_fraction"] == one["energy_wait_fraction"]


def test_costs_are_the_users_and_are_labelled(requests, capsys):
    arguments = ["replay", requests, *SMALL, "--policy", "jsq", "--power-model", "h100"]
    spec = "pue=nominal,node=150,carbon=france,electricity=0.2,gpu-hour=3"
    found = result_of(capsys, *arguments, "--costs", spec)
    metrics = {name: value["value"] for name, value in found["runs"][0]["metrics"].items()}
    time_s = metrics["energy_joules"] / metrics["energy_joules_per_token"] / metrics["tokens_per_second"]
    facility = 1.2 * (metrics["energy_joules"] + 4 * 150 * time_s)
    tokens = metrics["energy_joules"] / metrics["energy_joules_per_token"]
    assert metrics["facility_joules_per_token"] == pytest.approx(facility / tokens)
    assert metrics["carbon_g_per_1000_tokens"] == pytest.approx(44 * facility / 3.6e6 / tokens * 1000)
    assert metrics["electricity_money_per_day"] == pytest.approx(0.2 * facility / 3.6e6 * 86400 / time_s)
    assert metrics["idle_money_per_day"] == pytest.approx(3 * 24 * 4 * metrics["barrier_idle_fraction"])
    assert found["config"]["power_model"]["costs"]["carbon"] == "carbon 44 (france)"
    plain = result_of(capsys, *arguments)["runs"][0]["metrics"]
    assert not {"facility_joules_per_token", "idle_money_per_day"} & set(plain), "opt-in"


def test_costs_scale_as_their_units_do():
    totals = totals_of(TWO_RANKS, FLAT)
    costs = Costs(pue=1.5, carbon_g_per_kwh=3.6e6, price_per_kwh=3.6e6)
    figures = costs.figures(totals, joules=82.0, wait_joules=8.2, gpus_per_rank=1)
    assert figures["facility_joules_per_token"] == pytest.approx(1.5 * 82 / 8)
    assert figures["carbon_g_per_1000_tokens"] == pytest.approx(1000 * 1.5 * 82 / 8), "1 g per joule"
    assert figures["electricity_money_per_day"] == pytest.approx(1.5 * 82 / 0.041 * 86_400)
    assert figures["idle_electricity_money_per_day"] == pytest.approx(1.5 * 8.2 / 0.041 * 86_400)
    assert set(figures) <= set(METRICS)


def test_analyze_and_replay_agree_on_energy(requests, tmp_path, capsys):
    target = str(tmp_path / "jsq.jsonl")
    arguments = ["--power-model", "h100", "--rank-speed", "1=0.7"]
    replayed = result_of(capsys, "replay", requests, *SMALL, "--policy", "jsq", "-o", target, *arguments)
    analysed = result_of(capsys, "analyze", target, "--power-model", "h100")
    names = [name for name in replayed["runs"][0]["metrics"] if "energy" in name]
    assert names
    for name in (*names, "barrier_idle_fraction", "tokens_per_second", "kv_time_fraction"):
        ours, theirs = (found["runs"][0]["metrics"][name]["value"] for found in (analysed, replayed))
        assert ours == pytest.approx(theirs, rel=1e-9), name
    assert analysed["config"]["step_model"]["rank_speed"] == {"1": 0.7}


def test_a_slow_rank_is_replayed_as_slow(requests, capsys):
    even, slow = (
        result_of(capsys, "replay", requests, *SMALL, "--policy", "jsq", "--step-model", "C=0.001,a=1e-5", *extra)
        for extra in ([], ["--rank-speed", "2=0.5"])
    )
    assert (
        slow["runs"][0]["metrics"]["tokens_per_second"]["value"]
        < even["runs"][0]["metrics"]["tokens_per_second"]["value"]
    )
    assert max(slow["runs"][0]["ranks"], key=lambda rank: rank["straggler_fraction"])["rank"] == 2
    assert slow["runs"][0]["attribution"]["speed"] > 0 == even["runs"][0]["attribution"]["speed"]


def test_the_counterfactual_is_said_in_words(requests, tmp_path, capsys):
    arguments = ["--arrivals", "backlog", "--step-model", "C=0.001,a=1e-5"]
    assert run(["replay", requests, *SMALL, "--policy", "fcfs", "--policy", "jsq-kv", *arguments]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "With perfect balance the steps under fcfs would have been " in text
    assert " less energy, all of it resting on the assumed wait power" in text
    target = str(tmp_path / "jsq.jsonl")
    assert run(["replay", requests, *SMALL, "--policy", "jsq", "-o", target]) == 0
    assert run(["analyze", target]) == 0
    assert "With perfect balance the steps of this trace would have been " in capsys.readouterr().out


def test_curves_are_what_the_model_asks_for():
    assert FLAT.curves == PowerCurves()
    assert CURVED.curves == PowerCurves(n_half=2.0)
    assert PaperPower().curves == PowerCurves(gamma=0.7)


def test_prefill_draws_the_power_limit_and_the_rest_what_decoding_draws():
    power = power_presets()["h100"]
    assert isinstance(power, TwoStatePower)
    model = StepTimeModel("test", 0.010, 1e-6, 1e-4, per_prefill_token_s=1e-4)
    steps = steps_of([[1000, 1000]], [[10, 10]], prefill_tokens=[[80, 0]])
    totals = RunTotals.of(account(steps, model, measured=False, curves=power.curves), model)
    assert totals.prefill_ms == pytest.approx(8)
    curve = power.busy.low + (power.busy.high - power.busy.low) * 10 / (10 + power.n_half)
    busy_ms, wait_ms = 2 * (10 + 1 + 1), 8
    expected = (700 * 8 + curve * busy_ms + power.wait.nominal * wait_ms) / 1e3
    assert power.energy(totals, 1).joules == pytest.approx(expected)
    assert [power.prefill_watts(level) for level in ("low", "nominal", "high")] == [650, 700, 700]

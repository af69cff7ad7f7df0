"""Calibration: known coefficients are found again, doubtful traces are refused, quality is told."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.calibration import calibrate
from lbal.analyzers.calibration.rank_sums import non_negative
from lbal.analyzers.errors import InputError
from lbal.analyzers.models.step_models import step_model
from lbal.analyzers.trace.trace import StepArrays, Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_native
from lbal.cli.main import run
from lbal.replay.engine.engine import replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

TRUE = StepTimeModel("true", 0.0273, 23.3e-9, 232e-6)
SLOW = TRUE.with_speeds({3: 1 / 1.2})


def replayed_steps(seed: int = 0, count: int = 1200) -> tuple[StepArrays, Workload, Trace]:
    """The first steps of a replay with one slow rank: loads and times without noise."""
    import polars as pl

    random = np.random.default_rng(seed)
    prompts = np.minimum(random.lognormal(7.6, 1.1, 900), 30_000).astype(np.int64)
    outputs = np.minimum(random.geometric(1 / 300, 900), 1500).astype(np.int64)
    arrivals = np.cumsum(random.exponential(55.0, 900))
    workload = Workload("made", pl.Series("request_id", np.arange(900)), prompts, outputs, arrivals, None)
    replayed = replay(workload, Cluster(8, 32, SLOW), parse_policy("round-robin"), Conditions())
    return replayed.trace.step_arrays().part(slice(0, count)), workload, replayed.trace


def recorded(steps: StepArrays, **columns) -> Trace:
    """The steps as a trace of a real system, with other columns."""
    steps = dataclasses.replace(steps, **{"step_ms": None, "start_ms": None, "num_waiting": None, **columns})
    meta = TraceMeta("made.jsonl", "native", dp_size=steps.dp_size, max_num_seqs=32)
    return Trace.of(meta, None, steps.frame())


def noisy(steps: StepArrays, seed: int = 0, noise: float = 0.05, model: StepTimeModel = SLOW, prefill_s: float = 0.0):
    """(rank times, step times) in ms with relative noise on every rank time and on C."""
    random = np.random.default_rng(seed)
    own = model.rank_time_ms(steps.kv_tokens, steps.num_running)
    if steps.prefill_tokens is not None:
        own = own + prefill_s * 1e3 * steps.prefill_tokens * model.slowness(steps.dp_size)
    own = own * (1 + noise * random.standard_normal(own.shape))
    return own, model.shared_s * 1e3 * (1 + noise * random.standard_normal(len(own))) + own.max(axis=1)


@pytest.fixture(scope="module")
def steps() -> StepArrays:
    return replayed_steps()[0]


def test_known_coefficients_and_a_slow_rank_are_found_through_noise(steps):
    own, step_ms = noisy(steps)
    found = calibrate(recorded(steps, compute_ms=own, step_ms=step_ms))
    for name, true in (("C", 0.0273), ("a", 23.3e-9), ("b", 232e-6)):
        interval = found.coefficients[name]
        assert interval.value == pytest.approx(true, rel=0.01)
        assert interval.low <= true <= interval.high, name
        assert (interval.high - interval.low) / true < 0.05
    factor = found.ranks[3].factor
    assert factor is not None
    assert factor.value == pytest.approx(1.2, rel=0.005)
    assert factor.low <= 1.2 <= factor.high
    assert found.model.rank_speeds == ((3, pytest.approx(1 / 1.2, rel=0.005)),)
    assert any(warning.startswith("rank 3 is slow: it takes 1.20x") for warning in found.warnings)
    assert found.errors.p95 < 0.11
    assert found.held_out.p95 < 0.13
    assert found.errors.r2 > 0.75
    assert found.idle_measured == pytest.approx(found.idle_modelled, rel=0.1)


def test_step_times_alone_find_the_same_less_sharply(steps):
    _own, step_ms = noisy(steps)
    found = calibrate(recorded(steps, step_ms=step_ms))
    assert found.fitted_to == "step times"
    assert found.coefficients["C"].value == pytest.approx(0.0273, rel=0.02)
    assert found.coefficients["a"].value == pytest.approx(23.3e-9, rel=0.2)
    assert found.coefficients["b"].value == pytest.approx(232e-6, rel=0.2)
    assert found.ranks[3].factor is not None
    assert found.ranks[3].factor.value == pytest.approx(1.2, rel=0.05)
    assert found.idle_measured is None


def test_gross_outliers_count_for_nothing(steps):
    own, step_ms = noisy(steps)
    random = np.random.default_rng(9)
    hit = random.random(own.shape) < 0.03
    own = np.where(hit, own * random.uniform(3, 20, own.shape), own)
    step_ms = np.maximum(step_ms, own.max(axis=1) + 27.3)
    found = calibrate(recorded(steps, compute_ms=own, step_ms=step_ms))
    assert found.coefficients["a"].value == pytest.approx(23.3e-9, rel=0.02)
    assert found.coefficients["b"].value == pytest.approx(232e-6, rel=0.01)
    assert found.coefficients["C"].value == pytest.approx(0.0273, rel=0.01)
    assert found.outliers >= 0.8 * (hit & (own > 0)).sum()
    assert any("the model fits poorly" in warning for warning in found.warnings), "steps with outliers stay as they are"


def test_without_noise_the_coefficients_are_exact(steps):
    own, step_ms = noisy(steps, noise=0.0)
    found = calibrate(recorded(steps, compute_ms=own, step_ms=step_ms))
    values = [found.coefficients[name].value for name in ("C", "a", "b")]
    assert values == pytest.approx([0.0273, 23.3e-9, 232e-6], rel=1e-6)
    assert found.errors.p95 < 1e-6


def test_own_work_that_no_load_explains_is_part_of_c(steps):
    own, step_ms = noisy(steps, noise=0.0, model=TRUE)
    found = calibrate(recorded(steps, compute_ms=own + 6.0, step_ms=step_ms + 6.0))
    assert found.coefficients["C"].value == pytest.approx(0.0333, rel=1e-3)
    assert found.coefficients["a"].value == pytest.approx(23.3e-9, rel=1e-3)


def test_prefill_tokens_get_a_coefficient_where_they_were_recorded(steps):
    random = np.random.default_rng(3)
    prefill = np.where(random.random(steps.kv_tokens.shape) < 0.1, random.integers(100, 4000, steps.kv_tokens.shape), 0)
    steps = dataclasses.replace(steps, prefill_tokens=prefill.astype(np.float64))
    own, step_ms = noisy(steps, prefill_s=2e-6, noise=0.02)
    found = calibrate(recorded(steps, compute_ms=own, step_ms=step_ms))
    assert found.coefficients["p"].value == pytest.approx(2e-6, rel=0.02)
    assert found.coefficients["a"].value == pytest.approx(23.3e-9, rel=0.02)
    assert found.held_out.p95 < 0.1
    assert found.model.as_dict()["p"] == found.coefficients["p"].value


def with_prefill(steps: StepArrays, chunks, seed: int = 3) -> StepArrays:
    """Chunks of prompts on a tenth of the rank-steps, each with up to 30,000 tokens of its prompt before it."""
    random, shape = np.random.default_rng(seed), steps.kv_tokens.shape
    tokens = np.where(random.random(shape) < 0.1, random.choice(chunks, shape), 0).astype(np.float64)
    before = np.floor(random.uniform(0, 30_000, shape))
    return dataclasses.replace(steps, prefill_tokens=tokens, prefill_pairs=tokens * before + tokens**2 / 2)


def test_the_attention_of_prefill_gets_a_coefficient_where_its_pairs_were_recorded(steps):
    steps = with_prefill(steps, range(100, 4_000))
    own, step_ms = noisy(steps, prefill_s=1e-5, noise=0.02)
    pairs_ms = 1e-9 * 1e3 * steps.prefill_pairs * SLOW.slowness(steps.dp_size)
    found = calibrate(
        recorded(steps, compute_ms=own + pairs_ms, step_ms=step_ms + (own + pairs_ms).max(axis=1) - own.max(axis=1))
    )
    assert found.coefficients["p"].value == pytest.approx(1e-5, rel=0.1)
    assert found.coefficients["e"].value == pytest.approx(1e-9, rel=0.05)
    assert {"p", "e"} <= {band.coefficient for band in found.model.bands}
    assert any("C_x is not fitted" in warning for warning in found.warnings)


def test_attention_that_cannot_be_told_from_tokens_is_left_out_and_that_is_said(steps):
    """Whole prompts of one length: their pairs are as their tokens."""
    steps = with_prefill(steps, [1_000])
    steps = dataclasses.replace(steps, prefill_pairs=steps.prefill_tokens**2 / 2)
    own, step_ms = noisy(steps, prefill_s=1e-5, noise=0.02)
    found = calibrate(recorded(steps, compute_ms=own, step_ms=step_ms))
    assert "e" not in found.coefficients
    assert found.coefficients["p"].value == pytest.approx(1e-5, rel=0.05)
    assert any(warning.startswith("e is left out of the fit: ") for warning in found.warnings)


def test_the_intervals_of_prefill_hold_the_truth_nearly_always(steps):
    """Ten recordings with noise of their own: at most two of the 95% intervals may miss."""
    held = dict.fromkeys(("p", "e"), 0)
    for seed in range(10):
        some = with_prefill(steps.part(slice(0, 400)), range(100, 4_000), seed)
        own, _step_ms = noisy(some, seed=seed, prefill_s=1e-5, noise=0.05)
        own = own + 1e-6 * some.prefill_pairs * SLOW.slowness(some.dp_size)
        found = calibrate(recorded(some, compute_ms=own)).coefficients
        for name, truth in (("p", 1e-5), ("e", 1e-9)):
            held[name] += found[name].low <= truth <= found[name].high
    assert min(held.values()) >= 8, held


def test_coefficients_are_never_negative(steps):
    own = 5.0 + 0.5 * steps.num_running + 1e-5 * (steps.kv_tokens.max() - steps.kv_tokens)
    found = calibrate(recorded(steps, compute_ms=own, step_ms=own.max(axis=1) + 1))
    assert all(interval.low >= 0 for interval in found.coefficients.values())
    assert found.coefficients["a"].value == 0
    assert any(warning.startswith("a may be 0") for warning in found.warnings)


@given(st.integers(0, 2**31), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_non_negative_least_squares_satisfy_their_conditions(seed, size):
    random = np.random.default_rng(seed)
    loads, y = random.random((20, size)) - 0.3, random.random(20) - 0.3
    gram, moment = loads.T @ loads, loads.T @ y
    found = non_negative(gram, moment)
    gradient = gram @ found - moment
    assert (found >= 0).all()
    assert (gradient >= -1e-9).all(), "no coefficient at 0 wants to grow"
    assert np.abs(gradient[found > 0]).max(initial=0) < 1e-9, "the others are at their minimum"


# Refusals ------------------------------------------------------------------------------------------------------------


def test_too_few_steps_are_refused(steps):
    own, step_ms = noisy(steps)
    short = steps.part(slice(0, 30))
    with pytest.raises(InputError, match=r"has only 30 whole steps with times, expected at least 50"):
        calibrate(recorded(short, compute_ms=own[:30], step_ms=step_ms[:30]))


def test_where_the_first_steps_cannot_tell_a_model_nothing_is_held_out(steps):
    later = int(0.75 * len(steps))
    loads = np.where(np.arange(len(steps))[:, None] < later, 16.0, steps.num_running)
    late = dataclasses.replace(steps, num_running=loads)
    own, step_ms = noisy(late)
    found = calibrate(recorded(late, compute_ms=own, step_ms=step_ms))
    assert found.held_out is None
    assert any("nothing could be held out to validate the model" in warning for warning in found.warnings)
    assert found.coefficients["b"].value == pytest.approx(232e-6, rel=0.05)


def test_a_single_rank_has_no_factor_to_be_slow_by(steps):
    alone = dataclasses.replace(steps, kv_tokens=steps.kv_tokens[:, :1], num_running=steps.num_running[:, :1])
    own, step_ms = noisy(alone, model=TRUE)
    found = calibrate(recorded(alone, compute_ms=own, step_ms=step_ms))
    assert found.model.rank_speeds == ()
    assert found.coefficients["a"].value == pytest.approx(23.3e-9, rel=0.05)


def test_loads_that_hardly_vary_are_refused(steps):
    even = dataclasses.replace(steps, num_running=np.full_like(steps.num_running, 16.0))
    own, step_ms = noisy(even)
    with pytest.raises(InputError, match=r"loads are too alike to tell b from C: requests per rank vary by 0.00%"):
        calibrate(recorded(even, compute_ms=own, step_ms=step_ms))


def test_loads_that_go_together_are_refused(steps):
    alike = dataclasses.replace(steps, kv_tokens=steps.num_running * 1000)
    own, step_ms = noisy(alike)
    with pytest.raises(InputError, match=r"loads are too alike to tell a from the other coefficients"):
        calibrate(recorded(alike, compute_ms=own, step_ms=step_ms))


def test_intervals_that_say_nothing_are_refused():
    steps = replayed_steps()[0].part(slice(300, 360))
    _own, step_ms = noisy(steps)
    random = np.random.default_rng(2)
    with pytest.raises(InputError, match=r"60 steps cannot tell \w+: its 95% interval leaves \d+% of a mean time open"):
        calibrate(recorded(steps, step_ms=step_ms * random.lognormal(0, 0.4, len(step_ms))))


def test_times_that_do_not_depend_on_load_are_refused(steps):
    _own, step_ms = noisy(steps)
    with pytest.raises(InputError, match=r"its times do not grow with KV tokens or requests"):
        calibrate(recorded(steps, step_ms=80 - step_ms))


def test_times_that_a_replay_made_are_refused():
    _steps, _workload, trace = replayed_steps()
    with pytest.raises(InputError, match=r"its times were made by a replay with true, expected times measured"):
        calibrate(trace)


def test_a_trace_without_times_is_refused(steps):
    with pytest.raises(InputError, match=r"no step has a time, expected recorded steps with step_ms or compute_ms"):
        calibrate(recorded(steps))


def test_a_poor_fit_is_warned_of(steps):
    own, step_ms = noisy(steps, noise=0.05)
    step_ms = step_ms * np.random.default_rng(1).uniform(0.6, 1.8, len(step_ms))
    found = calibrate(recorded(steps, compute_ms=np.minimum(own, step_ms[:, None] * 0.9), step_ms=step_ms))
    assert any("the model fits poorly: one step in twenty is off by more than" in text for text in found.warnings)


def test_the_same_trace_gives_the_same_bytes(steps):
    own, step_ms = noisy(steps)
    trace = recorded(steps, compute_ms=own, step_ms=step_ms)
    texts = [json.dumps(calibrate(trace).as_dict()) for _ in range(2)]
    assert texts[0] == texts[1]


# On the command line -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> str:
    """A file with requests as replayed and steps with noisy measured times."""
    steps, _workload, trace = replayed_steps(count=100_000)
    own, step_ms = noisy(steps, noise=0.02)
    start = np.concatenate([[0.0], np.cumsum(step_ms)[:-1]])
    columns = {"compute_ms": own, "step_ms": step_ms, "start_ms": start, "num_waiting": None}
    meta = TraceMeta("made", "native", dp_size=8, max_num_seqs=32)
    requests = trace.requests.drop("admitted_ms", "first_token_ms", "finish_ms")
    path = tmp_path_factory.mktemp("measured") / "measured.jsonl"
    write_native(Trace.of(meta, requests, dataclasses.replace(steps, **columns).frame()), path)
    return str(path)


def test_calibrate_writes_a_model_that_replay_takes(measured, tmp_path, capsys):
    target = tmp_path / "model.json"
    assert run(["calibrate", measured, "-o", str(target), "--gpu", "h100", "--gpus-per-rank", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("C 27.")
    assert "p95 error" in captured.out
    assert "held out" in captured.out
    assert "lbal: note: rank 3 is slow: it takes 1.20x the time of the median rank" in captured.err
    record = json.loads(target.read_text())
    assert record["rank_speed"]["3"] == pytest.approx(1 / 1.2, rel=0.01)
    assert record["bands"]["a"]["low"] < record["a"] < record["bands"]["a"]["high"]
    model = step_model(str(target), 32)
    assert (model.gpu, model.gpus_per_rank) == ("h100", 2)
    assert model.rank_speeds == ((3, record["rank_speed"]["3"]),)
    assert run(["replay", measured, "--policy", "jsq", "--step-model", str(target), "--bands", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["power_model"]["name"] == "h100"
    assert found["bands"]["variants"] == 27
    assert run(["calibrate", measured, "-o", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_trace_as_step_model_is_calibrated_on_the_fly(measured, capsys):
    assert run(["replay", measured, "--policy", "recorded", "--step-model", measured, "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["config"]["step_model"]["C"] == pytest.approx(0.0273, rel=0.01)
    assert any("p95 error" in note for note in found["notes"])


def test_replaying_recorded_tells_how_far_it_is_from_what_was_measured(measured, capsys):
    arguments = ["replay", measured, "--policy", "recorded", "--policy", "jsq", "--step-model", measured]
    assert run([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    fidelity = found["fidelity"]
    assert abs(fidelity["on_recorded_loads"]["bias"]) < 0.01
    assert fidelity["on_recorded_loads"]["p95"] < 0.06
    step = fidelity["step_ms_mean"]
    assert step["replayed"] == pytest.approx(step["measured"], rel=0.02)
    idle = fidelity["barrier_idle_fraction"]
    assert idle["replayed"] == pytest.approx(idle["measured"], rel=0.1)
    for each in found["runs"]:
        for name, value in {**each["metrics"], **each["headroom"]}.items():
            assert "fidelity" in value, f"{name}: every modelled number carries it"
    expected = idle["replayed"] / idle["measured"] - 1
    assert found["runs"][1]["metrics"]["barrier_idle_fraction"]["fidelity"] == pytest.approx(expected)
    assert run(arguments) == 0
    text = capsys.readouterr().out
    assert "Fidelity: modelled against measured" in text
    assert f"modelled {expected:+.1%}" in text


def test_a_wrong_model_shows_in_the_fidelity(measured, capsys):
    arguments = ["replay", measured, "--policy", "recorded", "--json"]
    assert run([*arguments, "--step-model", "C=0.0546,a=23.3e-9,b=232e-6"]) == 0
    fidelity = json.loads(capsys.readouterr().out)["fidelity"]
    assert fidelity["on_recorded_loads"]["bias"] > 0.4


def test_without_recorded_there_is_only_the_fidelity_of_the_model(measured, capsys):
    assert run(["replay", measured, "--policy", "jsq", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["fidelity"]) == {"on_recorded_loads", "idle_on_recorded_loads", "findings"}
    assert found["fidelity"]["on_recorded_loads"]["p95"] < 0.06
    assert all("fidelity" not in value for value in found["runs"][0]["metrics"].values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"C": 0.02, "a": "x"}', "model.json: a: 'x' is no number, expected a number from 0 to 10000"),
        ('{"a": 1e-8}', "model.json: C: is missing"),
        ('{"C": 0.02, "a": 0}', "model.json: a: no rank would ever wait for another, expected a or b above 0"),
        ('{"C": 20, "a": 1e-8, "unit": "ms"}', "model.json: unit: 'ms' is not known, expected seconds"),
        ('{"C": 0.02, "a": 1e-8, "d": 1}', "model.json: d: is no field of a step-time model"),
        ('{"C": 0.02, "a": 1e-8, "rank_speed": {"x": 1}}', "model.json: rank_speed: 'x' is no rank"),
        ('{"C": 0.02, "a": 1e-8, "rank_speed": {"1": 0}}', "model.json: rank_speed.1: 0 is out of range"),
        ('{"C": 0.02, "a": 1e-8, "bands": {"C": 3}}', "model.json: bands.C: 3 is no band"),
        ('{"C": 0.02, "a": 1e-8, "bands": {"C": {"low": 0.03, "high": 0.04}}}', "does not hold C, 0.02"),
        ("", "model.json:1: is no JSON"),
        ("[" * 100_000, "model.json: is nested too deeply"),
        ('{"C": ' + "1" * 5000 + "}", "model.json: has a number of too many digits"),
    ],
)
def test_a_model_file_that_cannot_be_used_is_refused_in_one_line(measured, tmp_path, capsys, content, message):
    path = tmp_path / "model.json"
    path.write_text(content)
    assert run(["replay", measured, "--policy", "jsq", "--step-model", str(path)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "model.txt"], "model.txt: its suffix says no format, expected one of .json (the model"),
        (["--gpu", "h10"], "unknown power model 'h10': did you mean 'h100'?"),
    ],
)
def test_an_option_of_calibrate_that_cannot_be_is_refused(measured, capsys, arguments, message):
    assert run(["calibrate", measured, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_nearest_name_of_a_step_model_is_suggested(measured, capsys):
    for wrong, near in (("h100/lama3-70b/tp4", "h100/llama3-70b/tp4"), ("papr-release", "paper-release")):
        assert run(["replay", measured, "--step-model", wrong]) == 2
        assert f"did you mean {near!r}?" in capsys.readouterr().err
    assert run(["list", "step-models", "deepseek-v4"]) == 2
    assert "did you mean 'b200/deepseek-v3/" in capsys.readouterr().err


def test_list_tells_error_confidence_and_source_of_every_preset(capsys):
    assert run(["list", "step-models", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert len(items) == 77
    assert all(item["error"] and item["confidence"] and item["source"] for item in items)
    assert run(["list", "power-models", "--json"]) == 0
    names = [item["name"] for item in json.loads(capsys.readouterr().out)["items"]]
    assert names == ["a100", "h100", "h200", "b200", "gb200", "mi300x", "ascend-910b", "ascend-910c", "paper"]


def test_ranks_are_fitted_whatever_their_order(steps):
    own, step_ms = noisy(steps, noise=0.01)
    order = [3, 1, 2, 0, 4, 5, 6, 7]
    moved = dataclasses.replace(steps, kv_tokens=steps.kv_tokens[:, order], num_running=steps.num_running[:, order])
    plain = calibrate(recorded(steps, compute_ms=own, step_ms=step_ms))
    other = calibrate(recorded(moved, compute_ms=own[:, order], step_ms=step_ms))
    for mine, theirs in itertools.pairwise([plain.coefficients, other.coefficients]):
        assert [v.value for v in mine.values()] == pytest.approx([v.value for v in theirs.values()], rel=1e-6)
    assert other.model.rank_speeds[0][0] == 0

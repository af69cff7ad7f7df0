"""A replay of what was recorded begins with what was recorded: the placement, and step times fitted to the trace."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import lbal
from lbal.analyzers.analysis import own_model
from lbal.analyzers.analysis.own_model import OWN_C
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL
from lbal.analyzers.trace.trace import Trace, TraceMeta
from lbal.analyzers.trace.writing.native import write_native
from lbal.cli.main import run
from lbal.replay.engine.engine import replay as engine_replay
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

SAMPLES = Path(__file__).resolve().parents[3] / "sample_traces"
SKEWED = str(SAMPLES / "skewed_8_ranks.jsonl")
TOLERANCE_POINTS = 0.3
"""By how many points of rank-time the idle of `recorded` may differ from that of `analyze`, for 3% of noise."""
RANKS, SLOTS = 4, 16


def idle_of(result, policy=None):
    found = next(run for run in result.runs if policy is None or run.policy == policy)
    return found.metrics["barrier_idle_fraction"]


def recorded_run(seed: int, model: StepTimeModel, noise: float = 0.03, count: int = 400) -> Trace:
    """A run on a system with these step times, every rank time and every C with noise of its own."""
    random = np.random.default_rng(seed)
    workload = Workload(
        source="made",
        request_id=pl.Series("request_id", np.arange(count)),
        prompt_tokens=np.minimum(random.lognormal(7.5, 1.2, count), 40_000).astype(np.int64),
        output_tokens=np.minimum(random.geometric(1 / 120, count), 600).astype(np.int64),
        arrival_ms=np.cumsum(random.exponential(70.0, count)),
        recorded_rank=None,
    )
    replayed = engine_replay(workload, Cluster(RANKS, SLOTS, model), parse_policy("round-robin"), Conditions())
    steps = replayed.trace.step_arrays()
    rank_ms = model.rank_time_ms(steps.kv_tokens, steps.num_running)
    rank_ms = rank_ms * (1 + noise * random.standard_normal(rank_ms.shape))
    step_ms = model.shared_s * 1e3 * (1 + noise * random.standard_normal(len(rank_ms))) + rank_ms.max(axis=1)
    start_ms = np.concatenate([[0.0], np.cumsum(step_ms)[:-1]])
    steps = dataclasses.replace(steps, compute_ms=rank_ms, step_ms=step_ms, start_ms=start_ms, num_waiting=None)
    assert replayed.trace.requests is not None
    requests = replayed.trace.requests.drop("admitted_ms", "first_token_ms", "finish_ms")
    return Trace.of(TraceMeta("made", "native", dp_size=RANKS, max_num_seqs=SLOTS), requests, steps.frame())


def test_recorded_idles_in_the_replay_as_it_does_in_the_analysis():
    trace = lbal.read_trace(SKEWED)
    analysed, replayed = lbal.analyze(trace), lbal.replay(trace)
    assert [run.label for run in replayed.runs] == ["recorded", "round-robin", "jsq", "jsq-kv"]
    assert idle_of(replayed, "recorded").value == pytest.approx(idle_of(analysed).value, abs=TOLERANCE_POINTS / 100)
    assert idle_of(analysed).value > 0.13
    assert any(note.startswith("step model calibrated on 458 steps: p95 error 1.6%") for note in replayed.notes)
    assert "13.4% idle against 13.4% measured" in replayed.fidelity["findings"][1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "model",
    [
        StepTimeModel("light", 0.02, 60e-9, 100e-6),
        StepTimeModel("heavy", 0.008, 150e-9, 500e-6),
        StepTimeModel("slow rank", 0.02, 60e-9, 400e-6).with_speeds({2: 1 / 1.3}),
    ],
    ids=lambda model: model.name,
)
def test_so_it_does_on_any_system_whose_noise_is_small(model, seed):
    trace = recorded_run(seed, model)
    analysed, replayed = idle_of(lbal.analyze(trace)), idle_of(lbal.replay(trace, policies=["recorded"]))
    assert analysed.basis == "measured"
    # Noise of rank times is idle that no load explains; the replay has none.
    noise_points = 1.5
    assert analysed.value - noise_points / 100 <= replayed.value <= analysed.value + TOLERANCE_POINTS / 100


def test_what_is_asked_for_wins():
    trace = lbal.read_trace(SKEWED)
    assert [run.label for run in lbal.replay(trace, policies=["jsq"]).runs] == ["jsq"]
    for asked in ("paper-release", StepTimeModel("mine", 0.02, 39e-9, 155e-6)):
        result = lbal.replay(trace, policies=["recorded"], step_model=asked)
        assert result.config["step_model"]["name"] == getattr(asked, "name", asked)
        assert not any("calibrated" in note for note in result.notes)
    speeds = lbal.replay(trace, policies=["jsq"], rank_speed=["5=0.5"]).config["step_model"]["rank_speed"]
    assert speeds == {"5": 0.5}


def test_requests_alone_are_replayed_under_the_default_model_without_recorded():
    result = lbal.replay(lbal.read_trace(str(SAMPLES / "requests_2000.jsonl")), dp_size=8, max_num_seqs=32)
    assert [run.label for run in result.runs] == ["round-robin", "jsq", "jsq-kv"]
    assert result.config["step_model"]["name"] == DEFAULT_STEP_MODEL
    assert not result.fidelity


def test_a_replayed_trace_is_replayed_with_the_model_that_made_it(tmp_path):
    path = str(tmp_path / "jsq.jsonl")
    assert run(["replay", SKEWED, "--policy", "jsq", "-o", path]) == 0
    trace = lbal.read_trace(path)
    analysed, replayed = lbal.analyze(trace), lbal.replay(trace)
    assert idle_of(replayed, "recorded").value == pytest.approx(idle_of(analysed).value, rel=1e-9)
    assert replayed.config["step_model"]["C"] == analysed.config["step_model"]["C"]


def test_too_few_steps_are_replayed_with_the_fit_of_the_analysis_and_a_note():
    trace = lbal.read_trace(str(SAMPLES / "two_ranks_three_steps.jsonl"))
    result = lbal.replay(trace)
    assert idle_of(result, "recorded").value == pytest.approx(idle_of(lbal.analyze(trace)).value, abs=1e-6)
    (note,) = [note for note in result.notes if "could not be calibrated" in note]
    assert "the trace has only 3 whole steps with times; the fit of its rank times is taken" in note


def with_step_times(trace: Trace, step_ms) -> Trace:
    assert trace.steps is not None
    steps = dataclasses.replace(trace.step_arrays(), compute_ms=None, step_ms=np.asarray(step_ms, float))
    return Trace.of(trace.meta, trace.requests, steps.frame())


def test_times_that_no_load_explains_leave_the_default_model_and_a_note():
    trace = recorded_run(0, StepTimeModel("light", 0.02, 60e-9, 100e-6))
    times = np.full(trace.num_steps, 30.0)
    result = lbal.replay(with_step_times(trace, times), policies=["recorded"])
    assert result.config["step_model"]["name"] == OWN_C.format(DEFAULT_STEP_MODEL)
    (note,) = [note for note in result.notes if "could not be calibrated" in note]
    assert "its times do not grow with KV tokens or requests" in note
    assert f"a and b of {DEFAULT_STEP_MODEL} are taken, so idle is not that of this system" in note
    assert note.endswith("(medians), --step-model names another")


@pytest.mark.parametrize("model", [None, StepTimeModel("heavy", 0.008, 150e-9, 500e-6)], ids=["not told", "told"])
def test_step_times_alone_give_analysis_and_replay_one_model_and_the_same_idle(model):
    """Of the sample they do not tell a; of the other trace they do, so that its idle is near the true one."""
    trace = lbal.read_trace(SKEWED) if model is None else recorded_run(0, model, noise=0.01, count=800)
    times = trace.step_arrays().step_ms
    bare = with_step_times(trace, times)
    analysed, replayed = lbal.analyze(bare), lbal.replay(bare, policies=["recorded"])
    assert analysed.config["step_model"] == replayed.config["step_model"]
    assert idle_of(replayed).value == pytest.approx(idle_of(analysed).value, abs=TOLERANCE_POINTS / 100)
    shared = set(analysed.notes) & set(replayed.notes)
    assert any("step model" in note and "calibrated" in note for note in shared)
    if model is not None:
        assert idle_of(analysed).value == pytest.approx(idle_of(lbal.analyze(trace)).value, abs=0.015)


def test_a_poor_fit_is_said_to_be_poor():
    trace = recorded_run(0, StepTimeModel("light", 0.02, 60e-9, 400e-6), noise=0.0)
    times = trace.step_arrays().step_ms
    assert times is not None
    rough = times * np.random.default_rng(1).lognormal(0.0, 0.25, len(times))
    notes = lbal.replay(with_step_times(trace, rough), policies=["recorded"]).notes
    assert any("the model fits poorly" in note for note in notes)


def test_a_poor_fit_gives_way_to_a_default_that_misses_less(monkeypatch):
    trace = recorded_run(0, StepTimeModel("light", 0.02, 60e-9, 400e-6), noise=0.0)
    times = trace.step_arrays().step_ms
    assert times is not None
    rough = with_step_times(trace, times * np.random.default_rng(1).lognormal(0.0, 0.25, len(times)))
    monkeypatch.setattr(own_model, "_median_error", lambda _trace, _model: 0.01)
    taken = OWN_C.format(DEFAULT_STEP_MODEL)
    for result in (lbal.replay(rough, policies=["recorded"]), lbal.analyze(rough)):
        assert result.config["step_model"]["name"] == taken
        assert any(note.startswith(f"{taken} is taken instead: it misses half") for note in result.notes)


def test_recorded_is_left_out_where_it_cannot_be_replayed_and_a_note_says_why():
    trace = lbal.read_trace(SKEWED)
    for options, reason in (
        ({"dp_size": 4}, "recorded is not replayed: the trace has rank 7 and the replay 4 ranks"),
        ({"binding": "pool"}, "recorded is not replayed: the placement of the trace has no pool"),
    ):
        result = lbal.replay(trace, **options)
        assert [run.label for run in result.runs] == ["round-robin", "jsq", "jsq-kv"]
        assert reason in result.notes
    assert trace.requests is not None
    ranks = trace.requests["rank"].to_list()
    some = trace.requests.with_columns(pl.Series("rank", [None, *ranks[1:]], pl.Int64))
    result = lbal.replay(Trace.of(trace.meta, some, None))
    assert "recorded is not replayed: 1 request of 400 have no rank in the trace" in result.notes


def test_at_another_rate_recorded_is_not_held_against_what_was_measured():
    result = lbal.replay(lbal.read_trace(SKEWED), rate_scale=3.0)
    assert "The replay is of another rate or size than the trace" in result.fidelity["findings"][-1]
    assert "step_ms_mean" not in result.fidelity
    assert all(value.fidelity is None for run in result.runs for value in run.metrics.values())


def test_the_rate_for_a_share_of_slots_is_found_under_a_policy_that_routes():
    notes = lbal.replay(lbal.read_trace(SKEWED), slot_use=0.7).notes
    assert any("of the slots busy under round-robin" in note for note in notes)


def test_the_replayed_traces_of_default_policies_are_files_of_their_own(tmp_path, capsys):
    assert run(["replay", SKEWED, "-o", str(tmp_path / "{policy}.jsonl")]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["jsq-kv.jsonl", "jsq.jsonl", "recorded.jsonl", "round-robin.jsonl"]
    assert run(["replay", SKEWED, "-o", str(tmp_path / "{policy}.jsonl")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_trace_that_is_replayed_need_not_be_in_one_piece(tmp_path):
    """The model comes from the trace at hand, whatever its file is called."""
    trace = lbal.read_trace(SKEWED)
    path = tmp_path / "a trace with spaces.parquet.jsonl"
    write_native(trace, path)
    assert idle_of(lbal.replay(lbal.read_trace(str(path))), "recorded").value == pytest.approx(
        idle_of(lbal.replay(trace), "recorded").value
    )

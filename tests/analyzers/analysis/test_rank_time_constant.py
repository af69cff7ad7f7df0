"""Rank times with a part that no load explains: what `analyze` says, held to known truth and to all placements."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import lbal
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.rank_times import explained
from lbal.analyzers.result.result import Result
from lbal.analyzers.trace.step_blocks import blocks_of
from lbal.analyzers.trace.trace import FloatArray, StepArrays, Trace, TraceMeta
from tests.helpers.all_placements import least_idle_ms

TOKEN_MS, REQUEST_MS, SHARED_MS = 2e-4, 0.5, 10.0


def served(
    seed: int, *, steps: int, ranks: int, constant_ms: float, factor: FloatArray, most: int = 5
) -> tuple[Trace, list[list[float]]]:
    """A recorded trace of random placements, and the times of the requests of each step."""
    random = np.random.default_rng(seed)
    first, output, prompt, rank = [], [], [], []
    for step in range(0, steps, 3):
        active = sum(begun <= step < begun + stays for begun, stays in zip(first, output, strict=True))
        for _ in range(int(random.integers(0, 3))):
            if active >= most:
                break
            active += 1
            first.append(step)
            output.append(int(random.integers(2, 9)))
            prompt.append(int(random.integers(1, 20_000)))
            rank.append(int(random.integers(0, ranks)))
    if not first:
        first, output, prompt, rank = [0], [4], [5_000], [0]
    count = max(begun + stays for begun, stays in zip(first, output, strict=True))
    tokens, running = np.zeros((count, ranks)), np.zeros((count, ranks))
    singles: list[list[float]] = [[] for _ in range(count)]
    for begun, stays, entering, where in zip(first, output, prompt, rank, strict=True):
        for step in range(begun, begun + stays):
            load = entering + step - begun
            tokens[step, where] += load
            running[step, where] += 1
            singles[step].append(TOKEN_MS * load + REQUEST_MS)
    compute = np.where(running > 0, constant_ms + factor * (TOKEN_MS * tokens + REQUEST_MS * running), 0.0)
    step_ms = SHARED_MS + compute.max(axis=1)
    ends = np.cumsum(step_ms)
    start = ends - step_ms
    arrays = StepArrays(np.arange(count), tokens, running, compute_ms=compute, step_ms=step_ms, start_ms=start)
    requests = pl.DataFrame(
        {
            "request_id": [str(index) for index in range(len(first))],
            "arrival_ms": start[first],
            "prompt_tokens": prompt,
            "output_tokens": output,
            "rank": rank,
            "admitted_ms": start[first],
            "finish_ms": ends[np.array(first) + np.array(output) - 1],
        }
    )
    return Trace.of(TraceMeta("made.jsonl", "native", dp_size=ranks, max_num_seqs=8), requests, arrays.frame()), singles


def figures_of(found: Result) -> tuple[float, float, float, str]:
    """Idle, unavoidable and avoidable idle as shares of rank-time, and what the text says of them."""
    run = found.runs[0]
    shares = [run.headroom[f"{name}_idle_fraction"].value for name in ("unavoidable", "avoidable")]
    return run.metrics["barrier_idle_fraction"].value, *shares, " ".join(found.headroom["findings"])


@given(
    st.integers(0, 2**31), st.integers(2, 3), st.sampled_from([0.0, 2.0, 5.0, 10.0]), st.sampled_from([6, 15, 45, 120])
)
@settings(deadline=None, max_examples=25)
def test_no_placement_idles_less_than_what_is_said_to_be_unavoidable(seed, ranks, constant_ms, steps):
    factor = np.ones(ranks)
    trace, singles = served(seed, steps=steps, ranks=ranks, constant_ms=constant_ms, factor=factor)
    hold(trace, sum(least_idle_ms(each, ranks, constant_ms, factor) for each in singles if each))


@given(
    st.integers(0, 2**31),
    st.integers(2, 4),
    st.sampled_from([15, 30, 45, 180]),
    st.sampled_from([0.0, 2.0, 5.0]),
    st.sampled_from([0.7, 1.25, 2.0]),
    st.integers(0, 3),
)
@example(1088, 3, 45, 0.0, 2.0, 2)  # too few rank times for factors: all ranks were taken to be equally fast
@example(1088, 3, 180, 0.0, 2.0, 1)  # too few of the slow rank alone
@example(13, 2, 6, 0.0, 2.0, 1)
@settings(deadline=None, max_examples=25)
def test_the_same_beside_a_slow_or_a_fast_rank(seed, ranks, steps, constant_ms, speed, where):
    factor = np.ones(ranks)
    factor[where % ranks] = speed
    trace, singles = served(seed, steps=steps, ranks=ranks, constant_ms=constant_ms, factor=factor)
    hold(trace, sum(least_idle_ms(each, ranks, constant_ms, factor) for each in singles if each), slack=1e-5)


def test_short_traces_of_equal_ranks_keep_their_claims_where_one_model_explains_all_times_exactly():
    trace, _singles = served(4, steps=30, ranks=3, constant_ms=2.0, factor=np.ones(3))
    found = lbal.analyze(trace)
    assert np.isnan([rank["work_factor"] for rank in found.runs[0].ranks]).all(), "too few for factors"
    assert found.runs[0].headroom["unavoidable_idle_fraction"].value > 0.01
    assert not [note for note in found.notes if "no idle is claimed" in note]
    arrays = trace.step_arrays()
    slow = arrays.compute_ms * [1.0, 1.3, 1.0]
    slower = dataclasses.replace(arrays, compute_ms=slow, step_ms=SHARED_MS + slow.max(axis=1))
    found = lbal.analyze(Trace.of(trace.meta, None, slower.frame()))
    assert found.runs[0].headroom["unavoidable_idle_fraction"].value == 0
    assert "do not tell how fast 3 of 3 ranks are against the others" in " ".join(found.notes)


def hold(trace: Trace, least_ms: float, slack: float = 1e-6) -> None:
    found = lbal.analyze(trace)
    arrays = trace.step_arrays()
    least = least_ms / (arrays.dp_size * arrays.step_ms.sum())
    run = found.runs[0]
    if "unavoidable_idle_fraction" not in run.headroom:
        assert "not known" in " ".join(found.headroom["findings"])
        return
    idle, unavoidable, avoidable, text = figures_of(found)
    assert unavoidable <= least + slack
    assert avoidable >= idle - least - slack
    assert unavoidable + avoidable == pytest.approx(idle)
    if idle - least > 1e-3:
        assert "all was unavoidable" not in text


@pytest.mark.parametrize("constant_ms", [2.0, 5.0, 10.0])
@pytest.mark.parametrize("model", [None, "calibrated"])
def test_the_causes_are_those_that_the_loads_were_made_with(constant_ms, model):
    """Three equal ranks, the last lightly loaded: idle by numbers is all there is where lengths are equal."""
    random = np.random.default_rng(4)
    running = random.integers(8, 30, (200, 3)).astype(float)
    running[:, 2] = random.integers(1, 5, 200)
    tokens = running * random.integers(900, 1_100, (200, 1))
    work = TOKEN_MS * tokens + REQUEST_MS * running
    compute = constant_ms + work
    step_ms = SHARED_MS + compute.max(axis=1)
    steps = StepArrays(np.arange(200), tokens, running, compute_ms=compute, step_ms=step_ms)
    trace = Trace.of(TraceMeta("made.jsonl", "native", dp_size=3), None, steps.frame())
    given = None if model is None else lbal.calibrate(trace).config["step_model"]
    found = lbal.analyze(trace, step_model=None if given is None else StepTimeModel.from_dict(given))
    run = found.runs[0]
    idle = (work.max(axis=1)[:, None] - work).sum() / (3 * step_ms.sum())
    assert run.metrics["barrier_idle_fraction"].value == pytest.approx(idle)
    assert run.attribution["count"] == pytest.approx(idle, rel=1e-4)
    assert [abs(run.attribution[cause]) < 1e-5 for cause in ("length", "unexplained", "empty")] == [True] * 3
    assert [rank["work_factor"] for rank in run.ranks] == pytest.approx([1.0] * 3, abs=1e-4)
    assert "most of it because of uneven numbers of requests" in found.headline
    assert not [note for note in found.notes if "load explains" in note]


def test_a_slow_rank_is_named_and_its_interval_excludes_1():
    trace, _singles = served(3, steps=300, ranks=3, constant_ms=5.0, factor=np.array([1.0, 1.0, 1.4]))
    assert "rank 2 takes 1.40x the time that its load explains" in " ".join(lbal.analyze(trace).notes)
    factor = explained(blocks_of(trace), StepTimeModel("other", 0.03, 1e-8)).factors[2]
    assert factor is not None
    assert 1 < factor.low <= 1.4 <= factor.high + 1e-6


@pytest.mark.parametrize("few", [1, 2])
def test_a_constant_that_the_steps_do_not_tell_proves_nothing(few):
    """One or two rank times: any of c, a and b explains them."""
    tokens, running = np.array([[900.0, 100.0]] * few), np.array([[3.0, 1.0]] * few)
    steps = StepArrays(np.arange(few), tokens, running, compute_ms=9 + running, step_ms=np.full(few, 30.0))
    found = lbal.analyze(Trace.of(TraceMeta("made.jsonl", "native", dp_size=2), None, steps.frame()))
    assert "none is provably unavoidable" in found.headroom["findings"][0]
    assert [note for note in found.notes if "no load explains is taken as 0" in note]


@pytest.mark.parametrize("more_ms", [3.0, 8.0])
def test_a_rank_that_takes_some_ms_more_in_every_step_is_not_called_slow(more_ms):
    trace, _singles = served(5, steps=600, ranks=3, constant_ms=4.0, factor=np.ones(3), most=12)
    steps = trace.step_arrays()
    assert steps.compute_ms is not None
    compute = steps.compute_ms + np.where(steps.num_running > 0, [0.0, 0.0, more_ms], 0.0)
    late = dataclasses.replace(steps, compute_ms=compute, step_ms=SHARED_MS + compute.max(axis=1), start_ms=None)
    notes = " ".join(lbal.analyze(Trace.of(trace.meta, None, late.frame())).notes)
    assert "the time that its load explains" not in notes
    found = re.search(r"rank 2 takes ([\d.]+) ms more in every step than its load explains", notes)
    assert found is not None
    assert float(found[1]) == pytest.approx(more_ms, rel=0.1)
    warnings = lbal.calibrate(Trace.of(trace.meta, None, late.frame())).notes
    assert any(note.startswith(found[0]) for note in warnings), "calibrate says the same of the rank"
    assert not any("is slow" in note for note in warnings)


def test_calibrate_calls_a_rank_slow_where_analyze_does():
    trace, _singles = served(3, steps=300, ranks=3, constant_ms=5.0, factor=np.array([1.0, 1.0, 1.4]))
    warnings = lbal.calibrate(trace).notes
    assert any(note.startswith("rank 2 is slow: it takes 1.40x") for note in warnings)
    assert not any("more in every step" in note for note in warnings)

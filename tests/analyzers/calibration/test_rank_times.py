"""Measured rank times have a constant part: no rank is slow for it, and causes come out as they were made."""

from __future__ import annotations

import numpy as np
import pytest

from lbal.analyzers.analysis.analysis import analyze_steps
from lbal.analyzers.barrier.figures import attribution
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration import rank_times
from lbal.analyzers.calibration.rank_times import explained
from lbal.analyzers.trace.step_blocks import blocks_of
from lbal.analyzers.trace.trace import StepArrays, Trace, TraceMeta

TRUE = StepTimeModel("true", 0.02, 23.3e-9, 232e-6)
FALLBACK = StepTimeModel("other", 0.03, 1e-8, 1e-4)


def lightly_loaded(own_ms: float, *, seed: int = 0, steps: int = 600, noise: float = 0.01, slow: float = 1.0) -> Trace:
    """Eight equal ranks, of which rank 3 holds a quarter of the others' requests; `slow` is the factor of rank 5."""
    random = np.random.default_rng(seed)
    drift = 1 + 0.3 * np.sin(np.arange(steps) / 40)[:, None]
    running = np.maximum(random.poisson(24 * drift, (steps, 8)), 1).astype(float)
    running[:, 3] = np.maximum(running[:, 3] // 4, 1)
    tokens = np.round(running * 2_000 * random.lognormal(0, 0.15, running.shape))
    factor = np.ones(8)
    factor[5] = slow
    work = TRUE.rank_time_ms(tokens, running) * factor
    compute = own_ms + work * (1 + noise * random.standard_normal(work.shape))
    arrays = StepArrays(
        np.arange(steps), tokens, running, compute_ms=compute, step_ms=compute.max(axis=1) + 20.0, start_ms=None
    )
    return Trace.of(TraceMeta("made.jsonl", "native", dp_size=8), None, arrays.frame())


@pytest.mark.parametrize("own_ms", [0.0, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("given", [None, TRUE])
def test_a_lightly_loaded_rank_is_not_called_slow(own_ms, given):
    trace = lightly_loaded(own_ms)
    found = analyze_steps(trace, given, FALLBACK, "all", None)
    assert not [note for note in found.notes if "load explains" in note]
    assert found.work_factor == pytest.approx(np.ones(8), abs=0.03)
    true = analyze_steps(trace, TRUE, FALLBACK, "all", None)
    expected, causes = attribution(true.accounts), attribution(found.accounts)
    assert causes["count"] == pytest.approx(expected["count"], rel=0.03)
    assert causes["length"] == pytest.approx(expected["length"], abs=0.001)
    assert abs(causes["unexplained"]) < 0.005
    assert sum(causes.values()) == pytest.approx(found.metrics["barrier_idle_fraction"].value)


def test_constant_and_slopes_are_found_again():
    found = explained(blocks_of(lightly_loaded(5.0)), FALLBACK)
    assert found.constant_ms == pytest.approx(5.0, abs=0.1)
    assert found.model.per_token_s == pytest.approx(TRUE.per_token_s, rel=0.05)
    assert found.model.per_request_s == pytest.approx(TRUE.per_request_s, rel=0.05)
    assert found.model.shared_s == pytest.approx(0.025, rel=0.01)


def test_of_many_steps_evenly_spaced_ones_are_explained_and_that_is_said(monkeypatch):
    whole = lightly_loaded(5.0, steps=400)
    assert explained(blocks_of(whole), FALLBACK).notes == ()
    monkeypatch.setattr(rank_times, "MOST_CELLS", 100 * whole.meta.dp_size)
    found = explained(blocks_of(whole), FALLBACK)
    assert found.notes == ("rank times are explained from 100 of 400 steps, evenly spaced",)
    assert found.constant_ms == pytest.approx(5.0, abs=0.3)


def test_a_slow_rank_is_named_with_a_constant_part_too():
    found = explained(blocks_of(lightly_loaded(5.0, slow=1.25)), FALLBACK)
    assert list(found.slow_ranks) == [5]
    factor = found.factors[5]
    assert factor.low <= 1.25 <= factor.high
    assert factor.value == pytest.approx(1.25, abs=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_noise_makes_no_rank_slow(seed):
    assert explained(blocks_of(lightly_loaded(5.0, seed=seed, steps=80, noise=0.3)), FALLBACK).slow_ranks == {}


def test_a_rank_without_work_saves_the_constant_part_too():
    """Two ranks of 5 + 1*n ms, the second without work in every other step: all of its idle is for want of work."""
    random = np.random.default_rng(1)
    running = random.integers(5, 30, (400, 2)).astype(float)
    running[::2, 1] = 0
    compute = np.where(running > 0, 5 + running, 0.0)
    arrays = StepArrays(
        np.arange(400),
        running * random.integers(50, 150, running.shape),
        running,
        compute_ms=compute,
        step_ms=compute.max(axis=1) + 10,
    )
    trace = Trace.of(TraceMeta("made.jsonl", "native", dp_size=2), None, arrays.frame())
    causes = attribution(analyze_steps(trace, None, FALLBACK, "all", None).accounts)
    time_ms = float((compute.max(axis=1) + 10).sum())
    assert causes["empty"] == pytest.approx(compute[::2, 0].sum() / (2 * time_ms), rel=1e-6)
    assert causes["unexplained"] == pytest.approx(0, abs=1e-9)

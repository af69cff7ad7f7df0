"""Step times alone: what the largest of noisy rank times is expected to be, and which ranks a fit can tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.error_rates import made_loads
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.calibration import calibrate
from lbal.analyzers.calibration.straggler_shares import straggler_shares
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.trace import FloatArray, StepArrays, Trace, TraceMeta

TRUE = StepTimeModel("true", 0.0273, 23.3e-9, 232e-6)


def trace_of(tokens: FloatArray, running: FloatArray, seed: int, *, slow: float = 1.0, noise: float = 0.0) -> Trace:
    """Steps of which only the step time was measured; the last rank takes `slow` times as long for its work."""
    random = np.random.default_rng(seed)
    rank_ms = TRUE.with_speeds({running.shape[1] - 1: 1 / slow}).rank_time_ms(tokens, running)
    rank_ms = rank_ms * (1 + noise * random.standard_normal(rank_ms.shape))
    step_ms = rank_ms.max(axis=1) + 27.3 * (1 + 0.02 * random.standard_normal(len(rank_ms)))
    steps = StepArrays(np.arange(len(rank_ms)), tokens, running, step_ms=step_ms)
    return Trace.of(TraceMeta("made", "native", dp_size=running.shape[1]), None, steps.frame())


@given(st.lists(st.floats(1.0, 20.0), min_size=1, max_size=6), st.floats(0.01, 0.3))
@settings(deadline=None, max_examples=25)
def test_the_largest_of_noisy_rank_times_is_expected_as_drawn(times, noise):
    mean = np.array(times)
    found = straggler_shares(mean[None, :], noise)
    drawn = (mean * (1 + noise * np.random.default_rng(0).standard_normal((40_000, len(mean))))).max(axis=1)
    error = 5 * drawn.std() / 200 + 2e-3 * mean.max() * noise
    assert (found.of_rank * mean).sum() == pytest.approx(drawn.mean(), abs=error)
    assert np.sqrt(found.variance[0]) == pytest.approx(drawn.std(), rel=0.05)


def test_without_noise_the_straggler_alone_counts():
    found = straggler_shares(np.array([[1.0, 3.0, 2.0]]))
    assert found.of_rank.tolist() == [[0.0, 1.0, 0.0]]
    assert found.variance.tolist() == [0.0]


@pytest.mark.parametrize("ranks", [2, 5, 16])
def test_a_slow_rank_is_found_and_the_coefficients_are_those_of_the_others(ranks):
    loads = made_loads(np.random.default_rng(ranks), 1500, ranks)
    found = calibrate(trace_of(*loads, seed=1, slow=1.3, noise=0.02))
    factor = found.ranks[-1].factor
    assert factor is not None
    assert factor.low <= 1.3 <= factor.high
    assert factor.low > 1
    assert [rank for rank, _speed in found.model.rank_speeds] == [ranks - 1]
    for name, true in (("a", TRUE.per_token_s), ("b", TRUE.per_request_s)):
        assert found.coefficients[name].low <= true <= found.coefficients[name].high, name


@pytest.mark.parametrize("seed", range(4))
def test_no_rank_of_equal_ones_is_called_slow(seed):
    found = calibrate(trace_of(*made_loads(np.random.default_rng(seed), 1000), seed=seed, noise=0.05))
    assert found.model.rank_speeds == ()
    assert not [warning for warning in found.warnings if "slow" in warning]


def test_one_rank_that_is_always_the_straggler_tells_no_coefficients():
    tokens, running = made_loads(np.random.default_rng(0), 800)
    tokens[:, -1] *= 4
    running[:, -1] *= 4
    with pytest.raises(
        InputError, match="rank 7 is the straggler in 800 of 800 steps: step times alone cannot tell a slow rank"
    ):
        calibrate(trace_of(tokens, running, seed=0))

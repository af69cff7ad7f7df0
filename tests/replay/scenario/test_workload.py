"""What a replay takes from a trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.errors import UsageError


@given(
    times=st.lists(st.floats(0, 1e6), min_size=1, max_size=20).map(sorted), scale=st.sampled_from([0.25, 0.5, 1, 2, 8])
)
def test_a_rate_scale_divides_the_gaps_and_keeps_the_first_arrival(workload_of, times, scale):
    workload = workload_of([1] * len(times), [1] * len(times), arrivals=times)
    scaled = workload.scaled_arrivals(scale)
    assert scaled[0] == times[0]
    np.testing.assert_allclose(np.diff(scaled) * scale, np.diff(times), rtol=1e-9, atol=1e-6)


def test_a_workload_without_arrivals_has_no_rate(workload_of):
    with pytest.raises(UsageError, match="it has no arrival times"):
        workload_of([1], [1]).scaled_arrivals(2.0)

"""Limits on latency, and the requests that meet them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from lbal.analyzers.errors import UsageError
from lbal.analyzers.requests.latency import RequestTimes
from lbal.analyzers.requests.slo import goodput, parse_slo
from lbal.analyzers.requests.token_gaps import TokenGaps

REQUESTS = pl.DataFrame(
    {
        "arrival_ms": [0.0, 0.0, 0.0, 0.0],
        "first_token_ms": [10.0, 20.0, 30.0, 40.0],
        "finish_ms": [50.0, 40.0, 30.0, 400.0],
        "output_tokens": [5, 3, 1, 2],
    }
)
GAPS = TokenGaps(np.array([10.0]), np.array([1]), np.array([25.0, 12.0, np.nan, 360.0]))


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("ttft=20", [True, True, False, False]),
        ("tpot=9.9", [False, False, True, False]),
        ("tpot=10", [True, True, True, False]),
        ("itl=20", [False, True, True, False]),
        ("e2e=45", [False, True, True, False]),
        ("ttft=25,e2e=45", [False, True, False, False]),
    ],
)
def test_a_request_counts_where_it_meets_every_limit(text, met):
    times = RequestTimes(REQUESTS, GAPS)
    slo = parse_slo(text)
    assert slo.met(times).tolist() == met
    found = goodput(slo, times, duration_ms=500.0)
    assert found == {"goodput_fraction": sum(met) / 4, "goodput_requests_per_second": sum(met) * 2.0}


def test_without_a_time_that_a_limit_is_on_there_is_no_goodput():
    assert goodput(parse_slo("itl=20"), RequestTimes(REQUESTS), 500.0) == {}
    assert goodput(parse_slo("ttft=20"), RequestTimes(REQUESTS, has_first_token=False), 500.0) == {}
    assert goodput(parse_slo("e2e=20"), RequestTimes(REQUESTS.clear()), 500.0) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not known, expected NAME=MS"),
        ("latency=5", "'latency=5' is not known, expected NAME=MS,… with ttft, tpot, itl or e2e"),
        ("tpot=5,tpot=6", "tpot stands twice"),
        ("tpot=0", "tpot: '0' does not fit, expected ms above 0"),
        ("tpot=nan", "tpot: 'nan' does not fit"),
        ("tpot=fast", "tpot: 'fast' does not fit"),
    ],
)
def test_a_wrong_limit_is_told(text, message):
    with pytest.raises(UsageError, match=message.replace("…", ".")):
        parse_slo(text)

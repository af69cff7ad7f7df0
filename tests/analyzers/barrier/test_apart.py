"""How far ranks are apart over the steps: thinned without a loss of what is even and what is not."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_examples import MODEL, steps_of

import lbal
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.apart import COLUMNS, Apart, ApartFold
from lbal.analyzers.barrier.thinned import MOST_BUCKETS
from lbal.analyzers.result.result import Result
from lbal.analyzers.trace.trace import StepArrays


def apart_of(tokens, running, lacks=None):
    steps = StepArrays(np.arange(len(tokens)), np.array(tokens, float), np.array(running, float))
    return folded([account(steps, MODEL, measured=False)], lacks)


def folded(parts, lacks=None):
    fold = ApartFold(sum(map(len, parts)))
    for part in parts:
        fold.add(part)
    return fold.apart(lacks)


def plain(loads, width):
    """The columns of one load, bucket by bucket."""
    found = {name: [] for name in COLUMNS}
    for first in range(0, len(loads), width):
        bucket = loads[first : first + width]
        found["largest"].append(np.mean([max(step) for step in bucket]))
        found["mean"].append(np.mean([np.mean(step) for step in bucket]))
        found["smallest"].append(np.mean([min(step) for step in bucket]))
        ratios = [max(step) / np.mean(step) for step in bucket if max(step) > 0]
        found["over_mean"].append(np.mean(ratios) if ratios else np.nan)
    return found


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 3 * MOST_BUCKETS), ranks=st.integers(2, 5), seed=st.integers(0, 99))
def test_each_bucket_is_the_mean_of_its_steps(count, ranks, seed):
    steps = steps_of(count, ranks, seed)
    accounts = account(steps, MODEL, measured=False)
    found = folded([accounts])
    assert len(found.first_step) <= MOST_BUCKETS
    assert found.first_step.tolist() == list(range(0, count, found.steps_per_bucket))
    assert found.last_step.tolist()[-1] == count - 1
    for load, values in (("kv_tokens", steps.kv_tokens), ("num_running", steps.num_running)):
        expected = plain(values, found.steps_per_bucket)
        for name in COLUMNS:
            tolerance = 1e-3 if name == "over_mean" else 1e-4 * values.max()
            assert getattr(found.loads[load], name) == pytest.approx(expected[name], abs=tolerance, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 3 * MOST_BUCKETS), cuts=st.lists(st.integers(0, 3 * MOST_BUCKETS), max_size=4))
def test_steps_in_blocks_give_the_same(count, cuts):
    steps = steps_of(count, 3)
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < count}), count]
    parts = [account(steps.part(slice(*pair)), MODEL, measured=False) for pair in pairwise(edges)]
    whole, found = (folded(each).as_dict() for each in ([account(steps, MODEL, measured=False)], parts))
    for load in ("kv_tokens", "num_running"):
        for name in COLUMNS:
            assert found[load][name] == pytest.approx(whole[load][name], rel=1e-4)
    assert {**found, "kv_tokens": 0, "num_running": 0} == {**whole, "kv_tokens": 0, "num_running": 0}


def test_steps_without_load_have_no_ratio_and_come_back_so():
    found = apart_of([[0, 0], [30, 10]], [[0, 0], [3, 1]])
    assert np.isnan(found.loads["kv_tokens"].over_mean[0])
    assert found.loads["kv_tokens"].over_mean[1] == 1.5
    again = Apart.from_dict(json.loads(json.dumps(found.as_dict()).replace("NaN", "null")))
    for load in ("kv_tokens", "num_running"):
        for name in COLUMNS:
            assert np.array_equal(getattr(again.loads[load], name), getattr(found.loads[load], name), equal_nan=True)


def test_a_load_that_is_not_known_is_left_out():
    assert set(apart_of([[3, 1]], [[3, 1]], "kv_tokens").loads) == {"num_running"}
    assert set(apart_of([[3, 1]], [[1, 1]], "num_running").loads) == {"kv_tokens"}


def trace_of(tmp_path, *steps, **header):
    path = tmp_path / "t.jsonl"
    lines = [{"lbal_trace": 1, **header}, *({"step": number, **step} for number, step in enumerate(steps))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lbal.read_trace(path)


@pytest.mark.parametrize(
    ("step", "charts"),
    [
        ({"num_running": [8, 2], "kv_tokens": [80, 20]}, ["apart-0", "span-num_running-0", "span-kv_tokens-0"]),
        ({"num_running": [8, 2]}, ["apart-0", "span-num_running-0"]),
        ({"num_running": [None, 8, 2], "kv_tokens": [None, 80, 20]}, ["apart-0", "span-num_running-0", "span-kv_tokens-0"]),
        ({"num_running": [8], "kv_tokens": [80]}, []),
    ],
    ids=["all known", "counts alone", "some of the ranks", "one rank"],
)  # fmt: skip
def test_the_page_draws_what_is_known(tmp_path, step, charts):
    result = lbal.analyze(trace_of(tmp_path, step, step))
    result.write(tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text()
    for name in ("apart-0", "span-num_running-0", "span-kv_tokens-0"):
        assert (f'id="{name}"' in page) == (name in charts)


def test_a_stored_result_draws_the_same_page(tmp_path):
    result = lbal.analyze(trace_of(tmp_path, {"num_running": [8, 2]}, {"num_running": [0, 0]}))
    record = json.loads(json.dumps(result.as_dict()))
    again = Result.from_dict(record)
    assert again.as_dict() == record
    for name, each in (("a", result), ("b", again)):
        each.write(tmp_path / f"{name}.html")
    assert (tmp_path / "a.html").read_text() == (tmp_path / "b.html").read_text()


def test_what_is_stored_must_have_one_length(tmp_path):
    record = lbal.analyze(trace_of(tmp_path, {"num_running": [8, 2]})).as_dict()
    record["runs"][0]["apart"]["num_running"]["mean"] = [1.0, 2.0]
    with pytest.raises(lbal.InputError, match=r"apart\.num_running: its lists differ in length"):
        Result.from_dict(record)

"""A verdict in a window says how much of the run it is of."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import lbal
from lbal.analyzers.trace.trace import Trace, TraceMeta


@pytest.fixture(scope="module")
def long_drain() -> Trace:
    """64 short requests, and one of 4,000 steps that enters with the first of them: all else is soon admitted."""
    rng = np.random.default_rng(5)
    outputs = np.append(4_000, rng.integers(5, 15, 63))
    requests = pl.DataFrame(
        {
            "request_id": np.arange(64),
            "arrival_ms": np.zeros(64),
            "prompt_tokens": rng.integers(50, 2_000, 64),
            "output_tokens": outputs,
        }
    )
    return Trace.of(TraceMeta("made.jsonl", "native"), requests, None)


def replayed(trace: Trace, window: str, *policies: str) -> dict:
    return lbal.replay(trace, policies=policies, dp_size=2, max_num_seqs=8, window=window, arrivals="backlog").as_dict()


def test_a_short_window_is_too_short_for_a_verdict(long_drain):
    record = replayed(long_drain, "admissions", "fcfs", "jsq")
    for run in record["runs"]:
        told = run["window"]
        assert 0 < told["steps"] < told["of_steps"]
        assert told["time_fraction"] < 0.1
    assert record["headline"].endswith("too short for a verdict on the run.")
    assert " This is of the window alone: " in record["headline"]
    (sentence,) = [text for text in record["headroom"]["findings"] if text.startswith("No policy can serve")]
    assert " s in the whole run, " in sentence


def test_a_long_window_tells_its_share_only(long_drain):
    even = Trace.of(long_drain.meta, long_drain.requests.filter(pl.col("output_tokens") < 100), None)
    headline = replayed(even, "admissions", "fcfs")["headline"]
    assert " of the run's time." in headline
    assert "too short" not in headline


def test_the_window_of_all_steps_says_nothing_of_a_window(long_drain):
    record = replayed(long_drain, "all", "fcfs", "jsq")
    assert "window" not in record["headline"]
    assert "window" not in record["runs"][0]
    assert not any("s in the whole run, " in text for text in record["headroom"]["findings"])


def test_the_note_that_names_the_window_warns_of_what_is_left(long_drain):
    # 350 requests of 10 steps, then one of 900: it enters last and drains alone, where first it would have run beside them.
    outputs = np.append(np.full(350, 10), 900)
    requests = pl.DataFrame(
        {"request_id": np.arange(351), "prompt_tokens": np.full(351, 100), "output_tokens": outputs}
    )
    trace = Trace.of(long_drain.meta, requests, None)
    (note,) = [note for note in replayed(trace, "all", "fcfs")["notes"] if "--window admissions" in note]
    assert note.endswith("leaves the drain out, and says how little of the run is left")


def test_repeats_tell_the_share_too(long_drain):
    record = lbal.replay(
        long_drain, policies=["fcfs", "random"], dp_size=2, max_num_seqs=8, window="admissions",
        arrivals="backlog", repeat=2, jobs=1,
    ).as_dict()  # fmt: skip
    assert " of the run's time under " in record["headline"]

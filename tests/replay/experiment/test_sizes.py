"""Replays of requests without a size assume the cluster that an analysis of them assumes, and say so."""

from __future__ import annotations

import shlex

import pytest

from lbal.analyzers.trace.formats import read_trace
from lbal.replay.experiment.analyzing import analyze
from lbal.replay.experiment.replaying import replay


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "t.jsonl"
    rows = [
        f'{{"request_id": {i}, "arrival_ms": {i * 9}, "prompt_tokens": 50, "output_tokens": 12}}' for i in range(40)
    ]
    path.write_text("\n".join(['{"lbal_trace": 1}', *rows]) + "\n")
    return read_trace(str(path))


def size_notes(result) -> list[str]:
    return [note for note in result.notes if "does not tell the size" in note]


def test_a_replay_assumes_what_the_analysis_assumes(trace):
    analysed, replayed = analyze(trace), replay(trace, policies=["jsq"])
    words = shlex.split(analysed.workload["replay_command"])
    assert replayed.config["dp_size"] == int(words[words.index("--dp-size") + 1]) == 8
    assert replayed.config["max_num_seqs"] == int(words[words.index("--max-num-seqs") + 1]) == 64
    assert (
        size_notes(replayed)
        == size_notes(analysed)
        == ["the trace does not tell the size of the cluster: 8 x 64 slots are assumed"]
    )


@pytest.mark.parametrize(("sizes", "assumed"), [({"dp_size": 2}, "2 x 64"), ({"max_num_seqs": 4}, "8 x 4")])
def test_one_size_that_is_asked_for_stays(trace, sizes, assumed):
    (note,) = size_notes(replay(trace, policies=["jsq"], **sizes))
    assert f": {assumed} slots are assumed" in note


def test_sizes_that_are_asked_for_need_no_word(trace):
    assert size_notes(replay(trace, policies=["jsq"], dp_size=2, max_num_seqs=4)) == []

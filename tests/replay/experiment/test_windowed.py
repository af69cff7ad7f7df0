"""A replay in a window gathers its accounts once, however many figures are made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

import lbal
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL
from lbal.replay.experiment import windowed
from lbal.replay.experiment.options import ReplayOptions
from lbal.replay.experiment.replaying import replay_result
from lbal.replay.experiment.windowed import Windowed

SAMPLE = Path(__file__).resolve().parents[3] / "sample_traces" / "skewed_8_ranks.jsonl"


def test_accounts_are_joined_once_for_each_replay_and_slope(monkeypatch, tmp_path):
    joined = []
    join = windowed.join
    monkeypatch.setattr(windowed, "join", lambda parts: joined.append(parts) or join(parts))
    slopes = []
    of = Windowed.of.__func__

    def counted(cls, replayed, window):
        slopes.append(1 + len(replayed.also))
        return of(cls, replayed, window)

    monkeypatch.setattr(Windowed, "of", classmethod(counted))
    result = lbal.replay(lbal.read_trace(SAMPLE), policies=["recorded", "jsq", "jsq-kv"], bands=True)
    result.write(tmp_path / "x.html")
    assert len(slopes) == 3
    assert sum(slopes) > 3
    assert len(joined) == sum(slopes)


@pytest.mark.parametrize("window", ["all", "admissions", "steady"])
def test_analysing_the_trace_of_a_replay_gives_its_figures(window, tmp_path):
    found = []
    models = ModelChoice(DEFAULT_STEP_MODEL)  # under which slots are all taken at a time: there is a steady window
    options = ReplayOptions(policies=["jsq"], window=window, models=models)
    result = replay_result(
        lbal.read_trace(SAMPLE), options, keep_steps=True, on_replay=lambda replayed: found.append(replayed)
    )
    lbal.write_native(found[0].trace, tmp_path / "jsq.jsonl")
    again = lbal.analyze(lbal.read_trace(tmp_path / "jsq.jsonl"), window=window)
    (replayed,), (analysed,) = result.runs, again.runs
    shared = replayed.metrics.keys() & analysed.metrics.keys()
    assert len(shared) > 25
    for name in sorted(shared):
        assert analysed.metrics[name].value == pytest.approx(replayed.metrics[name].value, rel=1e-9), name
    for name in ("unavoidable_idle_fraction", "avoidable_idle_fraction"):
        assert analysed.headroom[name].value == pytest.approx(replayed.headroom[name].value, rel=1e-9), name
    assert analysed.attribution == pytest.approx(replayed.attribution, abs=1e-12)

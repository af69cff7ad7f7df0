"""What is said of perfect balance agrees with the least time that no policy beats, and a recovery is told once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.wording.numbers import percent
from lbal.replay.experiment.replaying import replay

SAMPLES = Path(__file__).resolve().parents[3] / "sample_traces"


def findings(policies, **options) -> tuple[list[str], list]:
    trace = read_trace(str(SAMPLES / "requests_2000.jsonl"))
    result = replay(trace, policies=policies, dp_size=8, max_num_seqs=32, **options)
    return [*result.headroom["findings"], *result.energy.get("findings", [])], result.runs


@pytest.mark.parametrize("arrivals", ["trace", "backlog"])
def test_perfect_balance_makes_steps_shorter_and_the_run_no_shorter_than_its_bound(arrivals):
    said, (run,) = findings(["round-robin"], arrivals=arrivals)
    text = next(each for each in said if each.startswith("With perfect balance"))
    assert not re.search(r"run \S+ faster", text)
    steps = run.metrics["barrier_idle_fraction"].value
    assert f"would have been {steps * 100:.2f}% shorter" in text, "idle over all ranks is what a step could be shorter"
    most = 1 - run.headroom["makespan_bound_fraction"].value
    told = re.search(r"the whole run is at most (\S+)% shorter", text)
    assert bool(told) == (steps > most)
    if told:
        assert float(told[1]) == pytest.approx(most * 100, abs=0.01)


@pytest.mark.parametrize("repeat", [1, 3])
def test_one_policy_has_one_recovery_and_it_is_that_of_the_table(repeat):
    said, runs = findings(["jsq", "bf-io"], repeat=repeat, jobs=1)
    told = [share for text in said for share in re.findall(r"recovers (\S+)%", text)]
    assert [f"{share}%" for share in told] == [
        percent(max(run.headroom["recovered_idle_fraction"].value for run in runs))
    ]

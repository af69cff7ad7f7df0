"""Figures that print alike are told as alike: no policy is called the best for what nobody can see."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbal.analyzers.metrics import measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.findings import headroom_sentence, replay_headroom
from lbal.analyzers.wording.numbers import percent
from lbal.analyzers.wording.verdict import leaders, replay_headline


def run_of(label: str, idle: float, rate: float = 100.0, longer: float = 0.1, **others: float) -> Run:
    figures = {"barrier_idle_fraction": idle, "tokens_per_second": rate, **others}
    headroom = {
        "unavoidable_idle_fraction": 0.01,
        "makespan_bound_s": 10.0,
        "makespan_bound_fraction": 1 / (1 + longer),
    }
    return Run(
        label=label,
        policy=label,
        metrics={key: measure(key, value, "modelled") for key, value in figures.items()},
        headroom={key: measure(key, value, "modelled") for key, value in headroom.items()},
    )


def test_policies_that_all_idle_alike_have_no_best():
    runs = [run_of("a", 0.5), run_of("b", 0.50004)]
    assert replay_headline(runs, runs[0]) == "a and b lose alike: 50.0% of rank-time is barrier idle (modelled)."


def test_the_reference_among_those_with_the_least_idle_is_no_better_than_they():
    runs = [run_of("a", 0.200001), run_of("b", 0.2), run_of("c", 0.3)]
    assert replay_headline(runs, runs[0]) == (
        "a and b lose alike, and least of 3 policies: 20.0% of rank-time is barrier idle, next is c with 30.0% (modelled)."
    )


def test_second_places_that_are_alike_are_both_named():
    runs = [run_of("a", 0.1), run_of("b", 0.2), run_of("c", 0.2)]
    assert "next are b and c with 20.0%" in replay_headline(runs, runs[0])


def test_several_that_beat_the_reference_alike_are_all_named_with_their_throughput():
    runs = [run_of("a", 0.3), run_of("b", 0.2, 110.0), run_of("c", 0.2, 120.0)]
    assert replay_headline(runs, runs[0]) == (
        "b and c lose alike, and least of 3 policies: 20.0% of rank-time is barrier idle against 30.0% under a, "
        "with +10.0% and +20.0% throughput (modelled)."
    )


def test_throughput_that_prints_as_no_change_is_the_same():
    runs = [run_of("a", 0.3), run_of("b", 0.2, 100.0001)]
    assert "with the same throughput (modelled)" in replay_headline(runs, runs[0])


def test_what_is_worse_among_those_alike_is_told_with_its_policy():
    runs = [run_of("a", 0.2, queue_wait_ms_max=500.0), run_of("b", 0.2, queue_wait_ms_max=100.0)]
    assert ", but queue wait max of 500.0 ms under a against 100.0 ms under b (" in replay_headline(runs, runs[0])


def test_the_fastest_are_all_named_and_nobody_is_the_fastest_where_all_are():
    runs = [run_of("a", 0.2, longer=0.2), run_of("b", 0.2, longer=0.100001), run_of("c", 0.2)]
    assert "; b and c, the fastest here, take 11.00 s, 10.0% more" in replay_headroom(runs, runs[0])[-1]
    assert "; b and c take 11.00 s, 10.0% more" in replay_headroom(runs[1:], runs[1])[-1]
    assert "the fastest" not in replay_headroom(runs[1:], runs[1])[-1]


def test_those_that_recover_alike_are_all_named():
    sentence = headroom_sentence("a", 0.5, 0.1, {"b": 0.3, "c": 0.300001, "d": 0.4})
    assert sentence == (
        "Of 50.0% idle under a, at least 10.0% was unavoidable; b and c recover 50.0% of the rest (modelled)."
    )


@given(st.lists(st.floats(0.0, 0.9), min_size=2, max_size=6))
def test_no_headline_calls_one_policy_best_beside_another_of_the_same_idle(idle):
    runs = [run_of(f"p{place}", share) for place, share in enumerate(idle)]
    headline = replay_headline(runs, runs[0])
    least = percent(min(idle))
    best = [run.label for run in runs if percent(run.metrics["barrier_idle_fraction"].value) == least]
    assert [run.label for run in leaders(runs)] == best
    assert headline.startswith(best[0] if len(best) == 1 else f"{best[0]}, " if len(best) > 2 else f"{best[0]} and ")
    assert ("loses least" in headline) == (len(best) == 1)
    assert headline.count(f" {least} ") <= 1


@pytest.mark.parametrize("several", [2, 3])
def test_what_several_have_in_common_is_no_difference_of_one(several):
    runs = [run_of(f"p{place}", 0.2) for place in range(several)]
    assert "against" not in replay_headline(runs, runs[0])

"""What is advised of made-up figures: a sure gain, bands that cross, ties, and a default that is best."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.replay.advice.judging import Change, Judged, best_of, headline


def setting(name, nominal, low=None, high=None, **beside):
    ends = (nominal if low is None else low), (nominal if high is None else high)
    changes = {"tokens_per_second": Change(nominal, *ends)}
    return Judged(name, f"--{name}", changes | {key: Change(value) for key, value in beside.items()})


def test_the_largest_sure_gain_is_advised_with_what_it_costs():
    costs = {"ttft_ms_p99": 0.5, "tpot_ms_mean": -0.1, "queue_wait_ms_max": 0.0, "energy_joules_per_token": -0.021}
    judged = [setting("a", 0.01, 0.005, 0.02), setting("b", 0.04, 0.03, 0.06, **costs)]
    assert [each.name for each in best_of(judged)] == ["b"]
    assert headline(judged, "vLLM") == (
        "--b: +4.0% throughput (+3.0% to +6.0% over the bands) against the default of vLLM; TTFT p99 +50.0%, "
        "TPOT mean -10.0%, queue wait max +0.0% and energy per token -2.1% (modelled)."
    )


def test_a_smaller_gain_that_is_sure_goes_before_a_larger_one_that_is_not():
    judged = [setting("sure", 0.01, 0.005, 0.02), setting("crossing", 0.09, -0.01, 0.2)]
    assert [each.verdict for each in judged] == ["sure gain", "unsure"]
    assert headline(judged, "SGLang").startswith("--sure: +1.0% throughput")


def test_where_bands_cross_no_setting_is_sure_to_help():
    judged = [setting("a", 0.004, -0.003, 0.01), setting("b", -0.02, -0.03, -0.01)]
    assert best_of(judged) == []
    assert headline(judged, "vLLM") == (
        "No setting is sure to help vLLM: the most has --a, +0.4% throughput (-0.3% to +1.0% over the bands) (modelled)."
    )


def test_where_all_are_worse_the_default_is_said_to_be_best():
    judged = [setting("a", -0.04, -0.05, -0.03), setting("b", -0.01, -0.02, -0.005)]
    assert [each.verdict for each in judged] == ["sure loss", "sure loss"]
    assert headline(judged, "vLLM") == (
        "No setting is sure to help vLLM: the default has the highest throughput, next is --b, "
        "-1.0% throughput (-2.0% to -0.5% over the bands) (modelled)."
    )


def test_gains_that_print_alike_are_told_together():
    judged = [setting("a", 0.0401, 0.03, 0.05), setting("b", 0.0399, 0.03, 0.05), setting("c", 0.02, 0.01, 0.03)]
    assert [each.name for each in best_of(judged)] == ["a", "b"]
    assert headline(judged, "vLLM").endswith(" --b gains as much.")
    assert headline([*judged, setting("d", 0.04, 0.02, 0.05)], "vLLM").endswith(" --b and --d gain as much.")


def test_settings_that_change_nothing_are_alike():
    judged = [setting("a", 0.0001, -0.0002, 0.0004), setting("b", 0.0)]
    assert [each.verdict for each in judged] == ["alike", "alike"]
    assert headline(judged, "vLLM") == (
        "No setting is sure to help vLLM: all of them have the throughput of the default (modelled)."
    )


def test_a_gain_that_prints_as_none_at_an_end_of_the_bands_is_not_sure():
    assert setting("a", 0.01, 0.0004, 0.02).verdict == "unsure"
    assert setting("a", -0.01, -0.02, -0.0004).verdict == "unsure"


shares = st.floats(-0.5, 0.5)


@settings(deadline=None)
@given(st.lists(st.tuples(shares, shares, shares).map(sorted), min_size=1, max_size=6))
def test_a_setting_is_advised_exactly_where_one_gains_over_all_of_the_bands(found):
    judged = [setting(f"s{index}", nominal, low, high) for index, (low, nominal, high) in enumerate(found)]
    surely = [each for each, (low, _nominal, _high) in zip(judged, found, strict=True) if low >= 0.0005]
    text = headline(judged, "vLLM")
    assert text.startswith("No setting is sure to help") == (not surely)
    assert not surely or best_of(judged)[0].gain == pytest.approx(max(each.gain for each in surely), abs=1.001e-3)

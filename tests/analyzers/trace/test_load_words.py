"""Sentences on loads: counts beside KV use, requests that wait beside room, and one rank alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.reading.load_words import load_words


def words(*, slots: int | None = None, **columns: list[float]) -> str:
    return "; ".join(load_words({name: np.array([row], float) for name, row in columns.items()}, slots=slots))


def test_ranks_full_of_kv_with_free_slots_are_named_as_such() -> None:
    said = words(num_running=[51, 31], kv_fraction=[1.0, 0.986], num_waiting=[117, 108], slots=64)
    assert "differ (1.244 times the mean" in said
    assert "KV use does not (1.007)" in said
    assert "all 2 ranks are full of KV while 13, 33 of 64 slots are free" in said
    assert "225 requests wait" in said


def test_requests_that_wait_beside_room_are_told() -> None:
    said = words(num_running=[64, 20], kv_fraction=[0.97, 0.3], num_waiting=[9, 0], slots=64)
    assert "on rank 0, while rank 1 could take more" in said
    assert "could take more" not in words(num_running=[64, 64], kv_fraction=[0.97, 0.3], num_waiting=[9, 0], slots=64)


@pytest.mark.parametrize("running", [[5], [5, np.nan]])
def test_one_rank_has_nothing_to_compare(running: list[float]) -> None:
    assert "nothing to compare" in words(num_running=running)


def test_even_ranks_and_unknown_loads_say_nothing() -> None:
    assert words(num_running=[5, 5], kv_fraction=[0.5, 0.5], num_waiting=[0, 0]) == ""
    assert words(num_running=[0, 0], kv_fraction=[0, 0]) == ""


def test_the_excerpt_of_full_ranks_from_the_field_says_so(shared: Path) -> None:
    trace = read_trace(shared / "field/l01_vllm_periodic_dp8_waiting.log")
    assert any("all 2 ranks are full of KV" in text for text in trace.meta.warnings)

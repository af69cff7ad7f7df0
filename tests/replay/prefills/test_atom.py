"""ATOM's rule by hand: a rank prefills or decodes, and waits to fill a step. `5+2`: 5 prompt tokens, 2 decodes."""

from __future__ import annotations

from prefill_steps import steps_of

PAIR = [(0, 0, 3, 14), (0, 1, 3, 14)]
"""A request on either rank, which decodes meanwhile."""


def test_prompts_wait_until_their_tokens_fill_the_budgets_of_all_ranks():
    requests = [*PAIR, (2, 0, 5, 2), (3, 1, 5, 2), (5, 1, 4, 2)]
    assert steps_of("atom:budget=10,stall=9", requests, ranks=2)[:7] == [
        "3+0 3+0",
        "0+1 0+1",
        "0+1 0+1",  # only the first rank could
        "0+1 0+1",  # 10 tokens of 20
        "0+1 0+1",
        "5+0 9+0",  # 14 of 20 are 0.7
        "0+2 0+3",
    ]


def test_they_do_not_wait_where_no_more_come():
    requests = [*PAIR, (2, 0, 5, 2), (3, 1, 5, 2)]
    assert steps_of("atom:budget=10,stall=2", requests, ranks=2)[2:6] == [
        "0+1 0+1",
        "0+1 0+1",  # 10 tokens
        "0+1 0+1",  # no more: once
        "5+0 5+0",  # twice
    ]


def test_a_prompt_is_held_back_for_a_bounded_number_of_steps():
    assert steps_of("atom:budget=10,ttft=5", [*PAIR, (2, 0, 5, 2)], ranks=2)[2:8] == [*["0+1 0+1"] * 5, "5+0 0+1"]


def test_the_rest_of_a_prompt_is_held_back_for_less():
    requests = [*PAIR, (2, 0, 5, 2)]
    steps = steps_of("atom:budget=4,ttft=5,partial=2", requests, ranks=2)
    assert steps[2:11] == [*["0+1 0+1"] * 5, "4+0 0+1", *["0+1 0+1"] * 2, "1+0 0+1"]


def test_a_full_kv_space_ends_the_wait():
    requests = [*PAIR, (2, 0, 5, 2)]
    assert steps_of("atom:budget=10", requests, ranks=2, capacity=26)[2] == "0+1 0+1"
    assert steps_of("atom:budget=10,kv_high=0.5,kv=reserve", requests, ranks=2, capacity=26)[2] == "5+0 0+1"


def test_one_rank_waits_for_nobody():
    assert steps_of("atom:budget=10", [(0, 0, 3, 9), (2, 0, 5, 2)])[2] == "5+0"


def test_an_interval_lets_all_ranks_decode_after_any_prefill():
    requests = [(0, 0, 3, 9), (1, 0, 5, 2)]
    assert steps_of("atom:budget=10,coalesce=false,interval=2", requests, ranks=2)[:5] == [
        "3+0 0+0",
        "0+1 0+0",
        "0+1 0+0",
        "5+0 0+0",
        "0+2 0+0",
    ]

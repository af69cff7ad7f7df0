"""TensorRT-LLM's rule by hand: whole prompts beside decodes. `5+2` is a rank with 5 prompt tokens, 2 decodes."""

from __future__ import annotations

from prefill_steps import steps_of

PAIR = [(0, 0, 3, 12), (0, 1, 3, 12)]
"""A request on either rank, which decodes meanwhile."""


def test_a_prompt_that_does_not_fit_beside_the_others_waits_as_a_whole():
    assert steps_of("trtllm:max_tokens=8", [(0, 0, 5, 3), (0, 0, 5, 2), (0, 0, 3, 1)]) == ["5+0", "5+1", "3+2"]


def test_with_chunked_prefill_it_is_cut():
    assert steps_of("trtllm:max_tokens=8,chunked=true", [(0, 0, 5, 3), (0, 0, 5, 2)]) == ["8+0", "2+1", "0+2"]


def test_without_balancing_ranks_do_not_wait_for_one_another():
    assert steps_of("trtllm:max_tokens=8", [*PAIR, (2, 0, 5, 2)], ranks=2)[2] == "5+1 0+1"


def test_balancing_waits_for_a_prompt_on_every_rank_and_then_for_more():
    requests = [*PAIR, (2, 0, 5, 2), (4, 1, 5, 2)]
    assert steps_of("trtllm:max_tokens=8,balance=true,timeout=9,batch=2", requests, ranks=2)[2:8] == [
        "0+1 0+1",  # only the first rank has one
        "0+1 0+1",
        "0+1 0+1",  # both have: two steps more, to batch
        "0+1 0+1",
        "5+1 5+1",
        "0+2 0+2",
    ]


def test_balancing_gives_up_when_some_rank_was_waited_for_long_enough():
    """The engine counts the steps in which not all ranks have a prompt, whether or not any has: from step 1 on."""
    steps = steps_of("trtllm:max_tokens=8,balance=true,timeout=4,batch=2", [*PAIR, (2, 0, 5, 2)], ranks=2)
    assert steps[2:5] == ["0+1 0+1", "0+1 0+1", "5+1 0+1"]


def test_balancing_does_not_wait_where_a_rank_with_prompts_decodes_nothing():
    assert steps_of("trtllm:max_tokens=8,balance=true", [(0, 0, 3, 12), (2, 1, 5, 2)], ranks=2)[2] == "0+1 5+0"

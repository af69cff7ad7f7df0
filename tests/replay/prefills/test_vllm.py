"""vLLM's rule by hand: decodes and prompts share the tokens of a step. `5+2` is a rank with 5 prompt tokens, 2 decodes."""

from __future__ import annotations

from prefill_steps import steps_of


def test_a_prompt_that_does_not_fit_goes_on_beside_the_decodes():
    assert steps_of("vllm:budget=8", [(0, 0, 5, 3), (0, 0, 7, 2)]) == [
        "8+0",  # 5 of the first, 3 of the second
        "4+1",  # the first has its first token and decodes; the rest of the second
        "0+2",  # the third token of the first, the second of the second
    ]


def test_a_prompt_waits_for_a_slot():
    assert steps_of("vllm:budget=8", [(0, 0, 3, 2)] * 3, slots=2) == ["6+0", "0+2", "3+0", "0+1"]


def test_an_interval_holds_prompts_of_all_ranks_back_until_a_step_that_it_divides():
    assert steps_of("vllm:budget=8,interval=3", [(0, 0, 3, 6), (1, 1, 4, 2)], ranks=2) == [
        "3+0 0+0",
        "0+1 0+0",
        "0+1 0+0",  # the prompt of the other rank has waited since the step before
        "0+1 4+0",
        "0+1 0+1",
        "0+1 0+0",
    ]


def test_what_an_interval_let_begin_and_the_budget_cut_goes_on_in_the_next_step():
    assert steps_of("vllm:budget=8,interval=3", [(0, 0, 3, 9), (1, 0, 4, 2), (1, 0, 12, 1)])[2:6] == [
        "0+1",
        "7+1",  # 4 of the second, 3 of the third
        "6+2",  # the third was left behind for want of tokens
        "3+1",
    ]


def test_an_interval_holds_nothing_back_where_nobody_decodes():
    assert steps_of("vllm:budget=8,interval=5", [(0, 0, 3, 2), (1, 0, 4, 1)]) == ["3+0", "0+1", "4+0"]


def test_a_prompt_of_one_output_token_never_decodes():
    assert steps_of("vllm:budget=4", [(0, 0, 6, 1)], slots=4) == ["4+0", "2+0"]

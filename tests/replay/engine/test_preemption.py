"""KV tokens that are taken as they come, by hand: who is preempted, what is computed again. `5+2`: 5 prompt tokens, 2 decodes."""

from __future__ import annotations

import pytest
from prefill_steps import served, steps_of

from lbal.replay.experiment.windowed import Windowed

PAIR = [(0, 0, 4, 6), (0, 0, 4, 6)]
"""Two requests whose loads are 10 at their largest: 20 for both, and 8 when they begin."""


@pytest.mark.parametrize("binding", ["immediate", "pool"])
def test_who_was_begun_last_is_preempted_and_computes_its_prompt_and_its_tokens_again(binding):
    where = {"capacity": 13, "binding": binding}
    assert steps_of("vllm:budget=16", PAIR, **where) == [
        "8+0",
        "0+2",  # 5 + 5 tokens
        "0+2",  # 6 + 6
        "0+1",  # 7 + 7 are more than 13: the second waits with 3 tokens given
        "0+1",
        "0+1",  # 9 of the first; 7 more are not free until it has ended
        "7+0",  # 4 + 3: gives the fourth token
        "0+1",  # 8 tokens
        "0+1",
    ]
    found = served("vllm:budget=16", PAIR, **where)
    assert found.preempted == (1, 7)
    requests = found.trace.requests
    assert requests["first_token_ms"].to_list() == [10.0, 10.0], "what was given is not taken back"
    assert requests["finish_ms"].to_list() == [60.0, 90.0]
    assert requests["admitted_ms"].to_list() == [0.0, 0.0]


def test_with_room_for_all_nobody_is_preempted():
    assert served("vllm:budget=16", PAIR, capacity=20).preempted == (0, 0)


def test_reservation_lets_the_second_wait_instead():
    steps = steps_of("vllm:budget=16,kv=reserve", PAIR, capacity=13)
    assert steps == ["4+0", *["0+1"] * 5, "4+0", *["0+1"] * 5]
    assert served("vllm:budget=16,kv=reserve", PAIR, capacity=13).preempted == (0, 0)


def test_a_watermark_keeps_room_for_tokens_to_come():
    """8 of 16 tokens may be filled by an admission: the second does not fit beside the first one's prompt and tokens."""
    assert steps_of("vllm:budget=16,watermark=0.3", PAIR, capacity=15)[:3] == ["8+0", "0+2", "0+2"]
    assert steps_of("vllm:budget=16,watermark=0.3", [(0, 0, 4, 6), (1, 0, 6, 2)], capacity=15)[1] == "0+1"
    assert steps_of("vllm:budget=16,watermark=0", [(0, 0, 4, 6), (1, 0, 6, 2)], capacity=15)[1] == "6+1"


def test_sglang_retracts_who_has_given_fewest_tokens():
    """The third, of which most is resident, has given fewest when the three do not fit; vLLM takes it as the last begun."""
    early_last = [(0, 0, 2, 9), (2, 0, 6, 5), (2, 0, 1, 5)]
    sglang = served("sglang:chunk=8", early_last, capacity=14)
    vllm = served("vllm:budget=8", early_last, capacity=14)
    assert sglang.preempted.preemptions >= 1
    assert vllm.preempted.preemptions >= 1
    ends = [found.trace.requests["finish_ms"].to_list() for found in (sglang, vllm)]
    assert ends[0][0] <= ends[0][1], "the first has given most and is never retracted"
    assert ends[1][1] <= ends[1][2], "the last begun waits for the others"


@pytest.mark.parametrize("rule", ["vllm:budget=16", "sglang:chunk=16", "trtllm:max_tokens=16", "atom:budget=16"])
@pytest.mark.parametrize("window", ["all", "admissions"])
def test_throughput_counts_the_tokens_that_prompts_give(rule, window):
    """Every token counts once, whether a decode or the end of a prompt gives it, and also after a preemption."""
    found = Windowed.of(served(rule, [*PAIR, (3, 0, 5, 4), (9, 0, 3, 2)], capacity=13), window)
    ends = found.replayed.trace.requests
    if window == "all":
        assert found.totals.tokens == ends["output_tokens"].sum() == 18
    else:
        assert 0 < found.totals.tokens < 18

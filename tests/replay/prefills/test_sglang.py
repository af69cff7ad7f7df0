"""SGLang's rule by hand: a rank prefills or decodes. `5+2` is a rank with 5 prompt tokens, 2 decodes."""

from __future__ import annotations

from prefill_steps import steps_of

from lbal.replay.prefill.rule import parse_prefill


def test_decodes_stall_while_their_rank_extends_and_those_of_other_ranks_go_on():
    assert steps_of("sglang:chunk=8", [(0, 0, 3, 4), (0, 1, 2, 6), (2, 0, 6, 2)], ranks=2) == [
        "3+0 2+0",
        "0+1 0+1",
        "4+0 0+1",  # a chunk of 8 on 2 ranks is 4 for each
        "2+0 0+1",
        "0+2 0+1",  # the first goes on where it stalled
        "0+1 0+1",
    ]


def test_mixed_chunks_take_the_decodes_out_of_the_chunk():
    assert steps_of("sglang:chunk=8,mixed=true", [(0, 0, 3, 4), (2, 0, 12, 2)]) == ["3+0", "0+1", "7+1", "5+1", "0+1"]


def test_rounds_of_decoding_follow_a_step_with_prefill_of_any_rank():
    requests = [(0, 0, 3, 9), (0, 1, 2, 9), (1, 0, 16, 2)]
    assert steps_of("sglang:chunk=16,interval=2", requests, ranks=2)[:8] == [
        "3+0 2+0",
        "0+1 0+1",
        "0+1 0+1",
        "8+0 0+1",
        "0+1 0+1",
        "0+1 0+1",
        "8+0 0+1",
        "0+2 0+1",
    ]


def test_the_delayer_waits_until_all_ranks_could_prefill():
    requests = [(0, 0, 3, 9), (0, 1, 2, 9), (2, 0, 4, 2), (4, 1, 4, 2)]
    assert steps_of("sglang:chunk=16,delayer=true", requests, ranks=2)[:6] == [
        "3+0 2+0",
        "0+1 0+1",
        "0+1 0+1",  # only the first rank could
        "0+1 0+1",
        "4+0 4+0",
        "0+2 0+2",
    ]


def test_the_delayer_gives_up_in_the_pass_that_bounds_it():
    requests = [(0, 0, 3, 9), (0, 1, 2, 9), (2, 0, 4, 2)]
    assert steps_of("sglang:chunk=16,delayer=true,max_delay=4", requests, ranks=2)[2:6] == [
        "0+1 0+1",
        "0+1 0+1",
        "0+1 0+1",
        "4+0 0+1",
    ]


def test_a_rank_that_could_prefill_and_uses_little_of_its_kv_space_ends_the_wait():
    requests = [(0, 0, 3, 9), (0, 1, 2, 9), (2, 0, 4, 2)]
    where = {"ranks": 2, "capacity": 100}
    assert steps_of("sglang:chunk=16,delayer=true,watermark=0.5", requests, **where)[2] == "4+0 0+1"
    assert steps_of("sglang:chunk=16,delayer=true,watermark=0.01", requests, **where)[2] == "0+1 0+1"


def test_where_all_could_the_delayer_waits_for_slots_but_not_the_first_time():
    """Two slots, and a batch of two prompts so far: with one slot free the next prompts wait, once it has let them pass."""
    requests = [(0, 0, 1, 3), (0, 0, 1, 9), (1, 0, 1, 2), (1, 0, 1, 2)]
    assert steps_of("sglang:chunk=8,delayer=true,max_delay=9", requests, slots=2) == [
        "2+0",
        "0+2",
        "0+2",  # the first ends
        "1+0",  # the first time: let pass although one slot is free
        "0+2",
        "0+1",  # the second time: held back
        "0+1",
        "0+1",
        "0+1",
        "0+1",
        "1+0",
        "0+1",
    ]


def test_the_chunk_is_that_of_the_gpu_divided_by_the_ranks():
    budgets = {gpu: parse_prefill(f"sglang:gpu={gpu}").rank_budget(8) for gpu in ("h100", "b200", "small")}
    assert budgets == {"h100": 1024, "b200": 2048, "small": 512}

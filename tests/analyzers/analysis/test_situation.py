"""The headline names what its reader can act on, from figures that stand in the sentence; each case by its steps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lbal
from lbal.analyzers.analysis.look import Idle, Look, MixedSteps, Ratio, Server
from lbal.analyzers.analysis.prefill_share import prefill_on_some_ranks
from lbal.analyzers.analysis.situation import SITUATIONS, situations
from lbal.analyzers.trace.trace import StepArrays

MODEL = "C=0.01,a=1e-7,b=1e-4,b_mean=0"


def look_of(running, kv_tokens=None, *, step_ms=None, waiting=None, kv_share=None, prefill=None, **others):
    """A look at one step (a list of ranks) or at several (a list of lists)."""
    running = np.atleast_2d(np.array(running, float))
    tokens = 1000 * running if kv_tokens is None else np.atleast_2d(np.array(kv_tokens, float))
    columns = {"num_waiting": waiting, "kv_fraction": kv_share, "prefill_tokens": prefill}
    arrays = {name: np.atleast_2d(np.array(each, float)) for name, each in columns.items() if each is not None}
    if step_ms is not None:
        arrays["step_ms"] = np.array(step_ms, float)
    steps = StepArrays(np.arange(len(running)), tokens, running, **arrays)
    idle = Idle(others.pop("idle", 0.0), others.pop("causes", {}))
    return Look.at([steps], Server(range(running.shape[1]), **others), idle, MixedSteps.at([steps]))


def headline_of(tmp_path, *steps, **header):
    path = tmp_path / "t.jsonl"
    lines = [{"lbal_trace": 1, **header}, *({"step": number, **step} for number, step in enumerate(steps))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lbal.analyze(lbal.read_trace(path), step_model=MODEL).headline


def test_both_ranks_full_of_kv_beside_free_slots_are_beyond_any_router():
    full = {"waiting": [117, 108], "kv_share": [1.0, 0.986], "slots": 64, "lacks": "kv_tokens"}
    look = look_of([51, 31], idle=0.06, causes={"count": 0.06}, **full)
    leading, beside = situations(look)
    assert leading == (
        "Both ranks are full of KV (100.0% and 98.6%) while 13 and 33 of 64 slots are free and 225 requests wait; numbers "
        "of requests differ (1.244 times the mean on the busiest rank), KV use does not: more KV space, or shorter "
        "requests, would help; other routing would not"
    )
    assert beside == []


@pytest.mark.parametrize(
    "change",
    [{"kv_share": [1.0, 0.90]}, {"kv_share": [1.0, np.nan]}, {"waiting": [0, 0], "slots": None}],
    ids=["one rank has room", "one rank is unknown", "nothing is held up"],
)
def test_ranks_are_full_only_if_all_are_known_to_be_and_hold_something_up(change):
    case = {"waiting": [117, 108], "kv_share": [1.0, 0.986], "slots": 64} | change
    leading, _beside = situations(look_of([51, 31], **case))
    assert "full of KV" not in (leading or "")


def test_many_full_ranks_are_told_by_their_mean():
    look = look_of([50] * 8, waiting=[2] * 8, kv_share=[0.99] * 7 + [0.97], slots=64)
    assert situations(look)[0].startswith(
        "All 8 ranks are full of KV (98.8% on average, 97.0% at least) while 112 of 512 slots are free and 16 requests wait"
    )


def test_requests_that_wait_beside_a_rank_with_room_are_for_the_router():
    look = look_of([64, 20, 64], waiting=[9, 0, 3], kv_share=[0.97, 0.3, 0.9], slots=64)
    assert situations(look)[0] == (
        "Requests wait on ranks 0 and 2 (12.0 on average) while rank 1 could take more, in 100.0% of steps: a router that "
        "sees free slots would place them"
    )
    for full in ({"kv_share": [0.97, 0.85, 0.9]}, {"slots": 20}):
        case = {"waiting": [9, 0, 3], "kv_share": [0.97, 0.3, 0.9], "slots": 64} | full
        running = np.minimum([64, 20, 64], case["slots"])
        assert "could take more" not in (situations(look_of(running, **case))[0] or "")


def test_without_slots_and_kv_only_an_empty_rank_has_room():
    assert "while rank 1 could take more" in situations(look_of([64, 0], waiting=[9, 0]))[0]
    assert situations(look_of([64, 20], waiting=[9, 0])) == (None, ["9 requests wait on average, on rank 0"])


@pytest.mark.parametrize(
    ("capacity", "why"),
    [(None, "the trace does not tell whether KV memory is full there"), (1000, "KV memory is 30.0% full there")],
)
def test_requests_that_wait_beside_a_free_slot_of_their_own_rank(tmp_path, capacity, why):
    step = {"kv_tokens": [300] * 8, "num_running": [15] * 8, "num_waiting": [1] * 8}
    said = headline_of(tmp_path, step, step, max_num_seqs=16, **({"kv_capacity": capacity} if capacity else {}))
    assert said.endswith(
        f"In 16 of 16 rank-steps a request waits beside a free slot of its rank ({why}); 93.8% of "
        "the slots are taken on average; with all slots taken throughput would be at most 6.67% higher."
    )


def test_what_is_rare_does_not_lead_but_is_told():
    running = np.full((50, 2), 15.0)
    waiting = np.zeros((50, 2))
    waiting[0] = 3
    leading, (note,) = situations(look_of(running, waiting=waiting, slots=16))
    assert leading is None
    assert note.startswith("in 2 of 100 rank-steps a request waits beside a free slot")


def test_one_rank_without_work(tmp_path):
    work = {"num_running": [8, 8, 8, 8], "kv_tokens": [8000] * 4}
    without = {"num_running": [16, 16, 0, 0], "kv_tokens": [16000, 16000, 0, 0]}
    said = headline_of(tmp_path, work, without, without, without)
    assert "most of it because of ranks without work" in said
    assert said.endswith(
        "Ranks 2 and 3 have no work in 75.0% of steps each while others do, and the busiest rank then runs 2.000 times the "
        "mean number of requests: routing has to look at running requests."
    )


def test_counts_differ(tmp_path):
    step = {"num_running": [30, 10], "kv_tokens": [30_000, 10_000]}
    assert headline_of(tmp_path, step, step).endswith(
        "Numbers of requests differ: the busiest rank runs 1.500 times the mean, 30.0 requests on average on rank 0 against "
        "10.0 on rank 1: routing has to look at running requests."
    )


@pytest.mark.parametrize(
    ("kv_share", "said"),
    [
        ([0.6, 0.2], "and the fullest uses 1.500 times the mean KV space, 30.0 requests on average on rank 0 against 10.0 on "
         "rank 1: routing has to look at running requests"),
        ([0.6, 0.6], "and the fullest uses 1.000 times the mean KV space, 30.0 requests on average on rank 0 against 10.0 on "
         "rank 1: routing evens out KV space alone, and has to look at running requests too"),
    ],
)  # fmt: skip
def test_counts_that_differ_beside_known_kv_use(kv_share, said):
    leading, _beside = situations(
        look_of([30, 10], kv_share=kv_share, lacks="kv_tokens", idle=0.1, causes={"count": 0.1})
    )
    assert leading == f"Numbers of requests differ: the busiest rank runs 1.500 times the mean {said}"


def test_lengths_differ(tmp_path):
    step = {"num_running": [10, 10], "kv_tokens": [60_000, 20_000]}
    assert headline_of(tmp_path, step, step).endswith(
        "Lengths of requests differ: the fullest rank holds 1.500 times the mean KV tokens, the busiest runs 1.000 times "
        "the mean number of requests, 60,000 tokens on average on rank 0 against 20,000 on rank 1: routing has to look at KV "
        "tokens, as requests are even."
    )


def test_a_slow_rank(tmp_path):
    draws = np.random.default_rng(0)
    steps = []
    for _ in range(60):
        tokens, running = draws.integers(9_000, 11_000, 4), draws.integers(18, 23, 4)
        own_ms = 1e-4 * tokens + 0.1 * running
        own_ms[2] *= 1.5
        steps.append(
            {
                "kv_tokens": tokens.tolist(),
                "num_running": running.tolist(),
                "compute_ms": own_ms.tolist(),
                "step_ms": 20,
            }
        )
    assert headline_of(tmp_path, *steps).endswith("Rank 2 is slow: it takes 1.50 times as long as its load explains.")


def test_prefill_on_some_ranks_outweighs_even_decode():
    """Of 10 steps 2 mix both: they last 100 ms instead of 20, in which one of two ranks waits."""
    prefill = np.zeros((10, 2))
    prefill[:2, 0] = 2048
    look = look_of([[10, 10]] * 10, prefill=prefill, step_ms=[100] * 2 + [20] * 8)
    lost = 2 * 80 * 0.5 / (2 * 100 + 8 * 20)
    assert situations(look)[0] == (
        "Prefill on some ranks holds up the others: 20.0% of steps mix both, and take 100 ms against 20 ms of decode alone "
        f"(means), which costs up to {lost:.1%} of rank-time: smaller chunks, prefill on all ranks at once, or on servers "
        "of its own, act on it"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"prefill": [[5, 5]] * 2 + [[0, 0]] * 2},
        {"step_ms": [20] * 4},
        {"resolution": "sampled"},
        {"idle": 0.5},
        {"step_ms": None},
        {"prefill": [[5, 0]] * 4},
    ],
    ids=["all ranks at once", "no longer", "samples", "less than decode", "no times", "nothing to compare with"],
)
def test_prefill_is_no_cause_where_figures_do_not_say_so(change):
    case = {"prefill": [[5, 0]] * 2 + [[0, 0]] * 2, "step_ms": [100, 100, 20, 20]}
    assert prefill_on_some_ranks(look_of([[10, 10]] * 4, **case))
    assert prefill_on_some_ranks(look_of([[10, 10]] * 4, **(case | change))) is None


def test_prefill_in_the_log_of_an_engine(tmp_path):
    """vLLM's iteration lines of two ranks: in every fifth iteration one of them prefills, and both take 200 ms."""
    path = tmp_path / "server.log"
    with path.open("w") as log:
        for step in range(20):
            for rank in range(2):
                context = "1 context requests, 4096" if (step % 5, rank) == (0, 0) else "0 context requests, 0"
                log.write(
                    f"(APIServer pid=1) INFO 08-22 10:00:{step:02} [loggers.py:199] Engine {rank:03}: Iteration({step}): "
                    f"{context} context tokens, 20 generation requests, 20 generation tokens, iteration elapsed time: "
                    f"{200 if step % 5 == 0 else 20}.00 ms, GPU KV cache usage: 41.2%\n"
                )
    said = lbal.analyze(lbal.read_trace(path)).headline
    assert "Prefill on some ranks holds up the others: 20.0% of steps mix both, and take 200 ms against 20 ms" in said


def test_prefill_counts_where_the_log_tells_no_load_of_the_rank_that_prefills(tmp_path):
    """SGLang's batch lines: in every sixth pass rank 0 prefills, without a decode line, and the pass takes 180 ms."""
    path = tmp_path / "server.log"
    time_ms = 0
    with path.open("w") as log:
        for step in range(60):
            took_ms = 180 if step % 6 == 5 else 30
            time_ms += took_ms
            clock = f"2026-08-22 10:00:{time_ms // 1000:02}.{time_ms % 1000:03}"
            decode = (
                f"Decode batch [{3000 + step}], #running-req: 20, #token: 40000, token usage: 0.10, cuda graph: True, "
                f"gen throughput (token/s): {20_000 / took_ms:.2f}, #queue-req: 0"
            )
            prefill = (
                f"Prefill batch [{3000 + step}], #new-seq: 1, #new-token: 4096, #cached-token: 0, token usage: 0.10, "
                "#running-req: 20, #queue-req: 0, cuda graph: False, input throughput (token/s): 1000.00"
            )
            log.write(f"[{clock} DP0 TP0] {decode if took_ms == 30 else prefill}\n[{clock} DP1 TP1] {decode}\n")
    trace = lbal.read_trace(path)
    said = lbal.analyze(trace).headline
    assert "Prefill on some ranks holds up the others: 16.7% of steps mix both, and take 180 ms against 30 ms" in said


def test_even_ranks_have_nothing_to_act_on(tmp_path):
    step = {"num_running": [10, 10], "kv_tokens": [20_000, 20_000], "num_waiting": [0, 0]}
    assert headline_of(tmp_path, step, step, max_num_seqs=16) == "0.0% of rank-time is barrier idle (modelled)."


LOADS = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=4, max_size=4)
CAUSES = st.dictionaries(st.sampled_from(["empty", "count", "length", "speed", "unexplained"]), st.floats(-1, 1))


@settings(max_examples=300, deadline=None)
@given(
    running=LOADS,
    waiting=st.none() | LOADS,
    prefill=st.none() | LOADS,
    share=st.none() | LOADS,
    slots=st.none() | st.integers(9, 12),
    causes=CAUSES,
)
def test_whatever_the_loads_nothing_fails_and_each_sentence_is_said_once(
    running, waiting, prefill, share, slots, causes
):
    share = None if share is None else np.array(share) / 9
    if not np.any(running):
        causes = {}
    elif np.min(running):
        causes = {cause: part for cause, part in causes.items() if cause != "empty"}
    look = look_of(
        running,
        waiting=waiting,
        prefill=prefill,
        kv_share=share,
        slots=slots,
        causes=causes,
        idle=0.1,
        step_ms=[9, 1, 5, 5],
    )
    leading, beside = situations(look)
    assert (leading is None) == (not any(find(look) for find in SITUATIONS))
    told = [*([leading] if leading else []), *beside]
    assert len(set(told)) == len(told)


def test_the_ratio_is_the_imbalance_ratio_of_the_metrics():
    ratio = Ratio()
    assert ratio.mean == 1
    for loads in ([[30.0, 10.0], [0.0, 0.0]], [[5.0, 15.0]]):
        ratio.add(np.array(loads))
    assert ratio.mean == (30 / 20 + 15 / 10) / 2


@settings(max_examples=100, deadline=None)
@given(running=LOADS, waiting=LOADS, prefill=LOADS, share=LOADS, cut=st.integers(1, 3), slots=st.integers(9, 12))
def test_steps_in_blocks_give_the_look_at_all_of_them(running, waiting, prefill, share, cut, slots):
    arrays = [np.array(each, float) for each in (running, waiting, prefill, share)]
    steps = StepArrays(
        np.arange(4), 7 * arrays[0], arrays[0], step_ms=np.array([9.0, 1, 5, 5]), num_waiting=arrays[1],
        prefill_tokens=arrays[2], kv_fraction=arrays[3] / 9,
    )  # fmt: skip
    server = Server(range(3), slots=slots)
    blocks = [steps.part(slice(0, cut)), steps.part(slice(cut, 4))]
    whole, parts = (Look.at(each, server, None, MixedSteps.at(each)) for each in ([steps], blocks))
    for name, value in vars(whole).items():
        if name not in ("server", "idle"):
            flat, other = (
                vars(each).values() if isinstance(each, Ratio | MixedSteps) else [each]
                for each in (value, getattr(parts, name))
            )
            for one, two in zip(flat, other, strict=True):
                assert two == pytest.approx(one), name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("n01_counts_only.jsonl", "Ranks 2 and 3 have no work in 50.0% of steps each while others do, and the busiest rank then runs 3.375"),
        ("n05_pinned15.jsonl", "In 16 of 16 rank-steps a request waits beside a free slot of its rank"),
        ("n07_trt13649.jsonl", "Numbers of requests differ: the busiest rank runs 1.400 times the mean"),
        ("n08_balance.jsonl", "Lengths of requests differ: the fullest rank holds 1.500 times the mean KV tokens"),
        ("l01_vllm_periodic_dp8_waiting.log", "Both ranks are full of KV (100.0% and 98.6%) while 225 requests wait; numbers of requests differ (1.244"),
        ("l04_vllm_prometheus_dp4_two_scrapes.txt", "Ranks 2 and 3 have no work in 50.0% of looks each"),
    ],
)  # fmt: skip
def test_situations_from_the_field(name, said, shared):
    assert said in lbal.analyze(lbal.read_trace(shared / "field" / name)).headline

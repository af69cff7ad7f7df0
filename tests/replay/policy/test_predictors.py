"""How long requests are predicted to stay: against brute force, and who may know what."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from forked_commands import folder_of_lbal
from hypothesis import given, settings
from hypothesis import strategies as st

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import run_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policies.jsq import Jsq
from lbal.replay.policy.policy import parse_policy
from lbal.replay.policy.predictors import FOREVER, add_growing, fill_alive, load_after, predicted_stay, steps_inside
from lbal.replay.policy.view import STEP, View
from lbal.replay.scenario.cluster import Cluster, Conditions

MODEL = StepTimeModel("test", shared_s=0.01, per_token_s=1e-6)
CLUSTER = Cluster(4, 6, MODEL)
BACKLOG = Conditions(arrivals="backlog")
PREDICTORS = ["survival", "mean", "none", "oracle", "noisy:0.3"]


def view_of(predictor, completed=(), outputs=(), draws=(), drift=1.0, window=np.inf):
    name, _, rel = predictor.partition(":")
    policy = parse_policy(f"br-h:predictor={name}" + (f",rel={rel}" if rel else ""))
    lengths = np.array(completed, np.int64)
    return View(**dict.fromkeys(View._fields))._replace(
        survivors=np.array([(lengths > age).sum() for age in range(max(completed, default=0))], np.int64),
        tokens_completed=np.array([lengths.sum()]),
        output_tokens=np.array(outputs, np.int64),
        draws=np.array(draws, np.float64).reshape(-1, 2),
        prompt_tokens=np.full(max(len(outputs), 1), 30),
        parameters=policy.numbers(),
        drift=drift,
        attention_window=window,
    )


def alive(view, age, horizon, request=0):
    probabilities = np.zeros(horizon + 1)
    fill_alive(view, request, age, probabilities)
    return probabilities.tolist()


def test_survival_is_the_share_of_completed_requests_that_went_on():
    view = view_of("survival", completed=[1, 3, 3, 10])
    assert alive(view, 0, 3) == [1, 4 / 5, 4 / 5, 2 / 5], "of 4 and the one that never ends"
    assert alive(view, 1, 3) == [1, 1, 2 / 4, 2 / 4], "one ended before: 3 and that one had more than 1 token"
    assert alive(view, 9, 2) == [1, 1 / 2, 1 / 2]
    assert alive(view, 10, 4) == [1] * 5, "older than all that has completed"


def test_nothing_is_known_before_anything_has_completed():
    for predictor in ("survival", "mean"):
        assert alive(view_of(predictor), 0, 5) == alive(view_of("none"), 0, 5) == [1] * 6
    assert predicted_stay(view_of("none"), 0, 3) == FOREVER


def test_mean_counts_down_from_the_mean_length_and_never_below_one_step():
    view = view_of("mean", completed=[2, 2, 8])
    assert [predicted_stay(view, 0, age) for age in (0, 3, 4, 50)] == [4, 1, 1, 1]
    assert alive(view, 1, 4) == [1, 1, 1, 0, 0]


def test_oracle_knows():
    view = view_of("oracle", outputs=[7])
    assert alive(view, 5, 3) == [1, 1, 0, 0], "tokens 6 and 7 are to come"


def test_the_error_of_noisy_is_relative_with_median_1_and_fixed_per_request():
    draws = np.random.default_rng(0).random((20_000, 2))
    view = view_of("noisy:0.2", outputs=[100_000] * len(draws), draws=draws)
    stays = np.array([predicted_stay(view, request, 0) for request in range(len(draws))])
    errors = np.log(stays / 100_000)
    assert abs(np.median(errors)) < 0.005
    assert abs(errors.std() - 0.2) < 0.005
    assert predicted_stay(view, 5, 40) == stays[5] - 40
    assert predicted_stay(view, 5, 10**7) == 1, "it outlived its prediction"


@given(
    predictor=st.sampled_from(PREDICTORS),
    completed=st.lists(st.integers(1, 12), max_size=9),
    output=st.integers(1, 15),
    age=st.integers(0, 14),
    horizon=st.integers(1, 12),
)
@settings(max_examples=200, deadline=None)
def test_steps_inside_is_the_sum_of_the_probabilities_and_the_formula_of_the_paper(
    predictor, completed, output, age, horizon
):
    view = view_of(predictor, completed, outputs=[output], draws=[[0.3, 0.6]])
    probabilities = alive(view, min(age, output - 1), horizon)
    inside = steps_inside(view, 0, min(age, output - 1), horizon)
    assert inside == pytest.approx(sum(probabilities[1:]))
    # P(r = j) for r < H, r the steps left after the next one.
    ends = {j: probabilities[j] - probabilities[j + 1] for j in range(horizon)}
    p = sum(ends.values())
    mu = sum(j * weight for j, weight in ends.items()) / p if p else 0.0
    assert inside == pytest.approx((1 - p) * horizon + p * mu)
    assert probabilities[0] == 1
    assert (np.diff(probabilities) <= 0).all()


@given(
    completed=st.lists(st.integers(1, 12), max_size=30),
    age=st.integers(0, 14),
    steps=st.integers(0, 12),
)
@settings(max_examples=200, deadline=None)
def test_survival_by_brute_force(completed, age, steps):
    lengths = Counter({FOREVER: 1}) + Counter(completed)
    reached = sum(count for length, count in lengths.items() if length > age)
    went_on = sum(count for length, count in lengths.items() if length > age + steps)
    assert alive(view_of("survival", completed), age, steps)[steps] == went_on / reached


@given(
    st.integers(0, 40), st.integers(1, 30), st.sampled_from([(1.0, np.inf), (2.5, np.inf), (0.0, 99.0), (1.0, 50.0)])
)
@settings(max_examples=100, deadline=None)
def test_loads_grow_up_to_the_attention_window(age, steps, drift):
    view = view_of("none", drift=drift[0], window=drift[1])
    row = np.zeros(steps)
    add_growing(view, 0, age, row)
    assert row.tolist() == [load_after(view, 0, age + h) for h in range(steps)]
    assert row.tolist() == [30 + drift[0] * min(age + h, drift[1] - 30) for h in range(steps)]


@dataclass(frozen=True)
class Witness(Jsq):
    """Remembers what it was shown."""

    name: ClassVar[str] = "witness"
    compiled: ClassVar[bool] = False
    learns_lengths: ClassVar[bool] = True
    seen: ClassVar[list] = []

    @staticmethod
    def choose(view, request):
        Witness.seen.append((int(view.clock[STEP]), view.survivors.copy(), int(view.tokens_completed[0])))
        assert len(view.output_tokens) == 0
        return Jsq.choose(view, request)


def test_a_policy_sees_the_lengths_of_what_has_completed_and_no_others(workload_of):
    random = np.random.default_rng(3)
    workload = workload_of(random.integers(1, 50, 300), random.integers(1, 40, 300))
    Witness.seen.clear()
    replayed = replay(workload, CLUSTER, Witness(), BACKLOG)
    ended = replayed.admitted_step + workload.output_tokens
    assert len(Witness.seen) == 300
    for step, survivors, tokens in Witness.seen:
        lengths = workload.output_tokens[ended <= step]
        assert tokens == lengths.sum()
        assert survivors.tolist() == [(lengths > age).sum() for age in range(len(survivors))]


def placements(workload, spec, seed=0):
    replayed = replay(workload, CLUSTER, parse_policy(spec), Conditions("backlog", seed=seed))
    return replayed.trace.requests["rank"].to_list(), replayed.admitted_step.tolist()


def test_noisy_follows_the_seed_and_without_error_it_is_the_oracle(workload_of):
    random = np.random.default_rng(4)
    workload = workload_of(random.integers(1, 500, 400), random.integers(1, 40, 400))
    noisy = "br-h:predictor=noisy,horizon=20"
    assert placements(workload, noisy, seed=1) == placements(workload, noisy, seed=1)
    assert placements(workload, noisy, seed=1) != placements(workload, noisy, seed=2)
    assert placements(workload, f"{noisy},rel=0") == placements(workload, "br-h:predictor=oracle,horizon=20")


@pytest.mark.parametrize(
    ("spec", "knows", "draws", "learns"),
    [
        ("br-0", False, False, False),
        ("br-h", False, False, True),
        ("br-h:predictor=mean", False, False, True),
        ("br-h:predictor=none", False, False, False),
        ("br-h:predictor=oracle", True, False, False),
        ("br-h:predictor=noisy,rel=0.5", True, True, False),
        ("fast-phi", False, False, True),
    ],
)
def test_a_policy_declares_what_its_predictor_reads_and_the_result_says_so(workload_of, spec, knows, draws, learns):
    policy = parse_policy(spec)
    assert (policy.uses_true_lengths, policy.uses_draws, policy.learns_lengths) == (knows, draws, learns)
    assert policy.label == spec
    run = run_of(Windowed.of(replay(workload_of([5] * 40, [3] * 40), CLUSTER, policy, BACKLOG), "all"))
    assert run.details["uses_true_lengths"] is knows


def test_the_table_says_which_policies_use_true_lengths():
    root = Path(__file__).resolve().parents[3]
    command = [folder_of_lbal() / "lbal", "replay", "sample_traces/requests_2000.jsonl"]
    shape = ["--dp-size", "4", "--max-num-seqs", "16"]

    def shown(*specs):
        policies = [part for spec in specs for part in ("--policy", spec)]
        done = subprocess.run(
            [*command, *shape, *policies], cwd=root, env=dict(os.environ), capture_output=True, text=True, check=True
        )
        return [line for line in done.stdout.splitlines() if "true lengths" in line]

    assert shown("br-h", "br-h:predictor=oracle") == [
        "lengths     br-h:predictor=oracle: uses true lengths, which no router knows"
    ]
    assert shown("br-h", "br-0") == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("br-h:predictor=oracel", "predictor: 'oracel' does not fit, expected survival or mean or none"),
        ("br-h:predictor=noisy,rel=-1", "rel: -1.0 is no relative error, expected a number of at least 0"),
        ("br-h:rel=0.5", "rel: the predictor survival makes no error, expected predictor=noisy with it"),
        ("br-h:predictr=mean", "did you mean 'predictor'?"),
    ],
)
def test_predictors_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(UsageError) as raised:
        parse_policy(spec)
    assert message in str(raised.value)


def test_listing_the_policies_does_not_load_the_compiler():
    check = "import sys; from lbal.replay.policy.policy import POLICIES; assert POLICIES.names(); assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)

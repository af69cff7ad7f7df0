"""Times per token over the bands where requests take steps that give them no token."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prefill_steps import CLOCK, served

from lbal.analyzers.barrier.step_time import Band
from lbal.replay.experiment.figures import banded
from lbal.replay.experiment.windowed import Windowed


def test_a_longer_step_counts_in_every_step_of_a_prompt_and_of_a_stall():
    replayed = served("sglang:chunk=4", [(0, 0, 20, 3), (0, 0, 4, 2)])
    doubled = replace(CLOCK, bands=(Band("C", CLOCK.shared_s, 2 * CLOCK.shared_s),))
    nominal, high = banded(Windowed.of(replace(replayed, step_model=doubled), "all")).tpot_ms
    requests = replayed.trace.requests
    tpot_ms = (requests["finish_ms"] - requests["admitted_ms"]) / requests["output_tokens"]
    assert nominal["tpot_ms_mean"] == pytest.approx(tpot_ms.mean())
    assert high["tpot_ms_mean"] == pytest.approx(2 * nominal["tpot_ms_mean"])  # all steps take twice as long
    assert nominal["tpot_ms_mean"] > 1.5 * CLOCK.shared_s * 1e3  # more steps than tokens

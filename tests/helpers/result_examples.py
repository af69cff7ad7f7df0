"""Results to draw: many runs over synthetic steps, with text in every place that an input can fill."""

from __future__ import annotations

import numpy as np

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.figures import attribution, rank_table, worst_steps
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.thinned import LoadThinner
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.metrics import measure, step_figures
from lbal.analyzers.models.power_models import power_presets
from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.trace.trace import StepArrays

POWER = power_presets()["h200"].as_dict() | {"gpus_per_rank": 1}
MODEL = StepTimeModel("example", 0.02, 1e-7, 1e-4)


def steps_of(count, ranks, seed=0, first=0):
    draws = np.random.default_rng(seed)
    return StepArrays(
        step=np.arange(first, first + count),
        kv_tokens=draws.integers(0, 100_000, (count, ranks)).astype(float),
        num_running=draws.integers(0, 30, (count, ranks)).astype(float),
    )


def run_of(label, count=50, ranks=4, seed=0):
    """A run over so many steps, which come in pieces as in a replay; only their accounts and thinned maps are kept."""
    thinner, accounts = LoadThinner(), None
    for first in range(0, count, 1 << 16):
        steps = steps_of(min(count - first, 1 << 16), ranks, seed + first, first)
        thinner.add(steps)
        part = account(steps, MODEL, measured=False)
        accounts = part if accounts is None else accounts + part
    fold = AccountFold.of(accounts, MODEL)
    figures = step_figures(WindowSteps(fold, 32, fold.totals.time_ms))
    return Run(
        label=label,
        policy=label,
        metrics={name: measure(name, value, "modelled") for name, value in figures.items()},
        ranks=rank_table(fold),
        attribution=attribution(fold),
        worst_steps=worst_steps(accounts),
        drawn=fold.series.series(thinner.load_map()).rounded(),
    )


def result_of(runs, text="text"):
    return Result(
        command="replay",
        inputs=[{"name": text, "sha256": text, "format": "native", "warnings": [text]}],
        config={
            "dp_size": 4,
            "window": "all",
            "drift": text,
            "step_model": {"name": text, "source": text},
            "power_model": POWER,
        },
        runs=runs,
        headline=text,
        notes=[text],
        headroom={"reference": runs[0].label, "best": runs[-1].label, "findings": [text]},
        energy={"findings": [text]},
        bands={"findings": [text]},
        fidelity={"findings": [text]},
    )

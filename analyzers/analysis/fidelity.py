"""Fidelity: how far modelled step times and idle are from the measured ones, where a trace has both.

Two checks that fail for different reasons. *On the recorded loads* the model predicts each recorded step, so only the
model can be wrong. *Replayed* compares the figures of the policy `recorded` with what was measured, so admissions can
be wrong too: prefill, preemption and late completions are not modelled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lbal.analyzers.analysis.analysis import analyze_steps
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.whole_steps import whole_steps
from lbal.analyzers.barrier.window import Window
from lbal.analyzers.calibration.calibration import Errors, predicted_step_ms, step_errors
from lbal.analyzers.errors import LbalError
from lbal.analyzers.metrics import Measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.trace.trace import Trace

IDLE = "barrier_idle_fraction"
NOT_COMPARED = ("steps", "requests_completed", "barrier_idle_rank_seconds")
"""Counts and sums: they tell how long a run was, not how well a step is modelled."""


@dataclass(frozen=True)
class Fidelity:
    """What modelled figures of the recorded placement are against the measured ones."""

    on_recorded_loads: Errors
    idle_on_recorded_loads: float
    """Modelled barrier idle of the recorded steps."""
    measured: Mapping[str, float]
    """Measured figures by metric name, with `step_ms_mean`."""
    replayed: Mapping[str, float]
    """The same figures of the policy `recorded`; empty where it was not replayed as the trace was recorded."""

    @property
    def step_time(self) -> float:
        """Mean replayed step time over the measured one, minus 1."""
        return self.replayed["step_ms_mean"] / self.measured["step_ms_mean"] - 1

    def of(self, name: str) -> float:
        """Relative error of a metric, that of the step time where it was not measured."""
        measured = self.measured.get(name, 0.0)
        if name in NOT_COMPARED or not measured or name not in self.replayed:
            return self.step_time
        return self.replayed[name] / measured - 1

    def as_dict(self) -> dict[str, Any]:
        """For the result."""
        told = {
            "on_recorded_loads": self.on_recorded_loads.as_dict(),
            "idle_on_recorded_loads": self.idle_on_recorded_loads,
        }
        if not self.replayed:
            return told
        return {
            **told,
            "step_ms_mean": {"measured": self.measured["step_ms_mean"], "replayed": self.replayed["step_ms_mean"]},
            IDLE: {"measured": self.measured.get(IDLE), "replayed": self.replayed[IDLE]},
        }


def fidelity_of(
    trace: Trace, runs: Sequence[Run], model: StepTimeModel, window: Window, *, as_recorded: bool
) -> Fidelity | None:
    """The fidelity of a model on a trace with measured step times, None without them.

    None too where the trace has no such window, or where its steps do not fit any model. Figures of the policy
    `recorded` are held against measured ones only if it was replayed `as_recorded`: on as many ranks, at the same rate.
    """
    if not trace.num_steps or trace.meta.kind != "recorded":
        return None
    run = next((run for run in runs if run.policy == "recorded"), None) if as_recorded else None
    try:
        steps, _notes = whole_steps(trace.step_arrays(), trace.meta.source)
        analysis = analyze_steps(trace, model, model, window, None)
    except LbalError:
        return None
    if steps.step_ms is None or steps.dp_size != len(runs[0].ranks):
        return None
    accounts = account(replace(steps, step_ms=None), model, measured=False)
    figures = {name: value.value for name, value in analysis.metrics.items() if value.basis == "measured"}
    counted = np.isin(steps.step, analysis.steps.series(lambda block: block.step))
    replayed: dict[str, float] = {}
    if run is not None:
        replayed = {name: value.value for name, value in run.metrics.items()}
        replayed["step_ms_mean"] = float(run.details["step_ms_mean"])
    return Fidelity(
        on_recorded_loads=step_errors(steps.step_ms, predicted_step_ms(steps, model)),
        idle_on_recorded_loads=float(accounts.idle_ms.sum() / (accounts.dp_size * accounts.step_ms.sum())),
        measured={**figures, "step_ms_mean": float(steps.step_ms[counted].mean())},
        replayed=replayed,
    )


def with_fidelity(runs: Sequence[Run], found: Fidelity) -> list[Run]:
    """The runs with the fidelity beside every modelled figure, where the recorded placement was replayed."""
    if not found.replayed:
        return list(runs)
    return [
        replace(
            run,
            metrics={name: _told(name, value, found) for name, value in run.metrics.items()},
            headroom={name: _told(name, value, found) for name, value in run.headroom.items()},
        )
        for run in runs
    ]


def _told(name: str, value: Measure, found: Fidelity) -> Measure:
    return replace(value, fidelity=found.of(name)) if value.basis == "modelled" else value

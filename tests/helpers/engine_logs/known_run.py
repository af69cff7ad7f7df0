"""A run of which everything is known: what its logs must give back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

import lbal
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.result.result import Result
from lbal.analyzers.trace.trace import StepArrays, Trace, TraceMeta
from lbal.replay.experiment.options import ReplayOptions
from lbal.replay.experiment.replaying import replay_result

SAMPLE = Path(__file__).resolve().parents[3] / "sample_traces" / "requests_2000.jsonl"
MODEL = StepTimeModel("known", shared_s=0.015, per_token_s=4e-8, per_request_s=1.5e-4)
BEGIN = datetime(2026, 8, 22, 10, 0, 0, tzinfo=UTC)
CAPACITY, SLOTS = 600_000, 64


@dataclass(frozen=True)
class KnownRun:
    """S steps of G ranks. Loads are those that enter the step, shape (S, G); times in ms, shape (S,)."""

    kv_tokens: np.ndarray
    num_running: np.ndarray
    num_waiting: np.ndarray
    step_ms: np.ndarray
    start_ms: np.ndarray
    model: StepTimeModel = MODEL
    kv_capacity: int = CAPACITY
    max_num_seqs: int = SLOTS

    @property
    def dp_size(self) -> int:
        return self.kv_tokens.shape[1]

    def __len__(self) -> int:
        return len(self.step_ms)

    def at(self, step: int, form: str, offset_ms: float = 0.0) -> str:
        """The clock at the start of a step, as `strftime` writes it; `%3` and `%9` are digits of the second."""
        moment = BEGIN + timedelta(milliseconds=float(self.start_ms[step]) + offset_ms)
        micros = f"{moment.microsecond:06d}"
        return moment.strftime(form.replace("%3", micros[:3]).replace("%6", micros).replace("%9", micros + "000"))

    def idle_fraction(self, steps: Any = slice(None), *, tokens: bool = True) -> float:
        """Barrier idle over rank-time of these steps, from its definition; without `tokens`, that of counts alone."""
        a, b = self.model.coefficients_ms.per_token * tokens, self.model.coefficients_ms.per_request
        rank_ms = a * self.kv_tokens[steps] + b * self.num_running[steps]
        idle = rank_ms.max(axis=1, keepdims=True) - rank_ms
        return float(idle.sum() / (self.dp_size * self.step_ms[steps].sum()))

    def trace(self, steps: Any = slice(None), *, tokens: bool = True) -> Trace:
        """These steps as a trace, without their KV tokens where a log has none."""
        tokens_told = self.kv_tokens[steps] if tokens else np.full_like(self.kv_tokens[steps], np.nan)
        arrays = StepArrays(
            step=np.arange(len(self))[steps],
            kv_tokens=tokens_told,
            num_running=self.num_running[steps],
            step_ms=self.step_ms[steps],
            start_ms=self.start_ms[steps],
        )
        meta = TraceMeta("known", "native", dp_size=self.dp_size, max_num_seqs=self.max_num_seqs)
        return Trace.of(meta, steps=arrays.frame().drop([] if tokens else ["kv_tokens"]))

    def looks(self, every_ms: float) -> np.ndarray:
        """The step that runs at each multiple of `every_ms`."""
        moments = np.arange(self.start_ms[0], self.start_ms[-1] + self.step_ms[-1], every_ms)
        return np.searchsorted(self.start_ms, moments, side="right") - 1


def timed(kv_tokens: Any, num_running: Any, num_waiting: Any, model: StepTimeModel = MODEL) -> KnownRun:
    """The run of these loads, whose steps take what the model says."""
    tokens, running, waiting = (np.asarray(array, np.float64) for array in (kv_tokens, num_running, num_waiting))
    step_ms = model.common_ms(running) + model.rank_time_ms(tokens, running).max(axis=1)
    return KnownRun(tokens, running, waiting, step_ms, np.cumsum(step_ms) - step_ms, model)


def made_up(steps: int = 200, ranks: int = 4, seed: int = 1, *, empty: bool = True) -> KnownRun:
    """Loads that wander slowly, each rank its own way; with `empty`, the last rank runs dry at times and starts anew."""
    generator = np.random.default_rng(seed)
    phase, mean = generator.uniform(0, 6.28, ranks), generator.uniform(12, 40, ranks)
    angle = np.arange(steps)[:, None] / 150 + phase
    running = np.round(mean * (1 + 0.3 * np.sin(angle)))
    if empty:
        since = np.arange(steps) % 37 - 8
        running[:, -1] = np.where(since < 0, running[:, -1], np.clip(2 * (since - 2), 0, running[:, -1]))
    tokens = np.round(running * (1500 + 700 * np.sin(angle / 2 + phase[::-1])))
    return timed(tokens, running, generator.integers(0, 9, (steps, ranks)))


def replayed(
    policy: str = "round-robin", ranks: int = 4, slots: int = 16, requests: int = 300
) -> tuple[KnownRun, Result]:
    """A replay as a run, and its result: requests of the sample trace, each bound to a rank on arrival."""
    trace = lbal.read_trace(SAMPLE)
    assert trace.requests is not None
    trace = Trace.of(trace.meta, requests=trace.requests.head(requests))
    kept: list[Trace] = []
    options = ReplayOptions(
        dp_size=ranks, max_num_seqs=slots, policies=[policy], binding="immediate", models=ModelChoice(MODEL)
    )
    result = replay_result(trace, options, keep_steps=True, on_replay=lambda each: kept.append(each.trace))
    steps = kept[0].step_arrays()
    assert steps.step_ms is not None
    assert steps.start_ms is not None
    waiting = np.zeros_like(steps.kv_tokens) if steps.num_waiting is None else steps.num_waiting
    run = KnownRun(steps.kv_tokens, steps.num_running, waiting, steps.step_ms, steps.start_ms, max_num_seqs=slots)
    return run, result

"""Logs of every engine and generation, rendered from known runs: loads, steps and barrier idle come back.

How near the idle comes: where every step is in the log, within the rounding of its own digits; where a log has samples,
within `SAMPLED_IDLE` of the idle of all steps for loads that wander over hundreds of steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from engine_logs import RENDERERS
from engine_logs.known_run import KnownRun, made_up, replayed
from engine_logs.renderer import Renderer

import lbal
from lbal.analyzers.errors import InputError
from lbal.analyzers.result.result import Result
from lbal.analyzers.trace.formats import FORMATS, LogReader
from lbal.analyzers.trace.trace import Trace

SAMPLED_IDLE = 0.01
"""Of the rank-time: what looks at one step in 40 or at one a second may be off by."""
LOADS = ("kv_tokens", "num_running", "num_waiting")
TOKEN_FIGURES = ("imbalance_tokens_mean", "balance_ratio_mean", "imbalance_ratio_mean")


def each_renderer(*, resolution: str = "", rows: bool = False, barrier: bool | None = None) -> pytest.MarkDecorator:
    """All renderers of logs that are not refused, or of one resolution, with steps of all ranks alike, or a barrier."""
    chosen = [one for one in RENDERERS.values() if not one.refused and one.resolution.startswith(resolution)]
    return pytest.mark.parametrize(
        "renderer",
        [one for one in chosen if (one.rows or not rows) and barrier in (None, one.barrier)],
        ids=lambda one: one.name,
    )


@pytest.fixture(scope="module")
def short() -> KnownRun:
    """In some of its steps a rank has no work."""
    return made_up(200)


@pytest.fixture(scope="module")
def busy() -> KnownRun:
    """All ranks always have work; long enough for logs that have one step in 40."""
    return made_up(2000, empty=False)


@pytest.fixture(scope="module")
def replay() -> tuple[KnownRun, Result]:
    return replayed()


def idle(trace: Trace, run: KnownRun) -> float:
    return lbal.analyze(trace, step_model=run.model).runs[0].metrics["barrier_idle_fraction"].value


LEAVES_OUT = {
    "dynamo with heartbeats": "heartbeats of an idle rank",
}
"""Logs of which the reader leaves out lines that are there, and why."""


def told_steps(renderer: Renderer, run: KnownRun) -> np.ndarray:
    """The steps of the run of which the log tells the loads of all ranks."""
    told = [renderer.told(run, name) for name in ("kv_tokens", "num_running") if name in renderer.tells]
    assert renderer.rows is not None
    return renderer.rows(run)[~np.isnan(told).any(axis=(0, 2))]


def test_every_log_format_has_a_renderer() -> None:
    logs = {cls.name for cls in FORMATS.classes() if issubclass(cls, LogReader) and cls.__module__.startswith("lbal.")}
    assert {renderer.format for renderer in RENDERERS.values()} == logs


@each_renderer()
def test_a_log_is_told_from_all_others(renderer: Renderer, short: KnownRun, tmp_path: Path) -> None:
    meta = renderer.read(short, tmp_path).meta
    assert (meta.format, meta.resolution, meta.dp_size) == (renderer.format, renderer.resolution, short.dp_size)
    assert set(meta.excluded) <= {LEAVES_OUT.get(renderer.name)}


@pytest.mark.parametrize("renderer", [one for one in RENDERERS.values() if one.refused], ids=lambda one: one.name)
def test_a_log_that_tells_no_load_is_refused_with_the_reason(
    renderer: Renderer, short: KnownRun, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=str(renderer.refused)):
        renderer.read(short, tmp_path)


@each_renderer(rows=True)
def test_what_a_log_tells_comes_back_and_nothing_else(
    renderer: Renderer, short: KnownRun, busy: KnownRun, tmp_path: Path
) -> None:
    run = busy if renderer.resolution == "sampled" and renderer.empty == "unseen" else short
    steps = renderer.read(run, tmp_path).step_arrays()
    running = renderer.told(run, "num_running")
    for name in LOADS:
        read = getattr(steps, name)
        if name not in renderer.tells:
            assert read is None or np.isnan(read).all() or renderer.format == "trtllm-metrics", name
            continue
        told = renderer.told(run, name)
        bound = renderer.tells[name].bound(told, run, running)
        assert np.array_equal(np.isnan(read), np.isnan(told)), name
        assert (np.abs(read - told) <= bound)[~np.isnan(told)].all(), name
    if "step_ms" in renderer.tells:
        assert renderer.rows is not None
        known = run.step_ms[renderer.rows(run)]
        known[-1] += renderer.last_step_ms
        assert (np.abs(steps.step_ms - known) <= renderer.tells["step_ms"].bound(known, run)).all()


@each_renderer(resolution="step", barrier=True)
def test_the_known_idle_comes_back_within_the_rounding_of_the_log(
    renderer: Renderer, short: KnownRun, tmp_path: Path
) -> None:
    known = short.idle_fraction(told_steps(renderer, short), tokens="kv_tokens" in renderer.tells)
    assert known > 0.03
    assert idle(renderer.read(short, tmp_path), short) == pytest.approx(known, abs=renderer.idle_tolerance(short))


@each_renderer(barrier=False)
def test_no_idle_is_told_of_ranks_that_do_not_wait(renderer: Renderer, short: KnownRun, tmp_path: Path) -> None:
    result = lbal.analyze(renderer.read(short, tmp_path), step_model=short.model)
    assert result.headline.startswith("Barrier idle does not apply: ")
    assert "barrier_idle_fraction" not in result.runs[0].metrics


@each_renderer(resolution="sampled")
def test_the_known_idle_comes_back_from_samples(renderer: Renderer, busy: KnownRun, tmp_path: Path) -> None:
    known = busy.idle_fraction(tokens="kv_tokens" in renderer.tells)
    assert known > 4 * SAMPLED_IDLE
    assert idle(renderer.read(busy, tmp_path), busy) == pytest.approx(known, abs=SAMPLED_IDLE)


def test_a_rank_whose_requests_change_between_samples_does_not_shorten_the_step(tmp_path: Path) -> None:
    run = made_up(2000, 8)
    trace = RENDERERS["sglang 0.5.10, every 40th"].read(run, tmp_path)
    assert idle(trace, run) == pytest.approx(run.idle_fraction(), abs=SAMPLED_IDLE)


@each_renderer(resolution="step", barrier=True)
def test_a_replay_and_its_log_are_analyzed_alike(renderer: Renderer, replay, tmp_path: Path) -> None:
    """Every figure of the steps, and of each rank, as far as the log can tell; what it cannot is n/a with the reason."""
    run, result = replay
    of_log = lbal.analyze(renderer.read(run, tmp_path), step_model=run.model).runs[0]
    steps = told_steps(renderer, run)
    tolerance = renderer.idle_tolerance(run)
    has_tokens = "kv_tokens" in renderer.tells
    of_steps = lbal.analyze(run.trace(steps, tokens=has_tokens), step_model=run.model).runs[0]
    if len(steps) == len(run) and has_tokens:
        known, own = (each.metrics["barrier_idle_fraction"].value for each in (result.runs[0], of_steps))
        assert own == pytest.approx(known, abs=1e-12)
    for name in TOKEN_FIGURES:
        assert (name in of_log.metrics) is has_tokens
        assert has_tokens or of_log.details["unavailable"][name] == "the trace has no KV tokens"
    assert of_log.metrics["steps"].value == len(steps)
    for name in ("barrier_idle_fraction", "perfect_balance_throughput_fraction"):
        assert of_log.metrics[name].value == pytest.approx(of_steps.metrics[name].value, abs=tolerance), name
    for one, other in zip(of_log.ranks, of_steps.ranks, strict=True):
        assert one["idle_fraction"] == pytest.approx(other["idle_fraction"], abs=2 * run.dp_size * tolerance)
        if renderer.empty != "padded":
            assert one["num_running_mean"] == other["num_running_mean"]

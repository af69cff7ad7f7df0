"""Analysis of a trace that has steps: what is measured, what must be modelled, which steps can count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from lbal.analyzers.analysis.accounting import Accounting, accounted, totals
from lbal.analyzers.analysis.active import Growth, active_requests
from lbal.analyzers.analysis.own_model import has_measured_times, own_model
from lbal.analyzers.analysis.prefill_notes import prefill_notes
from lbal.analyzers.analysis.remarks import clock_notes, contradicted_model, undefined_notes
from lbal.analyzers.barrier.bounds import Admissions, bound_fractions
from lbal.analyzers.barrier.clock import Starts
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.known_part import KnownPart, known_part
from lbal.analyzers.barrier.step_time import FITTED, StepTimeModel
from lbal.analyzers.barrier.window import Window, window_bounds
from lbal.analyzers.barrier.window_steps import WindowSteps
from lbal.analyzers.calibration.rank_times import RankTimes, explained, late_rank
from lbal.analyzers.energy.figures import energy_figures
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.energy.sensitivity import BandedRun, slope_models, variants
from lbal.analyzers.errors import InputError, Parameter, UsageError
from lbal.analyzers.metrics import METRICS, Bases, Basis, Measure, add_ranges, measure, step_figures, undefined_figures
from lbal.analyzers.requests.latency import RequestTimes, request_metrics, waited_steps
from lbal.analyzers.trace.step_blocks import StepBlocks
from lbal.analyzers.trace.trace import FloatArray, Trace


@dataclass(frozen=True)
class StepAnalysis:
    """The accounts of a trace's steps and what they rest on."""

    accounts: AccountFold
    steps: StepBlocks
    """The steps that were accounted for."""
    metrics: Mapping[str, Measure]
    model: StepTimeModel
    known: KnownPart
    """Which loads and ranks the accounts are of."""
    rank_times: Basis
    step_times: Basis
    work_factor: FloatArray | None
    """(G,) factor of each rank against the median one (`calibration/rank_times.py`), NaN where unknown; None without
    `compute_ms`."""
    slow_ranks: Mapping[int, float]
    """Columns of ranks that surely take longer than their load explains, and how many times as long."""
    undefined: Mapping[str, str]
    """Why the steps leave metrics undefined, by name."""
    notes: tuple[str, ...]
    headroom: Mapping[str, Measure]
    """How much of the idle was avoidable: always modelled, as it asks what other placements would have taken."""
    lengths_known: bool
    """Whether the headroom knows the active requests of each step, or only how many there were."""
    admissions: Admissions | None
    """Who was active when, by rows of the whole steps, where the trace accounts for every running request."""
    rows: slice
    """The rows of the window."""
    modelled_idle: float
    """Share of the rank-time that the loads make idle under the model, where the rank times are measured ones too."""
    most_running: int
    """The largest number of running requests of a rank."""
    energy: EnergyView | None = None
    variants: int = 1
    """Variants of the step-time model that ranges are over."""


def analyze_steps(
    trace: Trace,
    model: StepTimeModel | None,
    default: StepTimeModel,
    window: Window,
    max_num_seqs: int | None,
    growth: Growth | None = None,
    *,
    energy: Callable[[StepTimeModel], EnergyView] | None = None,
    speeds: Callable[[StepTimeModel], StepTimeModel] | None = None,
    bands: bool = False,
) -> StepAnalysis:
    """The accounts and metrics of a trace that has steps.

    The model is, in this order: the one given, the one that made a replayed trace, the one fitted to measured rank
    times or step times, the default; what prefill takes depends on the system so much that a default does not tell it.
    `growth` is that of a replayed trace; None is one token per step. Steps with gaps are left out, and counted in the
    notes. `energy` makes the view of energy that goes with the model in the end, `speeds` gives ranks of that model
    other speeds, and `bands` asks for the ranges of headline figures over what is known of the models. Raises
    `InputError` where no step is whole and `UsageError` for a window that cannot be.
    """
    known = known_part(trace)
    steps, notes = known.steps, list(known.notes)
    recorded = trace.meta.kind == "recorded"
    measured = steps.tells("compute_ms")
    told = explained(steps, default) if measured and known.lacks is None else None
    if model is None:
        model, chosen_notes = _suited_model(trace, known, default.without_prefill(), told)
        notes += chosen_notes
        model = model if speeds is None else speeds(model)
    told_model, model = model, known.model(model)
    view = None if energy is None else energy(told_model)
    max_num_seqs = max_num_seqs or trace.meta.max_num_seqs
    starts = Starts.of(steps) if trace.requests is not None or window != "all" else None
    rows = _rows(trace, steps, starts, window, max_num_seqs)
    active = active_requests(trace, starts, growth or Growth()) if known.is_whole else None
    admissions = active.admissions if active is not None and active.account_for(steps) else None
    steps = steps.rows(rows)
    curves = None if view is None else view.power.curves
    how = Accounting(model, measured, curves, 0.0 if told is None else told.constant_ms)
    found = accounted(steps, rows.start, how, active, _with_told_speeds(model, told))
    accounts, over_step, prefills = found.fold, found.fold.sums.over_step, found.fold.sums.has_prefill
    if recorded and not measured and over_step > len(accounts) / 2 and trace.meta.no_barrier is None:
        raise UsageError(
            f"{model.name} takes longer than the measured step in {over_step:,} of "
            f"{len(accounts):,} steps of {trace.meta.source}, expected a model that fits them",
            parameter="step_model",
        )
    if not accounts.totals.time_ms:
        raise UsageError(
            f"{model.name} gives no step of {trace.meta.source} any time, expected C above 0 where no rank has work",
            parameter="step_model",
        )
    bases = Bases.of(
        recorded=recorded,
        rank_times=measured,
        step_times=steps.tells("step_ms"),
        sampled=trace.meta.resolution != "step",
    )
    notes += [*_notes_on_times(accounts, told), *undefined_notes(accounts)]
    notes += prefill_notes(accounts.sums, model, measured=measured, lacks_pairs=found.lacks_pairs)
    if recorded and trace.meta.resolution == "step":
        notes += clock_notes(found.clock)
    if recorded and not measured:
        notes += contradicted_model(steps, model)
    window_steps = WindowSteps(
        accounts, max_num_seqs, found.clock.makespan_ms, lacks=known.lacks, processed=found.processed
    )
    figures = step_figures(window_steps)
    undefined = undefined_figures(window_steps, figures)
    figures |= _request_figures(trace, starts, rows, window)
    metrics = {name: measure(name, value, bases.basis(METRICS[name])) for name, value in figures.items()}
    chosen = 1
    if view is not None:
        metrics |= energy_figures(accounts.totals, view)
        if bands:
            banded = _banded(steps, model if prefills else model.without_prefill(), measured, view)
            chosen = len(banded.variants)
            metrics = add_ranges(metrics, banded.ranges(view))
    bounds = bound_fractions(found.unavoidable_ms, accounts.totals.idle_ms, accounts.totals.rank_ms)
    if told is not None and bounds["unavoidable_idle_fraction"] and (reason := _why_nothing_is_provable(model, told)):
        bounds = {"unavoidable_idle_fraction": 0.0, "avoidable_idle_fraction": sum(bounds.values())}
        notes.append(f"no idle is claimed to be unavoidable: {reason}")
    return StepAnalysis(
        accounts=accounts,
        steps=steps,
        metrics=metrics,
        model=told_model if prefills else told_model.without_prefill(),
        known=known,
        rank_times=bases.rank_times,
        step_times=bases.step_times,
        work_factor=None if told is None else _work_factor(told),
        slow_ranks={} if told is None else told.slow_ranks,
        undefined=undefined,
        notes=tuple(notes),
        headroom={name: measure(name, value, "modelled") for name, value in bounds.items()},
        lengths_known=active is not None,
        admissions=admissions,
        rows=rows,
        modelled_idle=found.modelled_idle_ms / found.modelled_rank_ms,
        most_running=found.most_running,
        energy=view,
        variants=chosen,
    )


def _suited_model(
    trace: Trace, known: KnownPart, default: StepTimeModel, told: RankTimes | None
) -> tuple[StepTimeModel, list[str]]:
    """The model of a trace for which none is given, and notes where it was fitted to step times."""
    in_header = model_in_header(trace)
    if in_header is not None:
        return in_header, []
    if told is not None:
        return told.model, []
    if known.is_whole and trace.meta.no_barrier is None and has_measured_times(trace):
        return own_model(trace, default)
    return default, []


def _with_told_speeds(model: StepTimeModel, told: RankTimes | None) -> StepTimeModel:
    """The model with the speeds that measured rank times tell, unless it has some."""
    if told is None or model.rank_speeds:
        return model
    return model.with_speeds({rank: 1 / factor for rank, factor in told.other_ranks.items()})


def _why_nothing_is_provable(model: StepTimeModel, told: RankTimes) -> str:
    """Why measured rank times prove nothing on other placements; empty where they do, or where a model was given."""
    if model.name != FITTED:
        return ""
    if not told.constant_is_known:
        return "the part of rank times that no load explains is not known"
    if told.unknown_speeds and not model.rank_speeds:
        unknown = told.unknown_speeds
        who = f"rank {unknown[0]} is" if len(unknown) == 1 else f"{len(unknown)} of {len(told.factors)} ranks are"
        return f"the rank times do not tell how fast {who} against the others"
    return ""


def _banded(steps: StepBlocks, model: StepTimeModel, measured: bool, view: EnergyView) -> BandedRun:
    """The steps under the variants of the model; what was measured has none."""
    if measured:
        model = replace(model, bands=())
    elif steps.tells("step_ms"):
        model = replace(model, bands=tuple(band for band in model.bands if band.coefficient != "C"))
    each_totals = [totals(steps, Accounting(each, measured, view.power.curves)) for each in slope_models(model)]
    return BandedRun.of(variants(model), each_totals, [{}] * len(each_totals))


def _notes_on_times(accounts: AccountFold, told: RankTimes | None) -> list[str]:
    """What the rank times say of the step model and of slow ranks."""
    notes = []
    if accounts.sums.over_step:
        notes.append(
            f"in {accounts.sums.over_step:,} of {len(accounts):,} steps the largest rank time exceeds the step's wall "
            "time: the step model is too slow for this trace; name another with --step-model"
        )
    if told is not None:
        notes += told.notes
        notes += [
            f"rank {rank} takes {factor:.2f}x the time that its load explains: look at its hardware, "
            "its host or what else runs there"
            for rank, factor in told.slow_ranks.items()
        ]
        notes += [late_rank(rank, more_ms) for rank, more_ms in told.late_ranks.items()]
    return notes


def model_in_header(trace: Trace) -> StepTimeModel | None:
    """The model that the header of a trace names: a replayed trace was made by it. Raises `InputError`."""
    if trace.meta.step_model is None:
        return None
    try:
        return StepTimeModel.from_dict(trace.meta.step_model)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(trace.meta.source, f"is no step-time model: {error}", field="step_model") from error


def _rows(trace: Trace, steps: StepBlocks, starts: Starts | None, window: Window, max_num_seqs: int | None) -> slice:
    if window == "all":
        return slice(0, len(steps))
    last_row = None
    if starts is not None and not starts.are_in_order:
        reason = "runs backwards" if starts.are_backwards else "is not known in all steps"
        raise UsageError(
            f"the clock of {trace.meta.source} {reason}, so which steps come before the last admission is open, "
            "expected ",
            Parameter("window", "all"),
            parameter=Parameter("window", window),
        )
    requests = trace.requests
    if requests is not None and "admitted_ms" in requests.columns and starts is not None:
        last = requests["admitted_ms"].max()
        last_row = None if last is None else int(np.searchsorted(starts.start_ms, float(last)))  # type: ignore[arg-type]
    slots = None if max_num_seqs is None else max_num_seqs * steps.dp_size
    running = steps.series(lambda block: np.asarray(block.num_running.sum(axis=1)))
    return window_bounds(window, running, slots=slots, last_admission_row=last_row, source=trace.meta.source)


def _work_factor(told: RankTimes) -> FloatArray:
    return np.array([np.nan if factor is None else factor.value for factor in told.factors])


def _request_figures(trace: Trace, starts: Starts | None, rows: slice, window: Window) -> dict[str, float]:
    """Latency and waits of the requests that count: of a window those that enter a step of its rows.

    `starts` are of all steps, so that waits count those before the window too.
    """
    requests = trace.requests
    if requests is None:
        return {}
    known = {"admitted_ms", "finish_ms"} <= set(requests.columns)
    if known:
        requests = requests.filter(pl.col("finish_ms").is_not_null() & pl.col("admitted_ms").is_not_null())
    if not known or requests.is_empty():
        return {}
    waited = None
    if starts is not None and starts.are_in_order:
        if window != "all":
            entered = np.searchsorted(starts.start_ms, requests["admitted_ms"].to_numpy())
            requests = requests.filter((entered >= rows.start) & (entered < rows.stop))
        if "arrival_ms" in requests.columns:
            waited = waited_steps(requests, starts.start_ms)
    has_first_token = trace.meta.kind == "recorded" or bool(trace.meta.config.get("prefill"))
    return request_metrics(RequestTimes(requests, has_first_token=has_first_token), waited)

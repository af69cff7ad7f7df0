"""The result of a replay that is repeated with several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbal.analyzers.result.result import Result, Run, input_record
from lbal.analyzers.result.runs import least_idle, reference_of
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.differences import difference_record
from lbal.analyzers.wording.findings import replay_headroom
from lbal.analyzers.wording.numbers import count
from lbal.analyzers.wording.verdict import leaders, replay_headline
from lbal.replay.experiment.progress import Display
from lbal.replay.experiment.repeats import Experiment, block_length, means, repeated


def repeated_result(
    trace: Trace,
    experiment: Experiment,
    repeat: int,
    jobs: int | None,
    notes: Sequence[str],
    display: Display,
    *,
    sized: bool,
) -> Result:
    """The means over the seeds, with 95% intervals and paired differences against the reference."""
    scenario, seeds = experiment.scenario, experiment.seeds(repeat)
    runs = means(_all_runs(experiment, repeat, jobs, display), seeds, experiment.resample)
    config = {**scenario.config(), "repeat": repeat, "resample": experiment.resample}
    reference, best = reference_of(runs), least_idle(runs)
    pairs = [difference_record(trace.meta.source, reference, run) for run in runs if run is not reference]
    return Result(
        command="replay",
        inputs=[input_record(trace)],
        config=config,
        runs=runs,
        headline=replay_headline(runs, reference, _rests_on(leaders(runs), pairs, repeat)),
        notes=[
            *trace.meta.warnings,
            *notes,
            *scenario.notes(trace, runs, config, sized=sized),
            _note(experiment, seeds),
        ],
        headroom={
            "reference": reference.label,
            "best": best.label,
            "findings": replay_headroom(runs, reference),
        },
        comparison={"pairs": pairs} if pairs else {},
    )


def _all_runs(experiment: Experiment, repeat: int, jobs: int | None, display: Display) -> list[list[Run]]:
    from joblib import cpu_count

    found = []
    with display.repeating(repeat) as advance:
        for runs in repeated(experiment, repeat, jobs or cpu_count()):
            found.append(runs)
            advance()
    return found


def _rests_on(best: Sequence[Run], pairs: Sequence[dict[str, Any]], repeat: int) -> str:
    """How many seeds the figures rest on, and how sure the difference in idle of one best run to the reference is."""
    text = f"means of {repeat} seeds"
    for pair in pairs:
        if len(best) == 1 and pair["head_run"] == best[0].label:
            mark = next(each["mark"] for each in pair["differences"] if each["metric"] == "barrier_idle_fraction")
            sure = {"better": "is sure", "equal": "is none"}.get(mark, f"is {mark}")
            text += f", the difference in idle {sure}"
    return text


def _note(experiment: Experiment, seeds: Sequence[int]) -> str:
    text = f"figures are means over the seeds {seeds[0]} to {seeds[-1]}"
    scenario = experiment.scenario
    if scenario.conditions.arriving.are_drawn:
        text += ", each with arrivals of its own"
    if experiment.resample == "none":
        alike = ": only policies that draw differ between seeds" if not scenario.conditions.arriving.are_drawn else ""
        return f"{text} on the same requests{alike}"
    length = count(block_length(len(scenario.workload)), "consecutive request")
    return f"{text}; each draws its requests from the trace in blocks of {length}, the same for every policy"

"""`lbal replay --repeat`: the result of several seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbal.analyzers.result.result import Result, Run
    from lbal.analyzers.trace.trace import Trace
    from lbal.replay.experiment.repeats import Experiment


def check_repeats(repeat: int, resample: str, *, traces: bool, bands: bool) -> None:
    """Refuse repeats that cannot be."""
    from lbal.analyzers.errors import UsageError
    from lbal.cli.options.options import chosen
    from lbal.replay.experiment.repeats import MOST_REPEATS

    chosen(resample, ("blocks", "none"), "--resample")
    if not 1 <= repeat <= MOST_REPEATS:
        raise UsageError(f"--repeat: {repeat} does not fit, expected a whole number from 1 to {MOST_REPEATS:,}")
    if repeat > 1 and traces:
        raise UsageError("--repeat: its runs have no single trace to write, expected reports as outputs")
    if repeat > 1 and bands:
        raise UsageError("--repeat: its intervals and --bands are not shown together, expected one of them")


def repeated_result(
    trace: Trace, experiment: Experiment, repeat: int, jobs: int | None, notes: list[str], *, sized: bool
) -> Result:
    """The means over the seeds, with 95% intervals and paired differences against the reference."""
    from lbal.analyzers.result.result import Result, input_record
    from lbal.analyzers.wording.differences import difference_record
    from lbal.analyzers.wording.findings import replay_headline, replay_headroom, window_note
    from lbal.cli.results.replay_findings import least_idle
    from lbal.cli.results.replay_setting import notes_on_load, replay_config
    from lbal.replay.experiment.figures import reference_of
    from lbal.replay.experiment.repeats import means

    seeds = experiment.seeds(repeat)
    runs = means(_all_runs(experiment, repeat, jobs), seeds, experiment.resample)
    workload, cluster, conditions = experiment.workload, experiment.cluster, experiment.conditions
    config = replay_config(cluster, conditions, experiment.window, experiment.view)
    config |= {"repeat": repeat, "resample": experiment.resample}
    reference = reference_of(runs)
    load = notes_on_load(trace, workload, cluster, conditions, runs, config, sized=sized)
    notes = [*trace.meta.warnings, *notes, *load, *window_note(config, runs), _note(experiment, seeds)]
    pairs = [difference_record(trace.meta.source, reference, run) for run in runs if run is not reference]
    return Result(
        command="replay",
        inputs=[input_record(trace)],
        config=config,
        runs=runs,
        headline=_headline(replay_headline(runs, reference), least_idle(runs).label, pairs, repeat),
        notes=notes,
        headroom={
            "reference": reference.label,
            "best": least_idle(runs).label,
            "findings": replay_headroom(runs, reference),
        },
        comparison={"pairs": pairs} if pairs else {},
    )


def _all_runs(experiment: Experiment, repeat: int, jobs: int | None) -> list[list[Run]]:
    from joblib import cpu_count

    from lbal.cli.output.progress import seed_progress
    from lbal.replay.experiment.repeats import repeated

    found = []
    with seed_progress(repeat) as advance:
        for runs in repeated(experiment, repeat, jobs or cpu_count()):
            found.append(runs)
            advance()
    return found


def _headline(text: str, best: str, pairs: list[dict[str, Any]], repeat: int) -> str:
    """The headline with how many seeds it rests on, and how sure the difference of the best in idle is."""
    extra = f"means of {repeat} seeds"
    for pair in pairs:
        if pair["head_run"] == best:
            mark = next(each["mark"] for each in pair["differences"] if each["metric"] == "barrier_idle_fraction")
            sure = {"better": "is sure", "equal": "is none"}.get(mark, f"is {mark}")
            extra += f", the difference in idle {sure}"
    return text.replace("(modelled).", f"(modelled; {extra}).")


def _note(experiment: Experiment, seeds: list[int]) -> str:
    from lbal.analyzers.wording.numbers import count
    from lbal.replay.experiment.repeats import block_length

    text = f"figures are means over the seeds {seeds[0]} to {seeds[-1]}"
    if experiment.resample == "none":
        return f"{text} on the same requests: only policies that draw differ between seeds"
    length = count(block_length(len(experiment.workload)), "consecutive request")
    return f"{text}; each draws its requests from the trace in blocks of {length}, the same for every policy"

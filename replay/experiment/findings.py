"""What a replay adds to its runs beside their own figures, with the sentences on it: bands, headroom, fidelity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lbal.analyzers.analysis.fidelity import fidelity_of, with_fidelity
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.energy.sensitivity import compare
from lbal.analyzers.metrics import SMALLEST_SHARE, measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.result.runs import least_idle, reference_of
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.energy import band_findings, fidelity_findings, replay_counterfactual
from lbal.analyzers.wording.findings import placement_sentence, replay_headroom
from lbal.replay.experiment.figures import banded, place_of, with_ranges
from lbal.replay.experiment.progress import Display
from lbal.replay.experiment.same_admissions import admissions_of, idle_placed_anew
from lbal.replay.experiment.scenario import Scenario
from lbal.replay.experiment.windowed import Windowed


def with_bands(runs: Sequence[Run], windowed: Sequence[Windowed], view: EnergyView) -> tuple[list[Run], dict[str, Any]]:
    """The runs with their ranges, and how the best compares with the reference over the bands."""
    found = [banded(each) for each in windowed]
    best, reference = place_of(least_idle(runs), runs), place_of(reference_of(runs), runs)
    comparisons = [] if best == reference else compare(found[best], found[reference], view)
    labels = runs[best].label, runs[reference].label
    record = {
        "variants": len(found[0].variants),
        "comparisons": [each.as_dict() for each in comparisons],
        "findings": band_findings(*labels, comparisons) if comparisons else [],
    }
    return with_ranges(runs, found, view), record


def with_fidelity_of(trace: Trace, runs: list[Run], scenario: Scenario) -> tuple[list[Run], dict[str, Any]]:
    """The runs with the fidelity of the model, and of the recorded placement where that was replayed as it was."""
    found = fidelity_of(
        trace, runs, scenario.cluster.step_model, scenario.window, as_recorded=scenario.is_that_of(trace)
    )
    if found is None:
        return runs, {}
    record = found.as_dict()
    findings = fidelity_findings(record, recorded=any(run.policy == "recorded" for run in runs))
    return with_fidelity(runs, found), {**record, "findings": findings}


def with_placement(
    runs: Sequence[Run], windowed: Sequence[Windowed], scenario: Scenario, display: Display
) -> tuple[list[Run], list[str]]:
    """The runs, and of the recorded placement also what the solver's for the same admissions would idle."""
    index = next((index for index, run in enumerate(runs) if run.policy == "recorded"), None)
    if index is None or scenario.cluster.prefill is not None:
        return list(runs), []
    run, each = runs[index], windowed[index]
    idle = run.metrics["barrier_idle_fraction"].value
    if idle <= SMALLEST_SHARE:
        return list(runs), []
    workload = scenario.workload
    with display.replaying("placing anew", len(workload)) as on_progress:
        anew = idle_placed_anew(
            admissions_of(each.replayed, workload), scenario.cluster, scenario.conditions.drift, each.rows, on_progress
        )
    placed, sentence = placed_anew(run, "recorded", idle, anew)
    return [*runs[:index], placed, *runs[index + 1 :]], [sentence]


def placed_anew(run: Run, name: str, modelled_idle: float, idle: float) -> tuple[Run, str]:
    """The run with the share of rank-time that is idle if the solver places its admissions anew, and a sentence."""
    headroom = {**run.headroom, "replaced_idle_fraction": measure("replaced_idle_fraction", idle, "modelled")}
    unavoidable = run.headroom["unavoidable_idle_fraction"].value
    return replace(run, headroom=headroom), placement_sentence(name, modelled_idle, idle, unavoidable)


def headroom_record(runs: Sequence[Run], placed: Sequence[str], view: EnergyView) -> dict[str, Any]:
    """What headroom and the counterfactual say; `placed` are the sentences on placements anew."""
    best, reference = least_idle(runs), reference_of(runs)
    first, *others = replay_headroom(runs, reference)
    findings = [first, *placed, *others, replay_counterfactual(reference, view)]
    return {"reference": reference.label, "best": best.label, "findings": findings}

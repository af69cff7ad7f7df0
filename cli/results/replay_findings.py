"""What a replay adds to its runs beside their own figures: bands, headroom, energy, fidelity, with their findings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbal.analyzers.energy.power import EnergyView
    from lbal.analyzers.result.result import Run
    from lbal.analyzers.trace.trace import Trace
    from lbal.replay.engine.engine import Cluster, Conditions, Replay
    from lbal.replay.scenario.workload import Workload


def least_idle(runs: Sequence[Run]) -> Run:
    """The run with the least barrier idle."""
    return min(runs, key=lambda run: run.metrics["barrier_idle_fraction"].value)


def savings(runs: list[Run], view: EnergyView) -> list[str]:
    """What the policy that idles least saves in energy, in words."""
    from lbal.analyzers.wording.energy import energy_findings
    from lbal.replay.experiment.figures import reference_of

    return energy_findings(runs, reference_of(runs), least_idle(runs), view)


def with_bands(
    runs: list[Run], replays: list[Replay], view: EnergyView, window: Any
) -> tuple[list[Run], dict[str, Any]]:
    """The runs with their ranges, and how the best compares with the reference over the bands."""
    from lbal.analyzers.energy.sensitivity import compare
    from lbal.analyzers.wording.energy import band_findings
    from lbal.replay.experiment.figures import banded, reference_of, with_ranges

    found = [banded(replayed, window) for replayed in replays]
    best, reference = (
        next(i for i, run in enumerate(runs) if run is one) for one in (least_idle(runs), reference_of(runs))
    )
    comparisons = [] if best == reference else compare(found[best], found[reference], view)
    labels = runs[best].label, runs[reference].label
    record = {
        "variants": len(found[0].variants),
        "comparisons": [each.as_dict() for each in comparisons],
        "findings": band_findings(*labels, comparisons) if comparisons else [],
    }
    return with_ranges(runs, found, view), record


def with_fidelity_of(trace: Trace, runs: list[Run], cluster: Cluster, window: Any) -> tuple[list[Run], dict[str, Any]]:
    """The runs with the fidelity of the recorded placement, where that was replayed and measured."""
    if trace.steps is None or all(run.policy != "recorded" for run in runs):
        return runs, {}
    from lbal.analyzers.analysis.fidelity import fidelity_of, with_fidelity
    from lbal.analyzers.wording.energy import fidelity_findings

    found = fidelity_of(trace, runs, cluster.step_model, window)
    if found is None:
        return runs, {}
    record = found.as_dict()
    return with_fidelity(runs, found), {**record, "findings": fidelity_findings(record)}


def with_headroom(
    runs: list[Run],
    replays: list[Replay],
    workload: Workload,
    cluster: Cluster,
    conditions: Conditions,
    window: Any,
    view: EnergyView,
) -> tuple[list[Run], dict[str, Any]]:
    """The runs with their headroom, and what it and the counterfactual say."""
    from dataclasses import replace

    from lbal.analyzers.wording.energy import replay_counterfactual
    from lbal.analyzers.wording.findings import replay_headroom
    from lbal.replay.experiment.figures import headroom_of, reference_of, with_recovered

    bounds = [headroom_of(replayed, workload, cluster, conditions, window) for replayed in replays]
    runs = with_recovered([replace(run, headroom=found) for run, found in zip(runs, bounds, strict=True)])
    runs, placed = _placed_anew(runs, replays, workload, cluster, conditions, window)
    best, reference = least_idle(runs), reference_of(runs)
    sentences = replay_headroom(runs, reference)
    findings = [*sentences[:1], *placed, *sentences[1:], replay_counterfactual(runs, reference, best, view)]
    return runs, {"reference": reference.label, "best": best.label, "findings": findings}


def _placed_anew(
    runs: list[Run], replays: list[Replay], workload: Workload, cluster: Cluster, conditions: Conditions, window: Any
) -> tuple[list[Run], list[str]]:
    """The runs, the recorded placement among them with what the solver's for the same admissions would idle."""
    from dataclasses import replace

    from lbal.analyzers.metrics import SMALLEST_SHARE, measure
    from lbal.analyzers.wording.findings import placement_sentence
    from lbal.cli.output.progress import replay_progress
    from lbal.replay.experiment.figures import rows_of
    from lbal.replay.experiment.same_admissions import admissions_of, idle_placed_anew

    found, name = list(runs), "replaced_idle_fraction"
    for index, (run, replayed) in enumerate(zip(runs, replays, strict=True)):
        idle = run.metrics["barrier_idle_fraction"].value
        if run.policy != "recorded" or idle <= SMALLEST_SHARE:
            continue
        with replay_progress("placing anew", len(workload)) as on_progress:
            anew = idle_placed_anew(
                admissions_of(replayed, workload), cluster, conditions.drift, rows_of(replayed, window), on_progress
            )
        found[index] = replace(run, headroom={**run.headroom, name: measure(name, anew, "modelled")})
        unavoidable = run.headroom["unavoidable_idle_fraction"].value
        return found, [placement_sentence("recorded", idle, anew, unavoidable)]
    return found, []

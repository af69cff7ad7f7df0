"""Findings on energy, perfect balance, bands and fidelity in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.energy.sensitivity import Comparison
from lbal.analyzers.metrics import SMALLEST_SHARE, Measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import UNITS_OF_COEFFICIENTS, coefficient, listed, percent, shown_value

PERFECT_SAVING = "perfect_balance_energy_saving_fraction"
CHANGES = {
    "tokens_per_second": ("throughput", "higher"),
    "tpot_ms_mean": ("mean TPOT", "lower"),
    "barrier_idle_fraction": ("barrier idle", "lower"),
    "energy_joules_per_token": ("energy per token", "lower"),
}
LEVEL_WORDS = {"low": "low", "high": "high", "idle": "idle", "busy": "busy"}


def counterfactual(run: Run, view: EnergyView, who: str) -> str:
    """What perfect balance of the same admissions would have given, as a clause without an end.

    Steps get shorter, not the run: where arrivals set the pace, the run waits for them. `who` is "of this trace" or
    "under" a policy.
    """
    shorter, saved = _shorter_steps(run.metrics["perfect_balance_speedup"]), run.metrics.get(PERFECT_SAVING)
    if shorter.value <= SMALLEST_SHARE:
        return f"With perfect balance the steps {who} would have been no shorter"
    text = f"With perfect balance the steps {who} would have been {percent(shorter.value)}{_span(shorter)} shorter"
    if saved is None:
        return text
    used = "less" if saved.value >= 0 else "more"
    text += f" and used {percent(abs(saved.value))}{_span(saved)} {used} energy"
    rests = view.power.waits_apart and saved.value > SMALLEST_SHARE
    return text + (", all of it resting on the assumed wait power" if rests else "")


def _shorter_steps(speedup: Measure) -> Measure:
    """By what share of their time steps get shorter, from how much faster they get: 1 - 1/speedup."""
    ends = (None if end is None else 1 - 1 / end for end in (speedup.low, speedup.high))
    return Measure(1 - 1 / speedup.value, "fraction", speedup.basis, *ends)


def _span(value: Measure) -> str:
    """The range of a share that is told without its sign."""
    if value.low is None or value.high is None:
        return ""
    ends = (value.low, value.high) if value.value >= 0 else (-value.high, -value.low)
    low, high = (percent(end) for end in ends)
    return f" ({low} to {high})" if low != high else ""


def analysis_counterfactual(run: Run, view: EnergyView) -> str:
    """The counterfactual of a trace."""
    basis = run.metrics["perfect_balance_speedup"].basis
    return f"{counterfactual(run, view, 'of this trace')} (time {basis}, energy modelled)."


def replay_counterfactual(reference: Run, view: EnergyView) -> str:
    """The counterfactual of the reference, beside how much shorter the whole run of any policy can be at most.

    What a policy recovers of it is said once, of the idle (`findings.headroom_sentence`).
    """
    who = "of this trace, placed as recorded," if reference.policy == "recorded" else f"under {reference.label}"
    text = counterfactual(reference, view, who)
    if "makespan_bound_fraction" not in reference.headroom:
        return f"{text} (modelled)."
    run_share = 1 - reference.headroom["makespan_bound_fraction"].value
    if _shorter_steps(reference.metrics["perfect_balance_speedup"]).value > run_share + SMALLEST_SHARE:
        most = f"at most {percent(run_share)} shorter" if run_share > SMALLEST_SHARE else "no shorter"
        text += f"; under any policy the whole run is {most}, as {reference.label} is that close to its least time"
    return f"{text} (modelled)."


def energy_findings(runs: Sequence[Run], reference: Run, best: Run, view: EnergyView) -> list[str]:
    """What the best policy saves against the reference, and how much of that rests on the wait power."""
    if len(runs) == 1 or best is reference or "energy_saving_fraction" not in best.metrics:
        return []
    saved = best.metrics["energy_saving_fraction"]
    if abs(saved.value) <= SMALLEST_SHARE:
        return [f"{best.label} uses as much energy per token as {reference.label} (modelled)."]
    text = (
        f"{best.label} uses {percent(abs(saved.value))} {'less' if saved.value > 0 else 'more'} energy per token than "
    )
    text += reference.label
    if saved.low is not None and saved.high is not None:
        text += f" ({_signed(-saved.high)} to {_signed(-saved.low)}"
        flips = saved.low < -SMALLEST_SHARE and saved.high > SMALLEST_SHARE
        text += ": the sign flips inside the range)" if flips else ")"
    share = best.metrics.get("energy_saving_wait_share")
    if share is not None:
        text += f"; {_share_words(share.value)} of the saving rests on the assumed wait power"
    elif not view.power.waits_apart:
        text += "; its power model follows load and has no wait power"
    return [f"{text} (modelled)."]


def _share_words(share: float) -> str:
    if share > 1 + SMALLEST_SHARE:
        return f"all ({percent(share)}: the busy part grows)"
    return "all" if share >= 1 - SMALLEST_SHARE else percent(max(share, 0.0))


def _signed(value: float) -> str:
    value = 0.0 if abs(value) < SMALLEST_SHARE else value
    return ("+" if value > 0 else "-" if value < 0 else "") + percent(abs(value))


def band_findings(best: str, reference: str, comparisons: Sequence[Comparison]) -> list[str]:
    """How the comparison moves over the bands, and where its sign flips, in words."""
    found = []
    for each in comparisons:
        name, _better = CHANGES[each.metric]
        low, high = _signed(each.low), _signed(each.high)
        text = f"{name} of {best} against {reference}: {_signed(each.nominal)}"
        text += f", {low} to {high} over the bands" if low != high else ", the same over the bands"
        if each.flips:
            assert each.against is not None
            text += f". The sign flips inside the bands: with {_setting_words(each)} {best} does "
            text += "worse" if _is_good(each) else "better"
        found.append(text[0].upper() + text[1:] + ".")
    if not any(each.flips for each in comparisons):
        found.append("No comparison changes its sign inside the bands.")
    return found


def _is_good(each: Comparison) -> bool:
    return (each.nominal > 0) == (CHANGES[each.metric][1] == "higher")


def _setting_words(each: Comparison) -> str:
    assert each.against is not None
    variant, power = each.against
    words = [f"{name} {LEVEL_WORDS[level]}" for name, level in variant.levels.items()]
    words += [f"{name} power {LEVEL_WORDS[level]}" for name, level in power._asdict().items() if level != "nominal"]
    return listed(words) or "nominal values"


def calibration_headline(found: Mapping[str, Any]) -> str:
    """The coefficients and how well they fit, in one sentence."""
    values = [
        f"{name} {coefficient(name, interval['value'])} {UNITS_OF_COEFFICIENTS[name][0]}"
        for name, interval in found["coefficients"].items()
    ]
    errors, held_out = found["errors"], found["held_out"]
    return (
        f"{listed(values)}, fitted to {found['fitted_to']}: R2 of step times {errors['r2']:.3f}, p95 error "
        f"{percent(errors['p95'])}, "
        + ("nothing held out." if held_out is None else f"and {percent(held_out['p95'])} on steps held out.")
    )


def fidelity_findings(found: Mapping[str, Any], *, recorded: bool) -> list[str]:
    """How far modelled step times and idle are from the measured ones; `recorded` tells whether that was replayed."""
    errors = found["on_recorded_loads"]
    told = [
        f"On the {errors['steps']:,} recorded steps the model misses half of the step times by less than "
        f"{percent(errors['p50'])} and one in twenty by more than {percent(errors['p95'])}; "
        f"their sum by {_signed(errors['bias'])}."
    ]
    if "step_ms_mean" not in found:
        other = "The replay is of another rate or size than the trace: its figures are not held against measured ones."
        return [*told, other] if recorded else told
    step, idle = found["step_ms_mean"], found["barrier_idle_fraction"]
    told.append(
        f"Replaying recorded gives a mean step of {shown_value(step['replayed'], 'ms')} ms against "
        f"{shown_value(step['measured'], 'ms')} ms measured ({_signed(step['replayed'] / step['measured'] - 1)})"
    )
    if idle["measured"] is None:
        told[1] += "; idle was not measured."
    else:
        told[1] += f", and {percent(idle['replayed'])} idle against {percent(idle['measured'])} measured."
    return told

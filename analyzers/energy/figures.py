"""From the totals of runs to figures of energy: of a run, with perfect balance, and against a reference."""

from __future__ import annotations

from collections.abc import Callable

from lbal.analyzers.energy.power import NOMINAL, EnergyView, PowerPoint, RunTotals
from lbal.analyzers.metrics import Measure, measure

SMALLEST_SAVING = 5e-5
"""Savings below it are shown as zero; there is no share of them to tell."""


def energy_figures(totals: RunTotals, view: EnergyView) -> dict[str, Measure]:
    """The energy metrics of a run by name, with the range that the power model gives; all are modelled.

    Totals must be taken with the curves of the power model.
    """
    power, k, tokens = view.power, view.gpus_per_rank, totals.tokens
    nominal = power.energy(totals, k)
    figures = {"energy_joules": _ranged(lambda point: power.energy(totals, k, point).joules, view)}
    if tokens > 0:
        per_token = [value / tokens for value in figures["energy_joules"]]
        figures["energy_joules_per_token"] = (per_token[0], per_token[1], per_token[2])
    if power.waits_apart:
        figures["energy_wait_fraction"] = _ranged(lambda point: wait_fraction(totals, view, point), view)
        for bound in ("idle", "busy") if tokens > 0 else ():
            joules = power.energy(totals, k, PowerPoint(wait=bound)).joules
            figures[f"energy_joules_per_token_wait_{bound}"] = (joules / tokens,) * 3
    figures["perfect_balance_energy_saving_fraction"] = _ranged(lambda point: balance_saving(totals, view, point), view)
    found = {name: _measure(name, *values) for name, values in figures.items()}
    if view.costs is not None and tokens > 0:
        extra = view.costs.figures(totals, nominal.joules, nominal.wait_joules, k)
        found |= {name: measure(name, value, "modelled") for name, value in extra.items()}
    return found


def wait_fraction(totals: RunTotals, view: EnergyView, point: PowerPoint = NOMINAL) -> float:
    """Share of a run's energy that is spent waiting at the barrier."""
    energy = view.power.energy(totals, view.gpus_per_rank, point)
    return energy.wait_joules / energy.joules


def balance_saving(totals: RunTotals, view: EnergyView, point: PowerPoint = NOMINAL) -> float:
    """Share of a run's energy that perfect balance of the same admissions would save; below 0 where it costs."""
    joules = view.power.energy(totals, view.gpus_per_rank, point).joules
    return 1 - view.power.balanced_joules(totals, view.gpus_per_rank, point) / joules


def saving(totals: RunTotals, reference: RunTotals, view: EnergyView, point: PowerPoint = NOMINAL) -> float:
    """1 - energy per token over that of a reference."""
    ours, theirs = (
        view.power.energy(each, view.gpus_per_rank, point).joules / each.tokens for each in (totals, reference)
    )
    return 1 - ours / theirs


def saving_figures(totals: RunTotals, reference: RunTotals, view: EnergyView) -> dict[str, Measure]:
    """`energy_saving_fraction` with its range, and the share of it that rests on the wait power, where it saves.

    That share is the saved wait energy per token over the saved energy per token, at nominal power. It exceeds 1 where
    the busy part grows.
    """
    if not totals.tokens or not reference.tokens:
        return {}
    name = "energy_saving_fraction"
    found = {name: _measure(name, *_ranged(lambda point: saving(totals, reference, view, point), view))}
    if view.power.waits_apart and found[name].value > SMALLEST_SAVING:
        ours, theirs = (view.power.energy(each, view.gpus_per_rank) for each in (totals, reference))
        waited = theirs.wait_joules / reference.tokens - ours.wait_joules / totals.tokens
        saved = theirs.joules / reference.tokens - ours.joules / totals.tokens
        found["energy_saving_wait_share"] = measure("energy_saving_wait_share", waited / saved, "modelled")
    return found


def identity_saving(eta: float, rho: float, c: float, alpha: float) -> float:
    """Share of the energy saved when imbalance shrinks by a factor `alpha` and the work stays, with two powers.

    rho*eta*(1 - 1/alpha) / (1 + c + rho*eta), with eta = imbalance / work (both in tokens), rho = wait power / busy
    power and c = shared time / working time, exact for b = 0 and one busy power. The tests hold the accounting to it.
    """
    return rho * eta * (1 - 1 / alpha) / (1 + c + rho * eta)


def _ranged(figure: Callable[[PowerPoint], float], view: EnergyView) -> tuple[float, float, float]:
    """A figure at nominal power, and its smallest and largest value over the ends of the ranges."""
    values = [figure(point) for point in view.power.points()]
    return figure(NOMINAL), min(values), max(values)


def _measure(name: str, value: float, low: float, high: float) -> Measure:
    return measure(name, value, "modelled", *((low, high) if low < high else (None, None)))

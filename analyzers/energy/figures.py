"""From the totals of runs to figures of energy: of a run, with perfect balance, and against a reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.energy.power import NOMINAL, EnergyView, PowerPoint
from lbal.analyzers.metrics import SMALLEST_SHARE, Measure, measure

BOUNDS: tuple[Literal["idle", "busy"], ...] = ("idle", "busy")
"""What a waiting rank draws at the least and at the most: the power of an idle one, of a working one."""


def energy_figures(totals: RunTotals, view: EnergyView) -> dict[str, Measure]:
    """The energy metrics of a run by name, with the range that the power model gives; all are modelled.

    Totals must be taken with the curves of the power model.
    """
    points = [figures_at(totals, view, point) for point in view.power.points()]
    found = {
        name: _measure(name, value, [each[name] for each in points]) for name, value in figures_at(totals, view).items()
    }
    if view.costs is not None and totals.tokens > 0:
        nominal = view.power.energy(totals, view.gpus_per_rank)
        extra = view.costs.figures(totals, nominal.joules, nominal.wait_joules, view.gpus_per_rank)
        found |= {name: measure(name, value, "modelled") for name, value in extra.items()}
    return found


def figures_at(totals: RunTotals, view: EnergyView, point: PowerPoint = NOMINAL) -> dict[str, float]:
    """The energy metrics of a run by name, at one point of the power model."""
    power, k, tokens = view.power, view.gpus_per_rank, totals.tokens
    energy = power.energy(totals, k, point)
    figures = {"energy_joules": energy.joules}
    if tokens > 0:
        figures["energy_joules_per_token"] = energy.joules / tokens
    if power.waits_apart:
        figures["energy_wait_fraction"] = energy.wait_joules / energy.joules
        for bound in BOUNDS if tokens > 0 else ():
            joules = power.energy(totals, k, PowerPoint(wait=bound)).joules
            figures[f"energy_joules_per_token_wait_{bound}"] = joules / tokens
    figures["perfect_balance_energy_saving_fraction"] = 1 - power.balanced_joules(totals, k, point) / energy.joules
    return figures


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
    at_points = [saving(totals, reference, view, point) for point in view.power.points()]
    found = {name: _measure(name, saving(totals, reference, view), at_points)}
    if view.power.waits_apart and found[name].value > SMALLEST_SHARE:
        ours, theirs = (view.power.energy(each, view.gpus_per_rank) for each in (totals, reference))
        waited = theirs.wait_joules / reference.tokens - ours.wait_joules / totals.tokens
        saved = theirs.joules / reference.tokens - ours.joules / totals.tokens
        found["energy_saving_wait_share"] = measure("energy_saving_wait_share", waited / saved, "modelled")
    return found


def _measure(name: str, value: float, at_points: Sequence[float]) -> Measure:
    """A modelled value with its smallest and largest over the points of the power model, where they differ."""
    low, high = min(at_points), max(at_points)
    return measure(name, value, "modelled", *((low, high) if low < high else (None, None)))

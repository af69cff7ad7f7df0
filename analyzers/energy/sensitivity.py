"""Sensitivity: the same trajectory under every combination of the ends of the bands, without replaying.

Loads stay what they were in every step; times, idle and energy follow the coefficients and powers. What a replay would
change beside that, who is admitted when, is left out. Every band is taken at its low end, its nominal value and its
high end, all combinations; a range is the smallest and the largest value among them.

C adds the same time to every step, so only the slopes need another pass over the loads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.energy.figures import figures_at, saving
from lbal.analyzers.energy.power import NOMINAL, EnergyView, LevelName, PowerPoint
from lbal.analyzers.metrics import METRICS, SMALLEST_SHARE, banded_figures, names_in
from lbal.analyzers.trace.trace import FloatArray, IntArray

SLOPES = ("a", "b", "p")
"""Coefficients that another pass over the loads is needed for, whose bands are followed. Those of e and C_x are not:
within them little changes beside p. Models of steps without prefill have none of the three."""


class Variant(NamedTuple):
    """A combination of ends of the bands of a step-time model."""

    levels: Mapping[str, LevelName]
    """Of the coefficients that are not nominal."""
    slopes: int
    """Index of its slopes in `slope_models`."""
    extra_ms: float
    """Its C less the nominal one."""
    per_token_s: float


class Setting(NamedTuple):
    """A variant of the step-time model together with a point of the power model."""

    variant: Variant
    power: PowerPoint


def slope_models(model: StepTimeModel) -> list[StepTimeModel]:
    """The model with every combination of the ends of its slopes; the nominal one first."""
    ends = [_ends(model, name) for name in SLOPES]
    return [
        model.with_coefficients(**dict(zip(SLOPES, [value for _, value in chosen], strict=True)))
        for chosen in product(*ends)
    ]


def variants(model: StepTimeModel) -> list[Variant]:
    """Every combination of the ends of C and of the slopes; the nominal one first."""
    slopes = list(product(*[_ends(model, name) for name in SLOPES]))
    found = []
    for (level, shared_s), (index, chosen) in product(_ends(model, "C"), enumerate(slopes)):
        levels = {"C": level, **dict(zip(SLOPES, [end for end, _value in chosen], strict=True))}
        found.append(
            Variant(
                levels={name: end for name, end in levels.items() if end != "nominal"},
                slopes=index,
                extra_ms=(shared_s - model.shared_s) * 1e3,
                per_token_s=chosen[0][1],
            )
        )
    return found


def _ends(model: StepTimeModel, name: str) -> list[tuple[LevelName, float]]:
    ends: list[tuple[LevelName, float]] = [("nominal", model.coefficient(name))]
    for band in model.bands:
        if band.coefficient == name:
            ends += [("low", band.low)] if band.low < ends[0][1] else []
            ends += [("high", band.high)] if band.high > ends[0][1] else []
    return ends


@dataclass(frozen=True)
class BandedRun:
    """A run under the variants of its step-time model; lists in the order of `variants`."""

    variants: Sequence[Variant]
    totals: Sequence[RunTotals]
    tpot_ms: Sequence[Mapping[str, float]]
    """TPOT figures by metric name; empty where requests are not known."""

    @classmethod
    def of(
        cls, chosen: Sequence[Variant], by_slopes: Sequence[RunTotals], tpot_by_slopes: Sequence[Mapping[str, float]]
    ) -> BandedRun:
        """From totals (and TPOT) for each of the `slope_models`.

        A request gets one token per step, so its TPOT changes by what every step does.
        """
        return cls(
            chosen,
            [by_slopes[each.slopes].with_longer_steps(each.extra_ms) for each in chosen],
            [{name: value + each.extra_ms for name, value in tpot_by_slopes[each.slopes].items()} for each in chosen],
        )

    def ranges(self, view: EnergyView) -> dict[str, tuple[float, float]]:
        """Smallest and largest value of each headline figure, by metric name."""
        found: dict[str, list[float]] = {}
        for each, totals, tpot in zip(self.variants, self.totals, self.tpot_ms, strict=True):
            for name, value in {**banded_figures(totals, each.per_token_s), **tpot}.items():
                found.setdefault(name, []).append(value)
            for point in view.power.points():
                for name, value in figures_at(totals, view, point).items():
                    found.setdefault(name, []).append(value)
        return {name: (min(values), max(values)) for name, values in found.items() if METRICS[name].has_range}


def saving_range(run: BandedRun, reference: BandedRun, view: EnergyView) -> tuple[float, float]:
    """Smallest and largest energy saving of a run against a reference."""
    values = [value for _setting, value in _changes("energy_joules_per_token", run, reference, view)]
    return -max(values), -min(values)


@dataclass(frozen=True)
class Comparison:
    """How a figure of one run differs from another's over the bands: relative changes, 0.02 is 2% more."""

    metric: str
    nominal: float
    low: float
    high: float
    against: Setting | None
    """Where the sign is the other one than nominally, at its largest; None where it nowhere is."""

    def as_dict(self) -> dict[str, Any]:
        """For the result."""
        against = None
        if self.against is not None:
            against = {"coefficients": dict(self.against.variant.levels), "power": self.against.power._asdict()}
        return {
            "metric": self.metric,
            "change": {"nominal": self.nominal, "low": self.low, "high": self.high},
            "flips": self.flips,
            "other_sign_at": against,
        }

    @property
    def flips(self) -> bool:
        """Whether the sign of the comparison flips inside the bands."""
        return self.against is not None


def compare(run: BandedRun, reference: BandedRun, view: EnergyView) -> list[Comparison]:
    """The headline figures of a run against those of a reference with the same variants."""
    found = []
    for name in names_in("bands"):
        changes = _changes(name, run, reference, view)
        if not changes:
            continue
        nominal = next(value for (variant, power), value in changes if not variant.levels and power == NOMINAL)
        against = min(changes, key=lambda item: item[1] * (1 if nominal > 0 else -1))
        flips = abs(nominal) > SMALLEST_SHARE and against[1] * nominal < 0 and abs(against[1]) > SMALLEST_SHARE
        values = [value for _setting, value in changes]
        found.append(Comparison(name, nominal, min(values), max(values), against[0] if flips else None))
    return found


def _changes(name: str, run: BandedRun, reference: BandedRun, view: EnergyView) -> list[tuple[Setting, float]]:
    """Relative change of a figure at every setting that it depends on."""
    found = []
    for index, variant in enumerate(run.variants):
        ours, theirs = run.totals[index], reference.totals[index]
        if name == "energy_joules_per_token":
            found += [(Setting(variant, point), -saving(ours, theirs, view, point)) for point in view.power.points()]
            continue
        pair = [
            {**banded_figures(totals, variant.per_token_s), **banded.tpot_ms[index]}.get(name)
            for totals, banded in ((ours, run), (theirs, reference))
        ]
        if pair[0] is not None and pair[1]:
            found.append((Setting(variant, NOMINAL), pair[0] / pair[1] - 1))
    return found


def tpot_ms(step_ms: FloatArray, first_step: IntArray, last_step: IntArray, output_tokens: IntArray) -> FloatArray:
    """(N,) time of each request from its first to its last step, by output token; `step_ms` of shape (S,)."""
    until = np.concatenate([[0.0], np.cumsum(step_ms)])
    return np.asarray((until[last_step + 1] - until[first_step]) / output_tokens)

"""Energy of a run: busy power while a rank works, wait power while it waits at the barrier.

Per rank and step, with k accelerators per rank, step time t and barrier idle `wait`:

    E = k * (busy(n) * (t - wait) + wait_power * wait),    busy(n) = lo + (hi - lo) * n / (n + h)

The curve is a fit to the ML.ENERGY leaderboard (docs/energy.md); presets without an h have one busy power. Both powers
are known to a range only, and what a rank draws during a short wait has hardly been measured: a saving of energy is
therefore always told with the share of it that rests on the wait power.

What a rank takes for prefill is at the power limit (TDP) instead: prefill is bound by computing, and prompts (A100,
H100) and matrix products of 512 rows or more (H200) were measured at 99 to 100% of it. At the low end of busy power
it is at the high end of that, as it is throughout where no TDP is known.

`PaperPower` is the formula of the released simulator of arXiv 2601.17855, for comparison:

    E = (idle + (max - idle) * (L / max(L))^gamma) * t

It knows of no prefill, and steps with some are taken like any other.

All energy is that of the accelerators. Time without any active request is no step and counts nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from lbal.analyzers.barrier.account_pass import PowerCurves
from lbal.analyzers.barrier.totals import RunTotals

LevelName = Literal["low", "nominal", "high"]
LEVELS: tuple[LevelName, LevelName, LevelName] = ("low", "nominal", "high")
JOULES_PER_KWH = 3.6e6


class Watts(NamedTuple):
    """A power that is known to a range, in watts per accelerator."""

    low: float
    nominal: float
    high: float


class PowerPoint(NamedTuple):
    """Which ends of the ranges of a power model are taken."""

    busy: LevelName = "nominal"
    wait: LevelName | Literal["idle", "busy"] = "nominal"
    """`idle` and `busy` are the bounds: a waiting rank draws what an idle one does, or what a working one does."""


NOMINAL = PowerPoint()


class Energy(NamedTuple):
    """Joules of a run, of all accelerators."""

    busy_joules: float
    wait_joules: float

    @property
    def joules(self) -> float:
        """Both parts."""
        return self.busy_joules + self.wait_joules


class Power(Protocol):
    """What a power model must offer."""

    @property
    def name(self) -> str:
        """For people and for the result."""

    @property
    def curves(self) -> PowerCurves:
        """What the accounts must be taken with."""

    @property
    def waits_apart(self) -> bool:
        """Whether waiting has a power of its own, so that there is a part spent waiting."""

    def points(self) -> Iterator[PowerPoint]:
        """Every combination of the ends of its ranges, the nominal one among them."""

    def energy(self, totals: RunTotals, gpus_per_rank: int, point: PowerPoint = NOMINAL) -> Energy:
        """The energy of a run."""

    def balanced_joules(self, totals: RunTotals, gpus_per_rank: int, point: PowerPoint = NOMINAL) -> float:
        """The energy of the same admissions if every rank took the mean rank time: nobody waits."""

    def as_dict(self) -> dict[str, Any]:
        """For the result."""


@dataclass(frozen=True)
class TwoStatePower:
    """Busy power that may depend on the number of requests, and wait power; watts per accelerator."""

    name: str
    busy: Watts
    wait: Watts
    idle_w: float
    """Of an idle accelerator: what waiting is bounded by from below."""
    n_half: float = 0.0
    """h of the busy curve, from `busy.low` to `busy.high`; 0 where busy power does not depend on n."""
    tdp_w: float | None = None
    confidence: str = ""
    source: str = ""

    @property
    def curves(self) -> PowerCurves:
        """f(n) = n/(n+h), if there is an h."""
        return PowerCurves(n_half=self.n_half)

    @property
    def waits_apart(self) -> bool:
        """Waiting has a power of its own."""
        return True

    def points(self) -> Iterator[PowerPoint]:
        """Nine: busy and wait power are uncertain for different reasons."""
        return (PowerPoint(busy, wait) for busy in LEVELS for wait in LEVELS)

    def energy(self, totals: RunTotals, gpus_per_rank: int, point: PowerPoint = NOMINAL) -> Energy:
        """The formula of the module; `low` and `high` busy power are constants, the curve is the nominal one."""
        busy_curve_ms = totals.power_curve_ms - totals.power_curve_idle_ms - totals.power_curve_prefill_ms
        busy = self._at_busy_power(totals.work_ms - totals.prefill_ms, busy_curve_ms, point.busy)
        busy += self.prefill_watts(point.busy) * totals.prefill_ms / 1e3
        if point.wait == "busy":
            wait = self._at_busy_power(totals.idle_ms, totals.power_curve_idle_ms, point.busy)
        else:
            watts = self.idle_w if point.wait == "idle" else getattr(self.wait, point.wait)
            wait = watts * totals.idle_ms / 1e3
        return Energy(gpus_per_rank * busy, gpus_per_rank * wait)

    def prefill_watts(self, level: LevelName) -> float:
        """What a rank draws while it prefills."""
        return self.busy.high if self.tdp_w is None or level == "low" else max(self.tdp_w, self.busy.high)

    def _at_busy_power(self, rank_ms: float, curve_ms: float, level: LevelName) -> float:
        if level == "nominal" and self.n_half > 0:
            return (self.busy.low * rank_ms + (self.busy.high - self.busy.low) * curve_ms) / 1e3
        watts: float = getattr(self.busy, level)
        return watts * rank_ms / 1e3

    def balanced_joules(self, totals: RunTotals, gpus_per_rank: int, point: PowerPoint = NOMINAL) -> float:
        """The busy part: perfect balance keeps the work and its power, and leaves no waits."""
        return self.energy(totals, gpus_per_rank, point).busy_joules

    def as_dict(self) -> dict[str, Any]:
        """For the result; watts per accelerator."""
        return {
            "name": self.name,
            "form": "two-state",
            "busy_watts": self.busy._asdict(),
            "wait_watts": self.wait._asdict(),
            "idle_watts": self.idle_w,
            "n_half": self.n_half or None,
            "tdp_watts": self.tdp_w,
            "confidence": self.confidence,
            "source": self.source,
        }


@dataclass(frozen=True)
class PaperPower:
    """The formula of the released simulator of arXiv 2601.17855: power by the rank's load, also during C."""

    name: str = "paper"
    idle_w: float = 100.0
    max_w: float = 400.0
    gamma: float = 0.7
    confidence: str = "exact copy of released code, not a measurement"
    source: str = "released simulator of arXiv 2601.17855"

    @property
    def curves(self) -> PowerCurves:
        """(L/max(L))^gamma."""
        return PowerCurves(gamma=self.gamma)

    @property
    def waits_apart(self) -> bool:
        """Power follows load: a rank that waits cannot be told from one that works."""
        return False

    def points(self) -> Iterator[PowerPoint]:
        """One: it has no ranges."""
        return iter([NOMINAL])

    def energy(self, totals: RunTotals, gpus_per_rank: int, point: PowerPoint = NOMINAL) -> Energy:
        """k * (idle * t + (max - idle) * (L/max(L))^gamma * t), summed over ranks and steps; no part is waiting."""
        joules = (self.idle_w * totals.rank_ms + (self.max_w - self.idle_w) * totals.load_curve_ms) / 1e3
        return Energy(gpus_per_rank * joules, 0.0)

    def balanced_joules(self, totals: RunTotals, gpus_per_rank: int, point: PowerPoint = NOMINAL) -> float:
        """Every rank at the largest load and so at the largest power, for a shorter time."""
        return gpus_per_rank * self.max_w * totals.work_ms / 1e3

    def as_dict(self) -> dict[str, Any]:
        """For the result."""
        return {
            "name": self.name,
            "form": "P = idle + (max - idle) * (L / max(L))^gamma over the whole step",
            "idle_watts": self.idle_w,
            "max_watts": self.max_w,
            "gamma": self.gamma,
            "confidence": self.confidence,
            "source": self.source,
        }


@dataclass(frozen=True)
class EnergyView:
    """How the energy of runs is told: the power model, accelerators per rank, and what else was asked for."""

    power: Power
    gpus_per_rank: int = 1
    costs: Costs | None = None
    assumed: str = ""
    """Why this power model, where nobody named it; empty where it is the model's own or was named."""

    def as_dict(self) -> dict[str, Any]:
        """For the result."""
        return {
            **self.power.as_dict(),
            "gpus_per_rank": self.gpus_per_rank,
            **({"assumed": self.assumed} if self.assumed else {}),
            **({"costs": dict(self.costs.labels or {})} if self.costs else {}),
        }


@dataclass(frozen=True)
class Costs:
    """Opt-in figures on top of the energy of the accelerators; all are the user's assumptions, not measurements."""

    pue: float = 1.0
    """Power of the facility over that of its computers."""
    node_watts: float = 0.0
    """Power of a computer beyond its accelerators, per accelerator."""
    carbon_g_per_kwh: float | None = None
    price_per_kwh: float | None = None
    price_per_gpu_hour: float | None = None
    labels: Mapping[str, str] | None = None
    """What the user wrote, for the report."""

    def figures(self, totals: RunTotals, joules: float, wait_joules: float, gpus_per_rank: int) -> dict[str, float]:
        """The opt-in metrics of a run by name. Money is in the unit of the prices; days are full of such steps."""
        gpus, time_s = totals.dp_size * gpus_per_rank, totals.time_ms / 1e3
        idle_fraction = totals.idle_ms / totals.rank_ms
        facility = self.pue * (joules + gpus * self.node_watts * time_s)
        runs_per_day = 86_400 / time_s
        figures = {"facility_joules_per_token": facility / totals.tokens}
        if self.carbon_g_per_kwh is not None:
            figures["carbon_g_per_1000_tokens"] = (
                self.carbon_g_per_kwh * facility / JOULES_PER_KWH / totals.tokens * 1e3
            )
        if self.price_per_kwh is not None:
            waiting = self.pue * (wait_joules + idle_fraction * gpus * self.node_watts * time_s)
            for name, part in (("electricity", facility), ("idle_electricity", waiting)):
                figures[f"{name}_money_per_day"] = self.price_per_kwh * part / JOULES_PER_KWH * runs_per_day
        if self.price_per_gpu_hour is not None:
            figures["idle_money_per_day"] = self.price_per_gpu_hour * 24 * gpus * idle_fraction
        return figures

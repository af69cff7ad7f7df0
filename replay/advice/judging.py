"""From the figures of settings to a verdict: what each gains and costs, and whether one is sure to help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lbal.analyzers.metrics import METRICS
from lbal.analyzers.wording.advice import BESIDE, GAIN, signed, span
from lbal.analyzers.wording.numbers import listed

SHOWN = 0.0005
"""Changes below it print as 0.0%: they count for none."""
Verdict = Literal["default", "sure gain", "sure loss", "unsure", "alike"]


@dataclass(frozen=True)
class Change:
    """A relative change against the default: 0.02 is 2% more; its range over the bands where that is known."""

    nominal: float
    low: float | None = None
    high: float | None = None

    @property
    def range(self) -> tuple[float, float]:
        """From the lowest to the highest; the nominal value twice where the bands are not known."""
        return (self.nominal if self.low is None else self.low), (self.nominal if self.high is None else self.high)

    def as_dict(self) -> dict[str, float]:
        """For JSON; ends only where they are known."""
        ends = {"nominal": self.nominal, "low": self.low, "high": self.high}
        return {name: value for name, value in ends.items() if value is not None}


@dataclass(frozen=True)
class Judged:
    """A setting with its changes against the default, by metric; a change that has no base is left out."""

    name: str
    flags: str
    changes: Mapping[str, Change]

    @property
    def verdict(self) -> Verdict:
        """`sure gain` or `sure loss` of throughput over all of the bands, `alike` where no end of
        the bands has a change that prints, `unsure` otherwise."""
        if GAIN not in self.changes:
            return "default"
        low, high = self.changes[GAIN].range
        if low >= SHOWN:
            return "sure gain"
        if high <= -SHOWN:
            return "sure loss"
        return "alike" if low > -SHOWN and high < SHOWN else "unsure"

    @property
    def gain(self) -> float:
        """The nominal gain of throughput."""
        return self.changes[GAIN].nominal


def best_of(judged: Sequence[Judged]) -> list[Judged]:
    """Those with the largest gain among the settings that are sure to gain: one, several whose gain prints alike, or
    none."""
    sure = [each for each in judged if each.verdict == "sure gain"]
    if not sure:
        return []
    most = signed(max(each.gain for each in sure))
    return [each for each in sure if signed(each.gain) == most]


def headline(judged: Sequence[Judged], engine: str) -> str:
    """The advice in a sentence or two; `judged` holds the settings beside the default."""
    best = best_of(judged)
    if not best:
        return f"No setting is sure to help {engine}: {_why_none(judged)} (modelled)."
    first, *others = best
    text = f"{first.flags}: {_gain(first)} against the default of {engine}; {beside(first)} (modelled)."
    if others:
        text += f" {listed([each.flags for each in others])} gain{'s' * (len(others) == 1)} as much."
    return text


def beside(each: Judged) -> str:
    """What a setting changes beside throughput."""
    told = [f"{METRICS[name].label} {signed(each.changes[name].nominal)}" for name in BESIDE if name in each.changes]
    return listed(told)


def _gain(each: Judged) -> str:
    return f"{signed(each.gain)} throughput ({span(*each.changes[GAIN].range)} over the bands)"


def _why_none(judged: Sequence[Judged]) -> str:
    if all(each.verdict == "alike" for each in judged):
        return "all of them have the throughput of the default"
    most = max(judged, key=lambda each: each.gain)
    if most.gain >= SHOWN:
        return f"the most has {most.flags}, {_gain(most)}"
    return f"the default has the highest throughput, next is {most.flags}, {_gain(most)}"


def as_dict(each: Judged) -> dict[str, Any]:
    """For the result."""
    return {
        "label": each.name,
        "flags": each.flags,
        "verdict": each.verdict,
        "changes": {name: change.as_dict() for name, change in each.changes.items()},
    }

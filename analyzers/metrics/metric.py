"""What a metric is, and what a value of one is.

A metric is one record. Everything that lbal does with metrics follows from the records: the tables of the reports, the
basis of a value, its interval over steps, its range over the bands, the documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.barrier.window_steps import WindowSteps

Basis = Literal["measured", "sampled", "modelled"]
WEAKEST_LAST: tuple[Basis, ...] = ("measured", "sampled", "modelled")
Better = Literal["lower", "higher", "neither"]
Group = Literal["balance", "spread", "latency", "energy", "headroom"]
"""The table that shows the metric; those of `spread` have one of their own, and are in no table of all metrics."""
Input = Literal["loads", "rank_times", "step_times", "requests", "model"]
"""What a value is computed from. `model`: the value rests on a model even where everything was recorded."""
Column = Literal[
    "steps",
    "loaded_steps",
    "time_ms",
    "idle_ms",
    "balanced_ms",
    "tokens",
    "imbalance_tokens",
    "balance_ratio",
    "imbalance_ratio",
    "energy_joules",
    "wait_joules",
]
"""A sum over steps that `energy/binned_sums.py` stores with a run."""
Place = Literal["comparison", "headroom", "page_bounds", "page_tiles", "page_rows", "markdown_rows", "bands"]
"""Where reports show a choice of metrics.

`comparison` is the table of several runs, `headroom` the table of what was avoidable and `page_bounds` what the page
adds to it; `page_rows` and `markdown_rows` are the columns where each run is a row; `bands` are the figures whose
differences are followed over the bands.
"""
SMALLEST_SHARE = 5e-5
"""Shares and relative changes below it are told as none: they print as 0.0%."""


@dataclass(frozen=True)
class Metric:
    """All that lbal knows of a metric."""

    name: str
    unit: str
    better: Better
    label: str
    """For people, in tables."""
    formula: str
    rests_on: tuple[Input, ...] = ("model",)
    """The basis of a value is that of the weakest of these."""
    of_steps: Callable[[WindowSteps], float] | None = None
    """Computes the value from the accounted steps; None where the requests, the energy or the bounds give it."""
    of_totals: Callable[[RunTotals, float], float] | None = None
    """Computes the value from the sums of a run and its seconds per KV token: for every variant within the bands."""
    needs_loads: tuple[Load, ...] = ()
    """Loads without which there is no value: a trace may lack one of the two."""
    only_without: Load | None = None
    """Computed only for traces that lack this load, of which the metric takes the place."""
    needs_every_step: bool = False
    """Whether it is a total or a quantile over steps: samples of the steps give no value."""
    undefined: str = ""
    """Why steps whose loads are known may still leave it undefined, for people."""
    needs_size: Literal["max_num_seqs", "kv_capacity"] | None = None
    """What `of_steps` needs of the size of a rank; without it there is no value."""
    of_reference: float | None = None
    """What the reference stands at, which has no value as the metric compares with it; None for other metrics."""
    ratio: tuple[Column, Column] | None = None
    """The value is a constant times the ratio of these sums: this gives its interval over steps. None: no interval."""
    banded: bool = False
    """Whether the code that computes the value also gives its range over the bands; see `has_range`."""
    in_tables_of_all: bool = True
    """Whether tables that show every metric of a run show it; the JSON always does."""
    group: Group = "balance"
    shown: Mapping[Place, int] = field(default_factory=dict)
    """Position in each place that shows it, smallest first. Gaps are left for new metrics."""

    @property
    def has_range(self) -> bool:
        """Whether the value has a range over the bands of the models."""
        return self.banded or self.of_totals is not None


class Bases(NamedTuple):
    """How each input of the metrics of a run is known."""

    loads: Basis
    rank_times: Basis
    step_times: Basis
    requests: Basis
    model: Basis = "modelled"

    @classmethod
    def of(cls, *, recorded: bool, rank_times: bool, step_times: bool, sampled: bool = False) -> Bases:
        """Of a run that was recorded or replayed; `rank_times` and `step_times` say whether the trace has them.

        `sampled`: the trace shows one step in so many.
        """
        if not recorded:
            return cls("modelled", "modelled", "modelled", "modelled")
        seen: Basis = "sampled" if sampled else "measured"
        return cls(
            loads=seen,
            rank_times=seen if rank_times else "modelled",
            step_times=seen if step_times else "modelled",
            requests="measured",
        )

    def basis(self, metric: Metric) -> Basis:
        """The basis of a value of the metric: that of the weakest of its inputs."""
        return max((getattr(self, name) for name in metric.rests_on), key=WEAKEST_LAST.index)


@dataclass(frozen=True)
class Measure:
    """A value of a metric: `basis` says whether it was read from the trace, from samples of it, or rests on a model."""

    value: float
    unit: str
    basis: Basis
    low: float | None = None
    high: float | None = None
    fidelity: float | None = None
    """How far the same modelled figure of the recorded placement was from the measured one: 0.02 is 2% more."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `low`, `high` and `fidelity` only where they are known."""
        record = {
            "value": self.value,
            "unit": self.unit,
            "basis": self.basis,
            "low": self.low,
            "high": self.high,
            "fidelity": self.fidelity,
        }
        return {key: value for key, value in record.items() if value is not None}

"""The result: one serialisable object between computing and displaying, the same for every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lbal.analyzers.barrier.apart import Apart
from lbal.analyzers.barrier.single_steps import Timeline
from lbal.analyzers.barrier.thinned import StepSeries
from lbal.analyzers.metrics import Measure
from lbal.analyzers.result.json_text import plain
from lbal.analyzers.trace.trace import Trace

if TYPE_CHECKING:
    import polars as pl

SCHEMA = "lbal.result/1"
"""Additions keep the number; a breaking change raises it."""

MOST_SHOWN = 20
SHOWN = ("barrier_idle_fraction", "tokens_per_second", "tpot_ms_p99", "energy_joules_per_token")
"""Runs, and figures of each, that `repr` shows."""


@dataclass(frozen=True)
class Run:
    """The figures of one run: a trace, or its requests under one policy."""

    label: str
    metrics: Mapping[str, Measure]
    policy: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else is told of the run: binding, what the policy looks at, …"""
    ranks: Sequence[Mapping[str, Any]] = ()
    attribution: Mapping[str, Any] = field(default_factory=dict)
    worst_steps: Sequence[Mapping[str, Any]] = ()
    headroom: Mapping[str, Measure] = field(default_factory=dict)
    """How much of the idle was avoidable, and what no policy can beat."""
    solver: Mapping[str, Any] = field(default_factory=dict)
    """What the policy's solver says of its decisions, over the whole replay; empty without one."""
    series: Mapping[str, Any] = field(default_factory=dict)
    """Sums over stretches of the steps (`analyzers/energy/binned_sums.py`)."""
    repeats: Mapping[str, Any] = field(default_factory=dict)
    """With repeats: the seeds, and the values and 95% intervals of the metrics over them; metrics are then means."""
    drawn: StepSeries | None = None
    """The steps, thinned: what reports draw, where one is asked for."""
    apart: Apart | None = None
    """How far the ranks of a trace are apart over the steps, thinned, where charts are asked for."""
    timeline: Timeline | None = None
    """Single steps in full, where a trace of them is asked for; not in the JSON."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "label": self.label,
            "policy": self.policy,
            "parameters": dict(self.parameters),
            **self.details,
            "metrics": {name: value.as_dict() for name, value in self.metrics.items()},
            "ranks": [dict(rank) for rank in self.ranks],
            "attribution": dict(self.attribution),
            "worst_steps": [dict(step) for step in self.worst_steps],
            "headroom": {name: value.as_dict() for name, value in self.headroom.items()},
            **{name: dict(getattr(self, name)) for name in ("solver", "repeats", "series") if getattr(self, name)},
            **({} if self.drawn is None else {"drawn": self.drawn.as_dict()}),
            **({} if self.apart is None else {"apart": self.apart.as_dict()}),
        }


@dataclass(frozen=True, repr=False)
class Result:
    """What a command found. Same input, seed and version give the same result, byte for byte."""

    command: str
    inputs: Sequence[Mapping[str, Any]]
    config: Mapping[str, Any]
    runs: Sequence[Run]
    headline: str = ""
    notes: Sequence[str] = ()
    workload: Mapping[str, Any] = field(default_factory=dict)
    """Of a trace that has requests but no steps."""
    items: Sequence[Mapping[str, Any]] = ()
    """What `lbal list` lists."""
    headroom: Mapping[str, Any] = field(default_factory=dict)
    """The runs that headroom compares, `reference` and `best`, and what it found, in words."""
    energy: Mapping[str, Any] = field(default_factory=dict)
    """What was found on energy, in words; the figures are metrics."""
    bands: Mapping[str, Any] = field(default_factory=dict)
    """How comparisons move over the bands of the models, and where they flip."""
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    """How far the replay of the recorded placement is from what was measured."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """What `lbal calibrate` fitted."""
    comparison: Mapping[str, Any] = field(default_factory=dict)
    """What `lbal compare` found."""
    check: Mapping[str, Any] = field(default_factory=dict)
    """What `lbal check` found."""
    advice: Mapping[str, Any] = field(default_factory=dict)
    """What `lbal advise` found: the settings of an engine, what each changes, and the one that is sure to help most."""
    next: Mapping[str, str] = field(default_factory=dict)
    """What to do after an analysis of steps: the `command` that replays them, or `advice` on what that would need."""
    lbal_version: str = field(default_factory=lambda: version("lbal"))
    """Of the lbal that made it."""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Result:
        """The result that `as_dict` made the record of. Raises `InputError` where it is none."""
        from lbal.analyzers.result.reading import result_of

        return result_of(record, "the record")

    def write(self, name: str | Path, *, force: bool = False) -> None:
        """Write the report that the suffix asks for, whole or not at all.

        Raises `UsageError` for a suffix that no report has or a report of single steps, which a result may lack, and
        `OutputError` for a file that cannot be written, or exists while `force` is off.
        """
        from lbal.analyzers.output.files import write_text
        from lbal.analyzers.output.targets import check_targets, suffix_of
        from lbal.analyzers.result.report import report_of, report_suffixes

        report = report_of(suffix_of(str(name), report_suffixes(), flag=""))
        check_targets([str(name)], force=force, reads=[])
        write_text(str(name), report().render(self), force=force)

    def frame(self, table: str) -> pl.DataFrame:
        """The `metrics`, `ranks` or `steps` of the runs as a polars table (see `analyzers/result/tables.py`)."""
        from lbal.analyzers.result.tables import frame

        return frame(self, table)

    def __repr__(self) -> str:
        """The headline, and a few figures of each run."""
        runs = [_line(run) for run in self.runs[:MOST_SHOWN]]
        if len(self.runs) > MOST_SHOWN:
            runs.append(f"  … {len(self.runs) - MOST_SHOWN:,} more runs")
        return "\n".join([f"<lbal {self.command}: {self.headline}", *runs]) + ">"

    def as_dict(self) -> dict[str, Any]:
        """The published schema, as plain JSON: lists, and None for what is not known."""
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "lbal_version": self.lbal_version,
            "command": self.command,
            "headline": self.headline,
            "notes": list(self.notes),
            "inputs": [dict(item) for item in self.inputs],
            "config": dict(self.config),
            "runs": [run.as_dict() for run in self.runs],
        }
        for name in (
            "headroom",
            "energy",
            "bands",
            "fidelity",
            "calibration",
            "comparison",
            "check",
            "advice",
            "workload",
            "next",
        ):
            if getattr(self, name):
                record[name] = dict(getattr(self, name))
        if self.items:
            record["items"] = [dict(item) for item in self.items]
        return cast("dict[str, Any]", plain(record))


def _line(run: Run) -> str:
    known = {name: run.metrics[name] for name in SHOWN if name in run.metrics}
    return "  " + ", ".join([run.label, *(f"{name} {each.value:.4g}" for name, each in known.items())])


def input_record(trace: Trace) -> dict[str, Any]:
    """What the result says of an input."""
    meta = trace.meta
    only_if_known = {
        "resolution": None if meta.resolution == "step" else meta.resolution,
        "alignment": meta.alignment,
        "engine_version": meta.engine_version,
        "ranks_seen": None if meta.ranks_seen is None else list(meta.ranks_seen),
        "sources": [dict(source) for source in meta.sources] or None,
    }
    return {
        "name": meta.source,
        "sha256": meta.sha256,
        "format": meta.format,
        "kind": meta.kind,
        "engine": meta.engine,
        "requests": trace.num_requests,
        "steps": trace.num_steps,
        "excluded": dict(meta.excluded),
        "warnings": list(meta.warnings),
        **{name: value for name, value in only_if_known.items() if value is not None},
    }

"""The result: one serialisable object between computing and displaying, the same for every command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, cast

from lbal.analyzers.barrier.single_steps import Timeline
from lbal.analyzers.barrier.thinned import StepSeries
from lbal.analyzers.metrics import Measure
from lbal.analyzers.result.json_text import plain
from lbal.analyzers.trace.trace import Trace

SCHEMA = "lbal.result/1"
"""Additions keep the number; a breaking change raises it."""


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
        }


@dataclass(frozen=True)
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
    lbal_version: str = field(default_factory=lambda: version("lbal"))
    """Of the lbal that made it."""

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Result:
        """The result that `as_dict` made the record of. Raises `InputError` where it is none."""
        from lbal.analyzers.result.reading import result_of

        return result_of(record, "the record")

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
        for name in ("headroom", "energy", "bands", "fidelity", "calibration", "comparison", "check", "workload"):
            if getattr(self, name):
                record[name] = dict(getattr(self, name))
        if self.items:
            record["items"] = [dict(item) for item in self.items]
        return cast("dict[str, Any]", plain(record))


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

"""Repeats: the same policies on other days of the same traffic, to say how sure a mean or a difference is.

Each seed draws the requests anew from the trace (`resampled`), and seeds the policies that draw. All policies of a seed
serve the same requests at the same times (common random numbers), so their differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from lbal.analyzers.errors import UsageError
from lbal.analyzers.metrics import Measure
from lbal.analyzers.result.result import Run
from lbal.analyzers.statistics.student import mean_interval
from lbal.replay.experiment.scenario import Scenario
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.experiment.workers import in_processes
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.workload import Workload

Resample = Literal["blocks", "none"]
MOST_REPEATS = 1000


@dataclass(frozen=True)
class Experiment:
    """What is repeated; the seed of the scenario is that of the first repeat."""

    policies: Sequence[str]
    """By the texts that name them: processes make their own from it."""
    scenario: Scenario
    resample: Resample = "blocks"

    def seeds(self, repeats: int) -> list[int]:
        """Consecutive ones."""
        return [self.scenario.conditions.seed + index for index in range(repeats)]

    def runs(self, seed: int) -> list[Run]:
        """The run of every policy with one seed, with headroom and savings."""
        scenario = self.scenario
        workload = resampled(scenario.workload, seed) if self.resample == "blocks" else scenario.workload
        scenario = replace(scenario, workload=workload, conditions=replace(scenario.conditions, seed=seed))
        replays = [scenario.replay(parse_policy(spec)) for spec in self.policies]
        return scenario.runs([Windowed.of(each, scenario.window) for each in replays])


def block_length(requests: int) -> int:
    """Consecutive requests that are drawn together, so that bursts and their lengths stay: the square root of all."""
    return max(1, math.isqrt(requests))


def resampled(workload: Workload, seed: int) -> Workload:
    """As many requests, drawn from the workload in blocks of consecutive ones that may begin anywhere (circular).

    A request keeps its lengths, its recorded rank and the gap to the request before it; the first request of the
    workload, which has none before it, gets the mean gap.
    """
    count = len(workload)
    length = block_length(count)
    starts = np.random.default_rng([seed, count]).integers(0, count, size=-(-count // length))
    chosen = ((starts[:, None] + np.arange(length)) % count).ravel()[:count]
    arrivals = workload.arrival_ms
    if arrivals is not None:
        gaps = np.diff(arrivals, prepend=arrivals[0])
        gaps[0] = gaps[1:].mean() if count > 1 else 0.0
        arrivals = arrivals[0] + np.cumsum(np.concatenate([[0.0], gaps[chosen[1:]]]))
    return Workload(
        source=workload.source,
        request_id=pl.Series("request_id", np.arange(count)),
        prompt_tokens=workload.prompt_tokens[chosen],
        output_tokens=workload.output_tokens[chosen],
        arrival_ms=arrivals,
        recorded_rank=None if workload.recorded_rank is None else workload.recorded_rank[chosen],
    )


def repeated(experiment: Experiment, repeats: int, jobs: int) -> Iterator[list[Run]]:
    """The runs of each seed, in the order of the seeds, computed in that many processes."""
    seeds = experiment.seeds(repeats)
    if min(jobs, repeats) == 1:
        yield from map(experiment.runs, seeds)
        return
    try:
        yield from in_processes(experiment.runs, seeds, min(jobs, repeats))
    except BrokenProcessPool as error:
        raise UsageError(
            f"a process ended, most likely for lack of memory ({type(error).__name__}), expected fewer jobs",
            parameter="jobs",
        ) from error


def means(by_seed: Sequence[Sequence[Run]], seeds: Sequence[int], resample: Resample) -> list[Run]:
    """A run of each policy: means over the seeds, with the values and 95% intervals beside them.

    A metric that some seed lacks is left out. Steps are not kept: those of different seeds have nothing in common.
    """
    return [_mean_run(runs, seeds, resample) for runs in zip(*by_seed, strict=True)]


def _mean_run(runs: Sequence[Run], seeds: Sequence[int], resample: Resample) -> Run:
    first = runs[0]
    metrics, headroom = (_mean_measures([getattr(run, part) for run in runs]) for part in ("metrics", "headroom"))
    values = {
        name: [float({**run.metrics, **run.headroom}[name].value) for run in runs] for name in {**metrics, **headroom}
    }
    intervals = {name: mean_interval(found) for name, found in values.items()}
    return replace(
        first,
        metrics=metrics,
        headroom=headroom,
        details=_mean_details([run.details for run in runs]),
        ranks=[_mean_record(ranks) for ranks in zip(*[run.ranks for run in runs], strict=True)],
        attribution=_mean_record([run.attribution for run in runs]),
        worst_steps=(),
        solver={},
        series={},
        repeats={
            "seeds": list(seeds),
            "resample": resample,
            "values": values,
            "intervals": {name: found._asdict() for name, found in intervals.items() if found is not None},
        },
    )


def _mean_details(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of the details; what is unavailable with some seed is so in the means, which leave it out."""
    reasons = {name: why for each in details for name, why in each.get("unavailable", {}).items()}
    known = [{name: value for name, value in each.items() if name != "unavailable"} for each in details]
    return _mean_record(known) | ({"unavailable": reasons} if reasons else {})


def _mean_measures(parts: Sequence[Mapping[str, Measure]]) -> dict[str, Measure]:
    return {
        name: replace(
            value,
            value=_mean([part[name].value for part in parts]),
            low=_mean_end([part[name].low for part in parts]),
            high=_mean_end([part[name].high for part in parts]),
        )
        for name, value in parts[0].items()
        if all(name in part for part in parts)
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


def _mean_end(ends: Sequence[float | None]) -> float | None:
    known = [end for end in ends if end is not None]
    return _mean(known) if len(known) == len(ends) else None


def _mean_record(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of the fractions and means of a record; what is no float is that of the first."""
    found: dict[str, Any] = {}
    for name, value in records[0].items():
        if isinstance(value, float):
            found[name] = _mean([record[name] for record in records])
        elif isinstance(value, Mapping):
            found[name] = _mean_record([record[name] for record in records])
        else:
            found[name] = value
    return found

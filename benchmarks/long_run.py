"""How much barrier idle policies leave on the four real traces, with the default step model and default parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import workloads
from comparisons import Served, Table, say, serve

from lbal.analyzers.errors import UsageError
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL, step_model
from lbal.analyzers.trace.formats import read_trace
from lbal.replay.experiment.rate_scale import find_rate_scale
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

TRACES = {
    "Azure conv": "AzureLLMInferenceTrace_conv.csv",
    "Azure code": "AzureLLMInferenceTrace_code.csv",
    "Mooncake": "mooncake_conversation_trace.jsonl",
    "BurstGPT": "burstgpt_lengths_8000.csv",
}
RANKS, SLOTS = (4, 16, 64, 256), 64
SLOT_USES = (0.6, 0.8, 0.95)
TURNS, MOST_REQUESTS = 40, 65_536
"""Requests per slot that are served, and how many at most in all: what a few minutes allow."""
BASELINES = ("jsq", "jsq-kv", "trtllm-adp", "align-max", "br-0")
OURS = ("waterline", "bf-io")
CLOSE = 1.05
"""Times the least idle that is as good as it."""
FAIR = (3.0, 10.0)
"""Multiples of the waits under `fcfs`, p99 and longest, up to which a policy counts as fair."""


@dataclass(frozen=True)
class Cell:
    """All policies on the same requests and arrivals."""

    trace: str
    ranks: int
    arrivals: str
    requests: int
    runs: dict[str, Served]

    @property
    def name(self) -> str:
        return f"{self.trace}, G={self.ranks}, {self.arrivals}"

    def idle(self, policy: str) -> float:
        return self.runs[policy].idle

    def wait(self, policy: str) -> float:
        """The p99 wait as a multiple of that of `fcfs`."""
        return self.runs[policy].times(self.runs["fcfs"])[0]

    def least(self, policies: Sequence[str]) -> str:
        """The one with the least idle."""
        return min(policies, key=self.idle)

    def is_fair(self, policy: str) -> bool:
        """Whether it lets nobody wait much longer than `fcfs` does."""
        p99, longest = self.runs[policy].times(self.runs["fcfs"])
        return p99 <= FAIR[0] and longest <= FAIR[1]

    def behind(self, policy: str, others: Sequence[str]) -> float:
        """Its idle as a multiple of the least of the others."""
        return self.idle(policy) / self.idle(self.least(others))

    def fair_baselines(self) -> list[str]:
        """Never none, since `jsq` overtakes nobody."""
        return [name for name in BASELINES if self.is_fair(name)]


def long_run(quick: bool) -> Iterator[Table]:
    """Every cell, then how often the policies of this package are the best."""
    skipped: list[str] = []
    cells = list(cells_of(quick, skipped.append))
    columns = ("trace", "G", "arrivals", *BASELINES, *OURS)
    yield Table(
        f"long-run: barrier idle in % (p99 wait as a multiple of fcfs's), B={SLOTS}",
        columns,
        [_row(cell) for cell in cells],
        [_record(cell) for cell in cells],
        [_sizes(cells), *skipped],
    )
    yield summary(cells)


def cells_of(quick: bool, skip: Callable[[str], None]) -> Iterator[Cell]:
    """The cells, one after the other; what cannot be is told to `skip`."""
    for trace, file in list(TRACES.items())[::3] if quick else TRACES.items():
        recorded = Workload.of(read_trace(str(workloads.REAL / file)))
        for ranks in RANKS[:1] if quick else RANKS:
            workload = enough(recorded, (4 if quick else TURNS) * ranks * SLOTS)
            cluster = Cluster(ranks, SLOTS, step_model(DEFAULT_STEP_MODEL, SLOTS))
            for arrivals, conditions in settings(workload, cluster, skip):
                say(f"long-run: {trace}, G={ranks}, {arrivals}")
                runs = {name: serve(workload, cluster, name, conditions) for name in ("fcfs", *BASELINES, *OURS)}
                yield Cell(trace, ranks, arrivals, len(workload), runs)


def enough(recorded: Workload, wanted: int) -> Workload:
    """The trace as it is where it is long enough, otherwise its requests drawn with replacement."""
    return recorded if len(recorded) >= wanted else workloads.drawn(recorded, min(wanted, MOST_REQUESTS))


def settings(workload: Workload, cluster: Cluster, skip: Callable[[str], None]) -> Iterator[tuple[str, Conditions]]:
    """A backlog, and the trace's arrivals at the rates that keep shares of the slots busy under `jsq`."""
    yield "backlog", Conditions("backlog")
    if workload.arrival_ms is None:
        return
    conditions = Conditions("trace")
    for use in SLOT_USES:
        try:
            found = find_rate_scale(use, workload, cluster, parse_policy("jsq"), conditions)
        except UsageError as error:
            skip(f"{Path(workload.source).name}, G={cluster.dp_size}: {use:.0%} of the slots is left out: {error}")
            continue
        yield f"{use:.0%} of slots", replace(conditions, rate_scale=found.rate_scale)


def _row(cell: Cell) -> list[str]:
    best = cell.least((*BASELINES, *OURS))
    texts = []
    for name in (*BASELINES, *OURS):
        idle = _percent(cell.idle(name))
        texts.append(f"{f'**{idle}**' if name == best else idle} ({_times(cell.wait(name))})")
    return [cell.trace, str(cell.ranks), cell.arrivals, *texts]


def _percent(share: float) -> str:
    return f"{100 * share:.3f}" if share < 0.01 else f"{100 * share:.2f}"


def _times(value: float) -> str:
    return f"{value:.1f}x" if value < 10 else f"{value:,.0f}x"


def _record(cell: Cell) -> dict[str, Any]:
    return asdict(cell) | {"waits_of_fcfs": {name: cell.wait(name) for name in cell.runs}}


def _sizes(cells: Sequence[Cell]) -> str:
    sizes = dict.fromkeys((cell.trace, cell.ranks, cell.requests) for cell in cells)
    return "requests served: " + "; ".join(f"{trace}, G={ranks}: {count:,}" for trace, ranks, count in sizes)


def summary(cells: Sequence[Cell]) -> Table:
    """In how many cells each of ours is best, close to it, or behind the best baseline; every loss is listed."""
    columns = (
        *("policy", "cells", "best of all", "within 5% of the best", "behind the best baseline", "by more than 5%"),
        *("idle over that of the best baseline", "behind the best fair baseline", "idle over its", "itself not fair"),
    )
    rows, notes = [], []
    for name in OURS:
        to_all = [cell.behind(name, (*BASELINES, *OURS)) for cell in cells]
        to_best = [cell.behind(name, BASELINES) for cell in cells]
        to_fair = [cell.behind(name, cell.fair_baselines()) for cell in cells]
        rows.append(
            [
                f"`{name}`",
                str(len(cells)),
                str(sum(value == 1.0 for value in to_all)),
                str(sum(value <= CLOSE for value in to_all)),
                str(sum(value > 1.0 for value in to_best)),
                str(sum(value > CLOSE for value in to_best)),
                f"{geometric_mean(to_best):.2f}x",
                str(sum(value > 1.0 for value in to_fair)),
                f"{geometric_mean(to_fair):.2f}x",
                str(sum(not cell.is_fair(name) for cell in cells)),
            ]
        )
        notes += [_loss(cell, name) for cell, value in zip(cells, to_best, strict=True) if value > 1.0]
    fair = f"fair: p99 wait at most {FAIR[0]:g} and longest wait at most {FAIR[1]:g} times that of fcfs"
    return Table("long-run: summary", columns, rows, notes=[f"{fair}; idle over another's: geometric mean", *notes])


def _loss(cell: Cell, name: str) -> str:
    best = cell.least(BASELINES)
    unfair = "" if cell.is_fair(best) else ", not fair"
    return (
        f"{name} is behind: {cell.name}: {_percent(cell.idle(name))}% ({_times(cell.wait(name))}) "
        f"against {_percent(cell.idle(best))}% under {best} ({_times(cell.wait(best))}{unfair})"
    )

"""How evenly policies balance a backlog of BurstGPT lengths, and how long they let requests wait for it.

The step model and the window are those of the released simulator of arXiv 2601.17855, so that its runs compare.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, NamedTuple

import workloads

from lbal.analyzers.models.step_models import step_model
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import run_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

RELEASED = workloads.ROOT.parent / "shared" / "reference" / "parity" / "released_simulator_resampled.json"
"""Figures of the released simulator on the same orders, where they lie beside the checkout."""
REQUESTS = 40_000
ORDERS = (1, 2, 3)


class Shape(NamedTuple):
    """Ranks and slots."""

    ranks: int
    slots: int

    def __str__(self) -> str:
        return f"{self.ranks} x {self.slots}"


SHAPES = (Shape(16, 72), Shape(32, 72), Shape(8, 16))


@dataclass(frozen=True)
class Table:
    """What is printed, and what of it is written to the JSON file."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    records: Sequence[dict[str, Any]] = field(default_factory=list)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Served:
    """The figures of a replay up to its last admission. Waits are in steps."""

    idle: float
    imbalance: float
    throughput: float
    """Share of the throughput with perfect balance."""
    p99_wait: float
    longest_wait: float

    def times(self, fcfs: Served) -> tuple[float, float]:
        """The waits as multiples of those under `fcfs`, where less than a step counts as one."""
        return self.p99_wait / max(fcfs.p99_wait, 1.0), self.longest_wait / max(fcfs.longest_wait, 1.0)


def serve(workload: Workload, cluster: Cluster, spec: str, conditions: Conditions) -> Served:
    """Replay a workload under a policy."""
    replayed = replay(workload, cluster, parse_policy(spec), conditions, keep_steps=False)
    metrics = run_of(Windowed.of(replayed, "admissions")).metrics
    names = ("barrier_idle_fraction", "imbalance_tokens_mean", "perfect_balance_throughput_fraction")
    waits = ("queue_wait_steps_p99", "queue_wait_steps_max")
    return Served(*(float(metrics[name].value) for name in (*names, *waits)))


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Group:
    """Policies that may do the same, and what is asked of the better ones among them."""

    name: str
    specs: Sequence[str]
    ratios: Sequence[float] = ()
    """For each shape: at most that many times the imbalance of the best released run."""
    throughput: float | None = None
    """At the first shape: at least that share of the throughput with perfect balance."""
    waits: tuple[float, float] | None = None
    """At most these multiples of the waits under `fcfs`, p99 and longest."""


ORACLE = "load=kv,worst_wait=0,predictor=oracle"
GROUPS = (
    Group(
        "true lengths, free choice",
        (
            f"waterline:{ORACLE},horizon=20",
            f"bf-io:{ORACLE},horizon=5",
            f"bf-io:{ORACLE},horizon=20,discount=0.8,overflow=<5*G>",
        ),
        (0.50, 0.60, 0.75),
        0.9975,
    ),
    Group(
        "no true lengths, free choice",
        ("waterline:load=kv,worst_wait=0", "bf-io:load=kv,worst_wait=0,horizon=5", "bf-io:load=kv,worst_wait=0"),
        (0.55, 0.65, 1.2),
        0.9975,
    ),
    Group("no true lengths, fair", ("waterline:load=kv", "bf-io:load=kv"), (1.0, 1.2, 2.0), 0.99, (3.0, 10.0)),
    Group("for orientation", ("fcfs", "jsq-kv", "align-max")),
)


@cache
def best_released() -> dict[tuple[int, Shape], float]:
    """The least imbalance among the released runs of each order and shape."""
    best: dict[tuple[int, Shape], float] = {}
    for run in json.loads(RELEASED.read_text(encoding="utf-8"))["runs"]:
        key = (run["seed"], Shape(run["G"], run["B"]))
        best[key] = min(best.get(key, float("inf")), run["imbalance_entering"])
    return best


@cache
def served(spec: str, shape: Shape, order: int, count: int) -> Served:
    """A backlog in one of the orders."""
    cluster = Cluster(*shape, step_model("paper-release", shape.slots))
    return serve(
        workloads.shuffled(count, order), cluster, spec.replace("<5*G>", str(5 * shape.ranks)), Conditions("backlog")
    )


def bar(quick: bool) -> Iterator[Table]:
    """The policies against the best of the released runs, and what is asked of them."""
    orders, count = (ORDERS[:1], REQUESTS // 10) if quick else (ORDERS, REQUESTS)
    columns = [
        *("policy", "G x B", *(f"order {order}" for order in orders), "mean", "asked"),
        *("throughput", "asked", "p99 wait", "longest wait", "asked"),
    ]
    for group in GROUPS:
        rows, records = [], []
        for spec in group.specs:
            say(f"bar: {spec}")
            for index, shape in enumerate(SHAPES):
                record = bar_record(spec, shape, orders, count)
                rows.append(bar_row(record, *(_asked(group, index) if not quick else (None, None, None))))
                records.append(record | {"group": group.name})
        yield Table(f"bar: {group.name}", columns, rows, records)


def _asked(group: Group, shape: int) -> tuple[float | None, float | None, tuple[float, float] | None]:
    return (
        group.ratios[shape] if group.ratios else None,
        group.throughput if shape == 0 else None,
        group.waits,
    )


def bar_record(spec: str, shape: Shape, orders: Sequence[int], count: int) -> dict[str, Any]:
    """Figures of a policy on a shape: means over the orders, waits the worst of them."""
    runs = [served(spec, shape, order, count) for order in orders]
    multiples = [run.times(served("fcfs", shape, order, count)) for run, order in zip(runs, orders, strict=True)]
    ratios = [run.imbalance / best_released()[order, shape] for run, order in zip(runs, orders, strict=True)]
    return {
        "policy": spec,
        "shape": str(shape),
        "ratios": ratios,
        "ratio_mean": sum(ratios) / len(ratios),
        "throughput": sum(run.throughput for run in runs) / len(runs),
        "waits": [max(run.p99_wait for run in runs), max(run.longest_wait for run in runs)],
        "waits_of_fcfs": [max(p99 for p99, _ in multiples), max(longest for _, longest in multiples)],
    }


def bar_row(
    record: dict[str, Any], ratio: float | None, throughput: float | None, waits: tuple[float, float] | None
) -> list[str]:
    """A line of the table, with what is asked and whether it is met."""
    multiples = record["waits_of_fcfs"]
    return [
        f"`{record['policy']}`",
        record["shape"],
        *(f"{value:.3f}" for value in record["ratios"]),
        f"{record['ratio_mean']:.3f}",
        "" if ratio is None else f"{ratio:.2f}: {_verdict(record['ratio_mean'] <= ratio)}",
        f"{record['throughput']:.4f}",
        "" if throughput is None else f"{throughput:g}: {_verdict(record['throughput'] >= throughput)}",
        *(wait_text(*pair) for pair in zip(record["waits"], multiples, strict=True)),
        "" if waits is None else f"{waits[0]:g}x, {waits[1]:g}x: {_verdict(_within(multiples, waits))}",
    ]


def _within(values: Sequence[float], limits: Sequence[float]) -> bool:
    return all(value <= limit for value, limit in zip(values, limits, strict=True))


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


def wait_text(steps: float, multiple: float) -> str:
    """Steps, and how many times those of `fcfs`."""
    return f"{steps:,.0f} ({multiple:.1f}x)" if multiple < 100 else f"{steps:,.0f} ({multiple:,.0f}x)"


CURVE_SHAPES = (Shape(16, 72), Shape(8, 16))
SLACKS, MAX_WAITS = (0, 4, 16, 64, -1), (0, 10, 40, 160)
LIMITS = ((1, 1), (1, 2), (2, 4), (3, 10), (5, 20), (0, 3), (0, 10), (0, 30), (0, 100), (0, 0))
"""Pairs of `usual_wait` and `worst_wait`."""


def curve_specs() -> list[str]:
    """The policies of the trade-off curve."""
    limited = [f"usual_wait={usual},worst_wait={worst}" for usual, worst in LIMITS]
    return [
        *("fcfs", "jsq-kv", "align-max"),
        *(f"waterline:load=kv,{limits}" for limits in limited),
        *(f"bf-io:load=kv,worst_wait={times}" for times in (1, 3, 10, 30)),
        *(f"bf-io:load=kv,worst_wait=0,slack={slack},max_wait={most}" for slack in SLACKS for most in MAX_WAITS),
    ]


def fairness(quick: bool) -> Iterator[Table]:
    """What shorter waits cost in balance."""
    specs, count = (curve_specs()[::6], REQUESTS // 10) if quick else (curve_specs(), REQUESTS)
    columns = ("policy", "imbalance, tokens", "of best released", "throughput", "p99 wait", "longest wait")
    order = ORDERS[0]
    for shape in CURVE_SHAPES:
        rows, records = [], []
        for spec in specs:
            say(f"fairness: {shape}, {spec}")
            run, fcfs = (served(each, shape, order, count) for each in (spec, "fcfs"))
            ratio, multiples = run.imbalance / best_released()[order, shape], run.times(fcfs)
            waits = map(wait_text, (run.p99_wait, run.longest_wait), multiples)
            rows.append([f"`{spec}`", f"{run.imbalance:,.0f}", f"{ratio:.2f}", f"{run.throughput:.4f}", *waits])
            records.append(
                {"policy": spec, "shape": str(shape), **asdict(run), "ratio": ratio, "waits_of_fcfs": multiples}
            )
        yield Table(f"fairness: {shape}, order {order}", columns, rows, records)

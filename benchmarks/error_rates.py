"""How often the statistics of lbal are right: coverage of intervals and false verdicts, as tables.

    python benchmarks/error_rates.py            all tables (some minutes)
    python benchmarks/error_rates.py --pairs 40 fewer pairs and traces

- *Null test*: two runs of a policy that draws, with different seeds, on the same requests: no difference is true. Any
  metric called better, worse or changed is a false verdict; at most 5% of pairs should have one for one metric.
- *AR(1)*: a mean of correlated steps, stored as a result stores them.
- *Calibration*: coefficients fitted to simulated times, whose truth is known.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import polars as pl

from lbal.analyzers.barrier.folded import MOST_BINS, bin_edges
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.calibration.calibration import calibrate
from lbal.analyzers.compare.differences import corrected, difference
from lbal.analyzers.compare.intervals import Intervals
from lbal.analyzers.errors import InputError
from lbal.analyzers.result.result import Run
from lbal.analyzers.statistics.long_run import sum_estimate
from lbal.analyzers.trace.trace import StepArrays, Trace, TraceMeta
from lbal.replay.engine.engine import replay
from lbal.replay.experiment.figures import run_of
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

MODEL = StepTimeModel("true", 0.0273, 23.3e-9, 232e-6)
LENGTHS = (
    (150, 9), (150, 53), (150, 166), (1200, 6), (1500, 9), (2400, 12), (2400, 17), (2400, 120), (8000, 120),
)  # fmt: skip
"""Requests, mean output. The first three make about 81, 483 and 1,503 steps, too short for most verdicts."""
METRICS = ("barrier_idle_fraction", "tokens_per_second", "imbalance_tokens_mean", "balance_ratio_mean")


@dataclass(frozen=True)
class Share:
    """How many of a number."""

    hits: int
    of: int

    def __str__(self) -> str:
        return f"{self.hits / self.of:6.1%} of {self.of}" if self.of else "n/a"


def made_workload(requests: int, output: int, seed: int) -> Workload:
    """Requests that come at random and stay for `output` steps on average."""
    random = np.random.default_rng(seed)
    prompts = np.minimum(random.lognormal(7.0, 1.0, requests), 20_000).astype(np.int64)
    outputs = random.geometric(1 / output, requests).astype(np.int64)
    gap_ms = 30.0 * output / (4 * 12 * 0.6)
    arrivals = np.cumsum(random.exponential(gap_ms, requests))
    return Workload("made", pl.Series("request_id", np.arange(requests)), prompts, outputs, arrivals, None)


def random_runs(workload: Workload, seeds: range) -> list[Run]:
    """The runs of a policy that draws, one for each seed."""
    cluster, policy = Cluster(4, 12, MODEL), parse_policy("random")
    return [
        run_of(Windowed.of(replay(workload, cluster, policy, replace(Conditions(), seed=seed)), "all"))
        for seed in seeds
    ]


def null_pairs(requests: int, output: int, pairs: int) -> Iterator[tuple[Run, Run]]:
    """Pairs of runs without a true difference, each on requests of its own."""
    for pair in range(pairs):
        base, head = random_runs(made_workload(requests, output, pair), range(2 * pair, 2 * pair + 2))
        yield base, head


def null_test(requests: int, output: int, pairs: int) -> tuple[float, dict[str, Share], Share]:
    """Mean steps, false verdicts by metric, and pairs with any false verdict after correction."""
    steps, hits, verdicts, anyone, judged = 0.0, dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0), 0, 0
    for base, head in null_pairs(requests, output, pairs):
        steps += base.metrics["steps"].value / pairs
        intervals = Intervals.of(base, head)
        found = [difference(intervals, name, base.metrics[name].value, head.metrics[name].value) for name in METRICS]
        for each in found:
            verdicts[each.metric] += each.interval is not None
            hits[each.metric] += each.mark in ("better", "worse", "changed")
        anyone += any(each.mark in ("better", "worse", "changed") for each in corrected(found))
        judged += any(each.interval is not None for each in found)
    return steps, {name: Share(hits[name], verdicts[name]) for name in METRICS}, Share(anyone, judged)


def correlated(
    random: np.random.Generator, count: int, correlation: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(count,) a stationary AR(1) series around 0."""
    noise = random.standard_normal(count)
    values = np.empty(count)
    last = random.standard_normal() / np.sqrt(1 - correlation**2)
    for index in range(count):
        last = correlation * last + noise[index]
        values[index] = last
    return values


def ar_coverage(steps: int, correlation: float, trials: int) -> Share:
    """How often the interval of the mean of such a series holds 0, where there is one."""
    random, hits, known = np.random.default_rng(7), 0, 0
    edges = bin_edges(steps, min(steps, MOST_BINS))
    for _ in range(trials):
        values = correlated(random, steps, correlation)
        mean = float(values.mean())
        sums = np.add.reduceat(values, edges[:-1])
        found = sum_estimate(mean, (sums - mean * np.diff(edges)) / steps)
        if not isinstance(found, str):
            known += 1
            hits += found.interval.holds_zero
    return Share(hits, known)


def calibration_coverage(
    traces: int, *, rank_times: bool, rank_noise: float, slow: float = 1.0, steps: int = 1000, served: bool = False
) -> dict[str, Share]:
    """How often the intervals of `calibrate` hold the true C, a and b, of the traces that it takes.

    Rank times have 5 ms of their own; rank 2 takes `slow` times as long for its work. Loads drift as those of a server
    do, or are those of requests `served` in round robin.
    """
    hits, known, true = dict.fromkeys("Cab", 0), 0, {"C": 0.0323, "a": MODEL.per_token_s, "b": MODEL.per_request_s}
    for seed in range(traces):
        random = np.random.default_rng(seed)
        model = MODEL.with_speeds({2: 1 / slow})
        loads = served_loads(seed, model) if served else made_loads(random, steps)
        steps = len(loads[0])
        own = 5.0 + model.rank_time_ms(*loads) * (1 + rank_noise * random.standard_normal(loads[0].shape))
        step_ms = own.max(axis=1) + 27.3 * (1 + 0.03 * random.standard_normal(steps))
        arrays = StepArrays(np.arange(steps), *loads, compute_ms=own if rank_times else None, step_ms=step_ms)
        try:
            found = calibrate(Trace.of(TraceMeta("made", "native", dp_size=loads[0].shape[1]), None, arrays.frame()))
        except InputError:
            continue
        known += 1
        for name, value in true.items():
            hits[name] += found.coefficients[name].low <= value <= found.coefficients[name].high
    return {name: Share(hits[name], known) for name in hits}


def made_loads(random: np.random.Generator, steps: int, ranks: int = 8) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """(S, G) KV tokens and requests that drift as those of a server do."""
    wave = (
        1
        + 0.4 * np.sin(np.arange(steps) / 60)[:, None]
        + 0.1 * random.standard_normal((steps // 50 + 1, ranks)).repeat(50, axis=0)[:steps]
    )
    running = np.maximum(random.poisson(24 * wave), 1).astype(np.float64)
    return np.round(running * 3_000 * random.lognormal(0, 0.25, running.shape)), running


def served_loads(seed: int, model: StepTimeModel) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """(S, 4) KV tokens and requests under round robin on 4 ranks, as uneven as its requests are."""
    workload, cluster = made_workload(250, 120, seed), Cluster(4, 16, model)
    steps = replay(workload, cluster, parse_policy("round-robin"), Conditions()).trace.step_arrays()
    return steps.kv_tokens, steps.num_running


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    pairs = parser.parse_args().pairs
    print("False verdicts between seeds of one policy (interval where the run is long enough)")
    for requests, output in LENGTHS:
        steps, shares, anyone = null_test(requests, output, pairs)
        listed = "  ".join(f"{name} {share}" for name, share in shares.items())
        print(f"  {steps:7,.0f} steps, {requests} requests of {output}: any, corrected {anyone}; {listed}", flush=True)
    print("Coverage of AR(1) means")
    for steps in (81, 128, 500, 2000):
        row = "  ".join(f"{rho:.1f}: {ar_coverage(steps, rho, pairs)}" for rho in (0.0, 0.3, 0.6, 0.8, 0.9))
        print(f"  {steps:5} steps  {row}", flush=True)
    print("Coverage of calibrate's intervals")
    for rank_times, noise, slow in product((True, False), (0.0, 0.05, 0.2), (1.0, 1.25)):
        found = calibration_coverage(pairs, rank_times=rank_times, rank_noise=noise, slow=slow)
        what = f"{'rank times' if rank_times else 'step times alone'}, rank noise {noise:.0%}, a rank of {slow:g}x"
        print(f"  {what}: " + "  ".join(f"{name} {share}" for name, share in found.items()), flush=True)
    for noise in (0.0, 0.05):
        found = calibration_coverage(pairs, rank_times=False, rank_noise=noise, slow=1.25, served=True)
        row = "  ".join(f"{name} {share}" for name, share in found.items())
        print(
            f"  step times alone of requests in round robin, rank noise {noise:.0%}, a rank of 1.25x: {row}", flush=True
        )


if __name__ == "__main__":
    main()

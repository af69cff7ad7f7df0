"""The work that is measured, each function in a process of its own: `python tasks.py NAME ARGUMENTS_AS_JSON`.

The last line that it prints is what the function returned, as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import workloads

import lbal.replay.engine.engine as engine
from lbal.analyzers.analysis.analysis import analyze_steps
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.models.step_models import paper_release
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.reading.line_form import LineForm
from lbal.analyzers.trace.trace import StepArrays
from lbal.replay.engine.engine import Replay, replay
from lbal.replay.policy.policy import POLICIES, Policy, parse_policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload
from lbal.replay.solver import StepProblem, solve

sys.path.insert(0, str(workloads.ROOT / "tests" / "helpers"))
SLOTS = 72
RANKS_OF_LOGS = 8
BACKLOG = Conditions(arrivals="backlog")
POLICIES_MEASURED = (
    "fcfs", "round-robin", "round-robin:restart=true", "random", "power-of-two", "power-of-two:signal=kv", "jsq",
    "jsq-kv", "lpt", "align-max", "vllm", "vllm:variant=legacy", "sglang-total-requests", "sglang-total-tokens",
    "trtllm-adp", "kv-aware", "dynamo-kv", "llm-d",
)  # fmt: skip
"""The baselines and the shipped routers: policies that need no solver."""
WHOLE_REFERENCE = ("jsq-kv", "lpt", "align-max")
"""Policies whose plain reference serves all requests; it is slow, so the others' serves the first ones."""
FIRST = 1_000
SLOT_USE, BISECTIONS = 0.8, 16


class LoopTime:
    """Seconds spent in the compiled loop while `measured` is in force."""

    seconds = 0.0


@contextmanager
def measured_loop() -> Iterator[LoopTime]:
    """Puts a clock around the engine's compiled loop."""
    spent, loop = LoopTime(), engine.compiled_loop()
    original = engine.compiled_loop

    def clocked(*arguments: Any) -> int:
        started = time.perf_counter()
        status: int = loop(*arguments)
        spent.seconds += time.perf_counter() - started
        return status

    engine.compiled_loop = lambda: clocked
    try:
        yield spent
    finally:
        engine.compiled_loop = original


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def timed_replay(
    workload: Workload, cluster: Cluster, policy: Policy, conditions: Conditions = BACKLOG, *, keep_steps: bool = False
) -> tuple[float, float, Replay]:
    """Seconds in the loop, seconds of the whole replay, and the replay."""
    with measured_loop() as spent:
        seconds, replayed = timed(lambda: replay(workload, cluster, policy, conditions, keep_steps=keep_steps))
    return spent.seconds, seconds, replayed


def cluster_of(ranks: int, slots: int = SLOTS, kv_capacity: int | None = None) -> Cluster:
    return Cluster(ranks, slots, paper_release(slots), kv_capacity)


def loaded(policy: Policy) -> Policy:
    """The policy, with all that it runs on compiled or taken from the cache."""
    replay(workloads.tiled(100), cluster_of(2), policy, BACKLOG, keep_steps=False)
    return policy


def backlog(count: int, ranks: int, policy: str) -> dict[str, Any]:
    """One replay of a backlog without its trajectory."""
    chosen, workload = loaded(parse_policy(policy)), workloads.tiled(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    loop, whole, replayed = timed_replay(workload, cluster_of(ranks), chosen)
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    return {"loop": loop, "whole": whole, "user": user, "steps": len(replayed.step_ms), "source": workload.source}


def kept(count: int, ranks: int, policy: str) -> dict[str, Any]:
    """One replay of a backlog with its trajectory, and the analysis of that."""
    chosen, workload, cluster = loaded(parse_policy(policy)), workloads.tiled(count), cluster_of(ranks)
    loop, whole, replayed = timed_replay(workload, cluster, chosen, keep_steps=True)
    analysis, _ = timed(lambda: analyze_steps(replayed.trace, None, cluster.step_model, "all", None))
    return {"loop": loop, "whole": whole, "analysis": analysis, "steps": len(replayed.step_ms)}


def immediate(count: int, ranks: int, policy: str) -> dict[str, Any]:
    """Poisson arrivals that keep 80% of the slots busy, bound on arrival, with a KV capacity that binds at times."""
    chosen = loaded(parse_policy(policy))
    workload = workloads.poisson(count, 1_000.0)
    largest, steps = workload.prompt_tokens + workload.output_tokens, workload.output_tokens
    # What all slots of a rank reserve on average: long requests are resident longer, so they weigh more.
    capacity = max(int(SLOTS * (largest * steps).sum() / steps.sum()), int(largest.max()))
    cluster = cluster_of(ranks, kv_capacity=capacity)
    low, high = 1e-3, 1e3
    for _ in range(BISECTIONS):
        conditions = Conditions(arrivals="trace", binding="immediate", rate_scale=(low * high) ** 0.5)
        loop, whole, replayed = timed_replay(workload, cluster, chosen, conditions)
        use = busy_share(replayed, ranks * SLOTS)
        low, high = (conditions.rate_scale, high) if use < SLOT_USE else (low, conditions.rate_scale)
    return {
        "loop": loop,
        "whole": whole,
        "steps": len(replayed.step_ms),
        "capacity": capacity,
        "slot_use": use,
        "waited": float((replayed.waited_steps > 0).mean()),
    }


def busy_share(replayed: Replay, slots: int) -> float:
    """Share of the slots that are taken, while the middle half of the requests is admitted."""
    running = np.concatenate([accounts.running for accounts in replayed.accounts.values()])
    first, last = np.quantile(replayed.admitted_step, [0.25, 0.75]).astype(int)
    return float(running[first : last + 1].mean() / slots)


def policies(count: int, ranks: int, repeat: int, quick: bool) -> dict[str, Any]:
    """Every built-in policy on a backlog, and the plain reference on the same work."""
    from reference_engine import ReferenceEngine

    first = min(count, FIRST)
    workload, part, cluster = workloads.tiled(count), workloads.tiled(first), cluster_of(ranks)
    found: dict[str, Any] = {}
    for spec in POLICIES_MEASURED:
        if spec.partition(":")[0] not in POLICIES.names():
            continue
        policy = loaded(parse_policy(spec))
        runs = [timed_replay(workload, cluster, policy) for _ in range(repeat)]
        all_of_it = spec in WHOLE_REFERENCE and not quick
        same = workload if all_of_it else part
        plain, _ = timed(ReferenceEngine(same, cluster, policy, BACKLOG).run)
        again = [timed_replay(same, cluster, policy)[0] for _ in range(repeat)]
        found[spec] = {
            "loop": [run[0] for run in runs],
            "whole": [run[1] for run in runs],
            "steps": len(runs[0][2].step_ms),
            "reference": plain / float(np.median(again)),
            "reference_s": plain,
            "reference_requests": len(same),
        }
    return found


def accounting(rank_steps: int, ranks: int, repeat: int) -> dict[str, Any]:
    """The accounts of random loads, compiled and plain."""
    from reference_accounting import plain_account

    random, shape = np.random.default_rng(workloads.SEED), (rank_steps // ranks, ranks)
    running = random.integers(0, SLOTS + 1, shape).astype(np.float64)
    tokens = np.floor(running * random.uniform(800, 1_200, shape))
    steps, model = StepArrays(np.arange(shape[0]), tokens, running), paper_release(SLOTS)
    account(steps.part(slice(0, 2)), model, measured=False)
    fast = [timed(lambda: account(steps, model, measured=False)) for _ in range(repeat)]
    plain = [timed(lambda: plain_account(steps, model, False)) for _ in range(repeat)]
    np.testing.assert_allclose(fast[0][1].idle_ms, plain[0][1]["idle_ms"], rtol=1e-9, atol=1e-9)
    return {"seconds": [run[0] for run in fast], "plain": [run[0] for run in plain]}


def callback(rule: str, count: int, ranks: int, slots: int, output: int | None = None) -> dict[str, Any]:
    """A policy in plain Python; with `output`, every request asks for as many tokens."""
    import python_rules

    policy: Policy = getattr(python_rules, rule)()
    tiny = workloads.tiled(64)
    replay(tiny, cluster_of(ranks, slots), policy, BACKLOG, keep_steps=False)
    workload = workloads.tiled(count)
    if output is not None:
        workload.output_tokens[:] = output
    loop, whole, replayed = timed_replay(workload, cluster_of(ranks, slots), policy)
    return {
        "loop": loop,
        "whole": whole,
        "steps": len(replayed.step_ms),
        "admission_steps": len(np.unique(replayed.admitted_step)),
    }


def steady_problems(ranks: int, slots: int, pool: int, horizon: int, count: int) -> list[StepProblem]:
    """Problems that `bf-io` meets while all slots are busy and the pool is full, with true lengths, evenly chosen."""
    import python_rules

    found = python_rules.Noting.problems
    found.clear()
    policy = python_rules.Noting(horizon=horizon, discount=1.0, predictor="oracle")
    turns = 30 if ranks * slots < 10_000 else 8
    workload = workloads.shuffled(turns * ranks * slots)
    replay(workload, cluster_of(ranks, slots), policy, Conditions("backlog", pool=pool), keep_steps=False)
    steady = [problem for problem in found if len(problem.profiles) == pool and 0 < problem.num_placed < pool]
    steady = steady[len(steady) // 2 :]
    return steady[:: max(1, len(steady) // count)][:count]


def decisions(ranks: int, slots: int, pool: int, horizon: int, count: int, repeat: int) -> dict[str, Any]:
    """Times of the fast solver on such problems, the shortest of some runs of each."""
    problems = steady_problems(ranks, slots, pool, horizon, count)
    solve(problems[0])
    seconds = [min(solve(problem).seconds for _ in range(repeat)) for problem in problems]
    placed = float(np.mean([problem.num_placed for problem in problems]))
    return {"seconds": seconds, "placed": placed}


def gaps(ranks: int, slots: int, pool: int, horizon: int, count: int, limit: float) -> dict[str, Any]:
    """Fast against exact on such problems, where that proves: differences in J and in shares of the load."""
    relative, of_load, proven, sums = [], [], 0, np.zeros(2)
    problems = steady_problems(ranks, slots, pool, horizon, count)
    for problem in problems:
        exact, fast = solve(problem, "exact", deterministic_limit=limit), solve(problem)
        apart = fast.objective - exact.objective
        load = problem.weights @ (problem.loads.sum(axis=0) + problem.profiles[fast.requests].sum(axis=0))
        of_load.append(apart / load)
        if exact.status == "optimal":
            proven += 1
            sums += apart, exact.objective
            relative.append(apart / exact.objective if exact.objective > 0 else float(apart > 0))
    total = float(sums[0] / sums[1]) if sums[1] else 0.0
    return {"relative": relative, "of_load": of_load, "total": total, "proven": proven / len(problems)}


def solver_replay(count: int, times_prompt: int, policy: str, repeat: int) -> dict[str, Any]:
    """Replays of a backlog with prompts so many times as long."""
    chosen, workload = loaded(parse_policy(policy)), workloads.tiled(count)
    workload.prompt_tokens[:] *= times_prompt
    runs = [timed_replay(workload, cluster_of(16), chosen) for _ in range(repeat)]
    return {"loop": [run[0] for run in runs], "steps": len(runs[0][2].step_ms)}


def reading(path: str) -> dict[str, Any]:
    """One read of a file."""
    read_trace(str(workloads.ROOT / "sample_traces" / "two_ranks_three_steps.jsonl"))
    seconds, trace = timed(lambda: read_trace(path))
    return {"seconds": seconds, "requests": trace.num_requests}


def log_reading(path: str, plainly: bool) -> dict[str, Any]:
    """Processor time of one read of a log: in bulk, or each line by itself, as the tests hold it equal."""
    if plainly:
        LineForm.of = classmethod(lambda *_: None)  # type: ignore[method-assign, assignment]
    read_trace(str(workloads.ROOT / "sample_traces" / "two_ranks_three_steps.jsonl"))
    started = time.process_time()
    trace = read_trace(path)
    return {"seconds": time.process_time() - started, "steps": trace.num_steps}


def log_file(path: str, renderer: str, lines: int) -> dict[str, Any]:
    """Write the log of 8 ranks, as an engine would, of about so many lines."""
    from engine_logs import RENDERERS
    from engine_logs.known_run import made_up

    written = 0
    with Path(path).open("w", encoding="utf-8") as out:
        for line in RENDERERS[renderer].lines(made_up(lines // RANKS_OF_LOGS, RANKS_OF_LOGS)):
            out.write(f"{line.text}\n")
            written += 1
    return {"lines": written}


def files(folder: str, kind: str, count: int) -> dict[str, Any]:
    """Write what `reading` and `lbal analyze` read."""
    place = Path(folder)
    if kind == "burstgpt":
        workloads.write_burstgpt(count, place / "burstgpt.csv")
    elif kind == "mooncake":
        workloads.write_mooncake(count, place / "mooncake.jsonl")
    elif kind == "steps":
        workloads.write_steps(count, place / "steps.parquet", place / "steps.jsonl.gz")
    elif kind == "step-lines":
        workloads.write_steps(count, place / "steps.jsonl")
    elif kind == "azure":
        source, path = workloads.azure(place)
        return {"source": source, "path": str(path)}
    return {}


def modules_of(arguments: list[str]) -> dict[str, Any]:
    """Every module that an `lbal` command has loaded by its end, in that order."""
    before = set(sys.modules)
    assert not any(name.startswith("lbal.cli") for name in before)
    from lbal.cli.main import run

    assert run(arguments) == 0
    return {"modules": [name for name in sys.modules if name.partition(".")[0] not in ("__main__", "tasks")]}


def main() -> None:
    """Do what the command line says."""
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()

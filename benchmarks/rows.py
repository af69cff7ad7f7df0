"""The rows of the table: what each measures, how often, and its target. Standard library only, as `measuring` asks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measuring import ROOT, Finished, Row, available_mb, run_lbal, run_process, run_task

THREE = ["--policy", "round-robin", "--policy", "jsq", "--policy", "jsq-kv"]
LOGS = {
    "SGLang, every pass": ("sglang 0.5.10, every pass", True),
    "vLLM, iteration lines A": ("vllm iterations A", True),
    "vLLM, iteration lines A behind a container's clock": ("vllm iterations A in a container", True),
    "vLLM, iteration lines B": ("vllm iterations B", True),
    "vLLM, iteration lines C": ("vllm iterations C", True),
    "TensorRT-LLM, iteration log": ("trtllm dummies", True),
    "Dynamo, forward-pass metrics": ("dynamo", False),
}
"""Renderers of the tests, and whether lines can also be read each by itself."""
NEEDED_MB_PER_MILLION = 450
"""Memory that a replay of a million requests over 16 ranks takes, for the decision not to start one."""


@dataclass(frozen=True)
class Bench:
    """How to measure: how often, how large, and where files may be written."""

    repeat: int
    quick: bool
    folder: Path
    notes: list[str]
    log_lines: int = 200_000
    """Lines of the logs of engines that are read."""

    def size(self, full: int) -> int:
        """A hundredth of the work where it must be quick; the targets then mean nothing."""
        return full // 100 if self.quick else full

    def target(self, value: float) -> float | None:
        return None if self.quick else value

    def times(self, most: int | None = None) -> int:
        """Repeats, at most so many where one takes long."""
        return max(1, self.repeat if most is None else min(self.repeat, most))


def million(bench: Bench) -> Iterator[Row]:
    """1,000,000 requests on 64 ranks."""
    count = bench.size(1_000_000)
    runs = [run_task("backlog", count=count, ranks=64, policy="jsq-kv") for _ in range(bench.times())]
    first = runs[0][0]
    bench.notes.append(f"requests: {first['source']}; the {count:,} take {first['steps']:,} steps of 64 ranks")
    what = f"{count:,} requests, G=64, B=72, backlog, jsq-kv"
    peak = max(process.peak_mb for _, process in runs)
    target = bench.target(0.5)
    yield Row("million", f"{what}: the loop", _of(runs, "loop"), target=target)
    yield Row(
        "million", f"{what}: replay()", _of(runs, "whole"), target=target, peak_mb=peak, target_mb=bench.target(1_500)
    )


def million_kept(bench: Bench) -> Iterator[Row]:
    """The same with the trajectory kept and analysed."""
    count = bench.size(1_000_000)
    runs = [run_task("kept", count=count, ranks=64, policy="jsq-kv") for _ in range(bench.times())]
    total = [result["whole"] + result["analysis"] for result, _ in runs]
    peak = max(process.peak_mb for _, process in runs)
    what = "the same with its trajectory kept"
    yield Row("million-kept", f"{what}: replay() and analysis", total, target=bench.target(1.5), peak_mb=peak)
    yield Row("million-kept", f"{what}: replay()", _of(runs, "whole"))
    yield Row("million-kept", f"{what}: analyze_steps()", _of(runs, "analysis"))


def policies(bench: Bench) -> Iterator[Row]:
    """Every built-in policy on 8,000 requests."""
    count = bench.size(8_000)
    repeat = 1 if bench.quick else 4 * bench.times()
    found, _ = run_task("policies", count=count, ranks=16, repeat=repeat, quick=bench.quick)
    whole_of_it = []
    for spec, result in found.items():
        what = f"{count:,} requests, G=16, B=72, backlog, {spec} ({result['steps']:,} steps)"
        loop, whole = ([seconds * 1e3 for seconds in result[key]] for key in ("loop", "whole"))
        yield Row("policies", f"{what}: the loop", loop, "ms", bench.target(10.0), reference=result["reference"])
        yield Row("policies", f"{what}: replay()", whole, "ms")
        if result["reference_requests"] == count:
            whole_of_it.append(f"{spec} ({result['reference_s']:.1f} s)")
    first = next((r["reference_requests"] for r in found.values() if r["reference_requests"] != count), count)
    bench.notes.append(
        f"policies: the plain reference serves all {count:,} requests for {', '.join(whole_of_it) or 'no policy'} and "
        f"the first {first:,} for the others; the ratio is of the loop on exactly the same requests, and grows with "
        "their number, since the reference shows a router all requests anew at every decision"
    )
    if not bench.quick:
        medians = [median(result["loop"]) * 1e3 for result in found.values()]
        fastest, slowest = min(medians), max(medians)
        bench.notes.append(
            f"policies: the loop takes {fastest:.2f} to {slowest:.2f} ms by policy; the released simulator takes "
            f"390-510 ms for these requests, {390 / slowest:.0f} to {510 / fastest:.0f} times as long"
        )


def immediate(bench: Bench) -> Iterator[Row]:
    """100,000 arrivals on 256 ranks."""
    count, ranks = bench.size(100_000), 8 if bench.quick else 256
    runs = [run_task("immediate", count=count, ranks=ranks, policy="jsq-kv") for _ in range(bench.times())]
    first = runs[0][0]
    what = f"{count:,} requests, G={ranks}, B=72, trace arrivals, immediate binding, KV capacity, jsq-kv"
    bench.notes.append(
        f"immediate: capacity {first['capacity']:,} tokens; {first['slot_use']:.0%} of the slots are taken while "
        f"the middle half of the requests is admitted, {first['waited']:.1%} of the requests wait; "
        f"{first['steps']:,} steps"
    )
    peak = max(process.peak_mb for _, process in runs)
    yield Row("immediate", f"{what}: the loop", _of(runs, "loop"), target=bench.target(1.0))
    yield Row("immediate", f"{what}: replay()", _of(runs, "whole"), target=bench.target(1.0), peak_mb=peak)


def replay_command(bench: Bench) -> Iterator[Row]:
    """`lbal replay` as a whole process, and what of it are imports."""
    made, _ = run_task("files", folder=str(bench.folder), kind="azure", count=0)
    command = ["replay", made["path"], "--dp-size", "8", "--max-num-seqs", "64", *THREE]
    run_lbal(*command)
    runs = [run_lbal(*command) for _ in range(bench.times())]
    what = f"lbal replay, {made['source']}, G=8, B=64, three baselines"
    seconds = [process.seconds for process in runs]
    peak = max(process.peak_mb for process in runs)
    yield Row("replay-command", f"{what}: whole process", seconds, target=bench.target(2.5), peak_mb=peak)
    loaded, _ = run_task("modules_of", arguments=command)
    bare, imports = _import_times(loaded["modules"], bench)
    yield Row("replay-command", f"{what}: its {len(loaded['modules'])} imports", imports, target=bench.target(1.2))
    yield Row("replay-command", "a bare python, not in the imports", bare)


def _import_times(modules: list[str], bench: Bench) -> tuple[list[float], list[float]]:
    """Seconds of a bare interpreter, and what importing the modules takes on top, one after the other."""
    script = bench.folder / "imports.py"
    script.write_text(
        "import importlib\n"
        f"for name in {modules!r}:\n"
        "    try:\n        importlib.import_module(name)\n    except ImportError:\n        pass\n"
    )
    run_process([sys.executable, str(script)])
    bare, imports = [], []
    for _ in range(bench.times()):
        bare.append(run_process([sys.executable, "-c", "pass"]).seconds)
        imports.append(run_process([sys.executable, str(script)]).seconds - bare[-1])
    return bare, imports


def analyze_command(bench: Bench) -> Iterator[Row]:
    """`lbal analyze` of 10,000,000 rank-steps, from both native forms."""
    count = bench.size(10_000_000)
    run_task("files", folder=str(bench.folder), kind="steps", count=count)
    for name, target, target_mb, most in (("steps.parquet", 3.0, 2_000, None), ("steps.jsonl.gz", 40.0, 3_000, 3)):
        path = bench.folder / name
        runs = [run_lbal("analyze", str(path)) for _ in range(bench.times(most))]
        yield Row(
            "analyze-command",
            f"lbal analyze, {count:,} rank-steps of 64 ranks, measured times, {name}: whole process",
            [process.seconds for process in runs],
            target=bench.target(target),
            peak_mb=max(process.peak_mb for process in runs),
            target_mb=bench.target(target_mb),
        )
    _empty(bench.folder)


def analyze_memory(bench: Bench) -> Iterator[Row]:
    """Peak memory of `lbal analyze` of JSON Lines: four times the steps must take hardly more."""
    few = bench.size(6_000_000)
    peaks_mb = []
    for count in (few, 4 * few):
        run_task("files", folder=str(bench.folder), kind="step-lines", count=count)
        path = bench.folder / "steps.jsonl"
        megabytes = path.stat().st_size / 1e6
        process = run_lbal("analyze", str(path))
        peaks_mb.append(process.peak_mb)
        yield Row(
            "analyze-memory",
            f"lbal analyze, {count:,} rank-steps of 64 ranks, measured times, JSON Lines ({megabytes:,.0f} MB)",
            [process.seconds],
            peak_mb=process.peak_mb,
            target_mb=bench.target(600),
        )
    ratio = peaks_mb[1] / peaks_mb[0]
    yield Row("analyze-memory", "peak memory of the larger over that of the smaller", [ratio], "x", bench.target(1.1))
    _empty(bench.folder)


def reading(bench: Bench) -> Iterator[Row]:
    """Reading 1,000,000 requests."""
    count = bench.size(1_000_000)
    for kind, name, target, most in (
        ("burstgpt", "burstgpt.csv", 1.0, None),
        ("mooncake", "mooncake.jsonl", 6.0, 3),
    ):
        run_task("files", folder=str(bench.folder), kind=kind, count=count)
        path = bench.folder / name
        megabytes = path.stat().st_size / 1e6
        runs = [run_task("reading", path=str(path)) for _ in range(bench.times(most))]
        yield Row(
            "reading",
            f"reading {count:,} requests, {name} ({megabytes:,.0f} MB)",
            _of(runs, "seconds"),
            target=bench.target(target),
            peak_mb=max(process.peak_mb for _, process in runs),
        )
    _empty(bench.folder)


def logs(bench: Bench) -> Iterator[Row]:
    """Reading the logs of engines, each line by itself and in bulk."""
    path = bench.folder / "server.log"
    for engine, (renderer, has_plain) in LOGS.items():
        made, _ = run_task("log_file", path=str(path), renderer=renderer, lines=bench.size(bench.log_lines))
        lines, megabytes = made["lines"], path.stat().st_size / 1e6
        runs = [run_task("log_reading", path=str(path), plainly=False) for _ in range(bench.times())]
        plain = [
            run_task("log_reading", path=str(path), plainly=True) for _ in range(bench.times(3) if has_plain else 0)
        ]
        ratio = median(_of(plain, "seconds")) / median(_of(runs, "seconds")) if plain else None
        yield Row(
            "logs",
            f"{engine}: {lines:,} lines ({megabytes:,.0f} MB) of 8 ranks, lines per second of processor time",
            [lines / seconds for seconds in _of(runs, "seconds")],
            "per s",
            bench.target(300_000),
            at_least=True,
            reference=ratio,
            peak_mb=max(process.peak_mb for _, process in runs),
        )
    _empty(bench.folder)


def accounting(bench: Bench) -> Iterator[Row]:
    """The accounting of 1,000,000 rank-steps."""
    count = bench.size(1_000_000)
    found, _ = run_task("accounting", rank_steps=count, ranks=16, repeat=bench.times())
    fast = found["seconds"]
    ratio = median(found["plain"]) / median(fast)
    what = f"accounts of {count:,} rank-steps of 16 ranks"
    yield Row("accounting", what, [seconds * 1e3 for seconds in fast], "ms", reference=ratio)


def callback(bench: Bench) -> Iterator[Row]:
    """Policies in plain Python."""
    for rule, shape, what in (
        ("OnlyRank", {"ranks": 1, "slots": 1, "output": 1}, "place(), one request per step, G=1, B=1"),
        ("FirstFit", {"ranks": 16, "slots": 72}, "place(), first fit in NumPy, G=16, B=72"),
    ):
        for count in (bench.size(10_000), bench.size(1_000_000)):
            repeats = bench.times(None if count <= 10_000 else 3)
            runs = [run_task("callback", rule=rule, count=count, **shape)[0] for _ in range(repeats)]
            rates = [run["admission_steps"] / run["loop"] for run in runs]
            text = f"Python {what}, {count:,} requests: admission steps"
            yield Row("callback", text, rates, "per s", bench.target(50_000), at_least=True)
    for count in (bench.size(10_000), bench.size(1_000_000)):
        repeats = bench.times(None if count <= 10_000 else 3)
        runs = [run_task("callback", rule="FirstEligible", count=count, ranks=16, slots=72)[0] for _ in range(repeats)]
        text = f"Python choose(), G=16, B=72, {count:,} requests: calls"
        yield Row("callback", text, [count / run["loop"] for run in runs], "per s")


def solver(bench: Bench) -> Iterator[Row]:
    """Decisions of the fast solver, their gaps to proven optima, and whole replays."""
    for ranks, slots, pool, full, p50, p99 in (
        (8, 16, 32, 300, 0.05, 0.2),
        (16, 72, 64, 100, None, None),
        (32, 72, 128, 100, 2.0, 6.0),
        (256, 72, 1_024, 40, 25.0, 75.0),
    ):
        if bench.quick and ranks > 8:
            continue
        for horizon in (0, 20):
            count, shape = max(bench.size(full), 3), {"ranks": ranks, "slots": slots, "pool": pool, "horizon": horizon}
            found, _ = run_task("decisions", **shape, count=count, repeat=3)
            milliseconds = sorted(second * 1e3 for second in found["seconds"])
            late = milliseconds[int(0.99 * (len(milliseconds) - 1))]
            what = f"fast decision, G={ranks}, B={slots}, pool {pool:,}, H={horizon}, {found['placed']:.1f} placed"
            for name, value, target in (("p50", median(milliseconds), p50), ("p99", late, p99)):
                known = bench.target(target) if target is not None and horizon else None
                yield Row("solver", f"{what}: {name}", [value], "ms", known)
            if ranks > 16:
                continue
            result, _ = run_task("gaps", **shape, count=max(bench.size(40), 3), limit=0.5)
            share = f"G={ranks}, B={slots}, H={horizon}, {result['proven']:.0%} proven"
            mean = sum(result["relative"]) / max(len(result["relative"]), 1) * 100
            target = bench.target(0.0 if ranks == 8 else 0.5)
            yield Row("solver", f"mean gap to proven optima, {share}", [mean], "% of J", target)
            yield Row("solver", f"sum of gaps to proven optima, {share}", [result["total"] * 100], "% of sum of J")
            most = max(result["of_load"]) * 100
            yield Row("solver", f"largest excess over exact, {share}", [most], "% of load", bench.target(0.5))
    count = bench.size(8_000)
    for times in (1, 100):
        for policy in ("bf-io:horizon=5", "bf-io"):
            found, _ = run_task("solver_replay", count=count, times_prompt=times, policy=policy, repeat=bench.times())
            what = f"{count:,} requests, prompts x {times}, G=16, B=72, backlog, {policy}: the loop"
            yield Row("solver", what, [second * 1e3 for second in found["loop"]], "ms", bench.target(200.0))


def cold_start(bench: Bench) -> Iterator[Row]:
    """The first run of all, with nothing compiled."""
    command = ["replay", str(ROOT / "sample_traces" / "requests_2000.jsonl"), "--dp-size", "8", "--max-num-seqs", "32"]
    cold: list[Finished] = []
    warm: list[Finished] = []
    for number in range(1 if bench.quick else bench.times(3)):
        cache = {"NUMBA_CACHE_DIR": str(bench.folder / f"cache{number}")}
        os.makedirs(cache["NUMBA_CACHE_DIR"])
        cold.append(run_lbal(*command, *THREE, environment=cache))
        warm.append(run_lbal(*command, *THREE, environment=cache))
    what = "lbal replay, 2,000 requests, three baselines"
    compiling = [first.seconds - second.seconds for first, second in zip(cold, warm, strict=True)]
    yield Row("cold-start", f"{what}: compiling, with an empty cache", compiling, target=bench.target(20.0))
    yield Row("cold-start", f"{what}: whole process, empty cache", [process.seconds for process in cold])
    yield Row("cold-start", f"{what}: whole process, from the cache", [process.seconds for process in warm])


def curve(bench: Bench) -> Iterator[Row]:
    """Cost per request as requests grow, at G=16, B=72."""
    for policy in ("round-robin", "jsq-kv"):
        for full, most in ((10_000, None), (100_000, None), (1_000_000, 3), (10_000_000, 3)):
            count = bench.size(full)
            if (needed := count / 1e6 * NEEDED_MB_PER_MILLION) > available_mb():
                bench.notes.append(f"curve: {count:,} requests left out, they need about {needed:,.0f} MB")
                continue
            if bench.quick and full > 1_000_000:
                continue
            runs = [run_task("backlog", count=count, ranks=16, policy=policy) for _ in range(bench.times(most))]
            for key, label in (("loop", "the loop"), ("whole", "replay()"), ("user", "replay(), user CPU")):
                nanoseconds = [seconds / count * 1e9 for seconds in _of(runs, key)]
                peak = max(process.peak_mb for _, process in runs) if key == "whole" else None
                yield Row("curve", f"{policy}, {count:,} requests: {label}", nanoseconds, "ns/request", peak_mb=peak)


def _of(runs: list[tuple[dict[str, Any], Finished]], key: str) -> list[float]:
    return [result[key] for result, _ in runs]


def _empty(folder: Path) -> None:
    """Give back the space of large files."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "million": million,
    "million-kept": million_kept,
    "policies": policies,
    "immediate": immediate,
    "replay-command": replay_command,
    "analyze-command": analyze_command,
    "analyze-memory": analyze_memory,
    "reading": reading,
    "logs": logs,
    "accounting": accounting,
    "callback": callback,
    "solver": solver,
    "cold-start": cold_start,
    "curve": curve,
}
"""By the name that `--only` takes, the scaling curve last."""

"""Single steps as Chrome trace events, which ui.perfetto.dev and chrome://tracing open.

A process per run and a thread per rank, with slices *work* (the rank's own time), *barrier wait* and *shared* (the
rest of the step: weights and collectives, which all ranks spend alike); a thread *steps* with the steps themselves;
counters for KV tokens and running requests of each rank. Their order within a step is a convention: shared work
comes last. Times are in microseconds, as the format asks.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any, ClassVar

from lbal.analyzers.barrier.single_steps import Timeline
from lbal.analyzers.errors import UsageError
from lbal.analyzers.result.json_text import escaped, json_text
from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result

STEPS_THREAD = 1
"""Thread of the steps; rank r is thread r + 2. Viewers keep 0 to themselves."""


class PerfettoReport(Report):
    """The single steps of each run that were collected, rank by rank."""

    name: ClassVar[str] = "perfetto"
    suffixes: ClassVar[tuple[str, ...]] = (".perfetto.json",)
    content: ClassVar[str] = "single steps, rank by rank, for ui.perfetto.dev"
    needs: ClassVar[frozenset[str]] = frozenset({"timeline"})

    def render(self, result: Result) -> str:
        """One event a line. Raises `UsageError` for a result without steps."""
        shown = [(run.label, run.timeline) for run in result.runs if run.timeline is not None]
        if not shown:
            raise UsageError("a .perfetto.json trace shows steps, and this result has none, expected a replay of it")
        about = {"lbal_version": version("lbal"), "headline": result.headline, "config": dict(result.config)}
        about = {"displayTimeUnit": "ms", "otherData": json.loads(json_text(about))}
        head = escaped(json.dumps(about, ensure_ascii=False))
        events = ",\n".join(
            escaped(json.dumps(event, ensure_ascii=False, separators=(",", ":")))
            for process, (label, timeline) in enumerate(shown, 1)
            for event in _events(process, label, timeline)
        )
        return f'{head[:-1]}, "traceEvents": [\n{events}\n]}}\n'


def _events(process: int, label: str, timeline: Timeline) -> Iterator[dict[str, Any]]:
    yield from _names(process, label, timeline.steps.dp_size)
    steps = timeline.steps
    assert steps.start_ms is not None
    assert steps.step_ms is not None
    slowest_ms = timeline.rank_ms.max(axis=1)
    for row, step in enumerate(steps.step.tolist()):
        start_ms, step_ms = float(steps.start_ms[row]), float(steps.step_ms[row])
        rank_ms, tokens, running = (
            array[row].tolist() for array in (timeline.rank_ms, steps.kv_tokens, steps.num_running)
        )
        slowest = float(slowest_ms[row])
        idle = sum(slowest - own for own in rank_ms) / (len(rank_ms) * step_ms) if step_ms > 0 else 0.0
        about = {"idle_fraction": round(idle, 6), "straggler": rank_ms.index(slowest)}
        yield _slice(process, STEPS_THREAD, f"step {step}", start_ms, start_ms + step_ms, about)
        for rank, own_ms in enumerate(rank_ms):
            load = {"step": step, "kv_tokens": _number(tokens[rank]), "num_running": _number(running[rank])}
            at_ms = 0.0
            for name, until_ms, args in (
                ("work", own_ms, load),
                ("barrier wait", slowest, {}),
                ("shared", step_ms, {}),
            ):
                until_ms = min(until_ms, step_ms)  # a model can be too slow for the measured step
                if until_ms > at_ms:
                    yield _slice(process, rank + STEPS_THREAD + 1, name, start_ms + at_ms, start_ms + until_ms, args)
                    at_ms = until_ms
        yield _counter(process, "KV tokens", start_ms, tokens)
        yield _counter(process, "running requests", start_ms, running)


def _names(process: int, label: str, ranks: int) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": label}}
    yield {"ph": "M", "pid": process, "name": "process_sort_index", "args": {"sort_index": process}}
    for thread, name in enumerate(["steps", *[f"rank {rank}" for rank in range(ranks)]], STEPS_THREAD):
        place = {"ph": "M", "pid": process, "tid": thread}
        yield {**place, "name": "thread_name", "args": {"name": name}}
        yield {**place, "name": "thread_sort_index", "args": {"sort_index": thread}}


def _slice(
    process: int, thread: int, name: str, start_ms: float, end_ms: float, args: dict[str, Any]
) -> dict[str, Any]:
    start_ns, end_ns = round(start_ms * 1e6), round(end_ms * 1e6)  # both ends rounded alike: neighbours never overlap
    times = {"ts": start_ns / 1e3, "dur": (end_ns - start_ns) / 1e3}
    return {"ph": "X", "pid": process, "tid": thread, "name": name, **times, **({"args": args} if args else {})}


def _counter(process: int, name: str, start_ms: float, values: list[float]) -> dict[str, Any]:
    args = {f"rank {rank}": _number(value) for rank, value in enumerate(values)}
    return {"ph": "C", "pid": process, "name": name, "ts": round(start_ms * 1e3, 3), "args": args}


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value

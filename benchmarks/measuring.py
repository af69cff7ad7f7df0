"""Processes that are timed and weighed, the rows of the table, and the name of the machine. Standard library only.

Work runs in a child process each time: so its peak memory is its own, and no run is spared what another one loaded.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
LIBRARIES = ("numba", "numpy", "polars", "msgspec", "lbal")


@dataclass(frozen=True)
class Row:
    """A line of the table. `values` are the measured ones; `target` is what they may be at most (or must at least)."""

    name: str
    what: str
    values: Sequence[float]
    unit: str = "s"
    target: float | None = None
    at_least: bool = False
    """Whether more is better."""
    reference: float | None = None
    """How often the plain reference takes this time, on the same work in the same run."""
    peak_mb: float | None = None
    """Largest resident memory of the whole process."""
    target_mb: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def within(self) -> bool | None:
        """Whether the targets are met; None where there is none."""
        held = []
        if self.target is not None:
            held.append(self.median >= self.target if self.at_least else self.median <= self.target)
        if self.target_mb is not None and self.peak_mb is not None:
            held.append(self.peak_mb <= self.target_mb)
        return all(held) if held else None

    def record(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median, "within": self.within}


@dataclass(frozen=True)
class Finished:
    """A process that has ended well."""

    seconds: float
    peak_mb: float
    output: str


def run_process(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end; `RuntimeError` with what it said where it fails.

    The peak is the largest resident set of that process alone. (This process must be small: a child begins its
    count with the memory of the process that started it.)
    """
    started = time.perf_counter()
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
    )
    assert child.stdout is not None
    output = child.stdout.read()
    _pid, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    child.stdout.close()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{output}")
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return Finished(seconds, usage.ru_maxrss * bytes_per_unit / 1e6, output)


def run_task(name: str, **arguments: Any) -> tuple[dict[str, Any], Finished]:
    """Run a function of `tasks.py` in a process of its own: what it returned, and the process."""
    finished = run_process([sys.executable, str(FOLDER / "tasks.py"), name, json.dumps(arguments)])
    result: dict[str, Any] = json.loads(finished.output.splitlines()[-1])
    return result, finished


def run_lbal(*arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
    """Run the `lbal` command."""
    return run_process([sys.executable, "-m", "lbal.cli", *arguments], environment)


def machine() -> dict[str, Any]:
    """What the figures rest on: processor, cores, memory, versions."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def available_mb() -> float:
    """Memory that can be had now; infinite where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((int(line.split()[1]) * 1.024e-3 for line in lines if line.startswith("MemAvailable")), float("inf"))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name", platform.machine())
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"

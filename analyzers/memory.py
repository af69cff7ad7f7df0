"""How much memory is left, so that an input without end is refused in one line before the system runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LEAST_LEFT_BYTES = 1 << 28
"""With less than this left, nothing more is read."""
GROUP = Path("/sys/fs/cgroup")


def bytes_left() -> int | None:
    """The memory that this process may still take: of the machine, its group and its own limit; None where unknown."""
    return min(_limits(), default=None)


def _limits() -> Iterator[int]:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        yield int(available.split()[1]) * 1024
    with suppress(OSError, ValueError):
        most = int((GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((GROUP / "memory.current").read_text(encoding="ascii"))
        yield most - used + _cached_bytes()
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource  # not on Windows

        own, _hard = resource.getrlimit(resource.RLIMIT_AS)
        if own != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
            yield own - pages * resource.getpagesize()


def _cached_bytes() -> int:
    """What the group holds of files and gives back when it is needed."""
    for line in (GROUP / "memory.stat").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name == "inactive_file":
            return int(value)
    return 0

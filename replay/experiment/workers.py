"""Processes that work for this one, and end when it ends, whatever ends it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

A = TypeVar("A")
R = TypeVar("R")
LOOK_EVERY_S = 0.2


def in_processes(function: Callable[[A], R], arguments: Sequence[A], jobs: int) -> Iterator[R]:
    """The value of a function for each argument, in their order, computed in that many processes."""
    from multiprocessing import resource_tracker

    from joblib import Parallel, delayed
    from joblib.externals.loky.backend import resource_tracker as own_tracker

    # Processes start with the signals and settings of this one: what a terminal sends to all is for this one alone,
    # and those that remove what is left in shared memory after an interrupt do so in silence.
    with _interrupts_held(), _setting("PYTHONWARNINGS", "ignore:resource_tracker"):
        for tracker in (resource_tracker, own_tracker):
            tracker.ensure_running()  # before the others, because it lets SIGINT through when it starts
    with _interrupts_held():
        found = Parallel(n_jobs=jobs, return_as="generator")(
            delayed(_guarded)(os.getpid(), function, argument) for argument in arguments
        )
    yield from found


def _guarded(parent: int, function: Callable[[Any], R], argument: Any) -> R:
    _end_with(parent)
    return function(argument)


_watching = threading.Event()


def _end_with(parent: int) -> None:
    """Watch the parent from now on: a process whose parent has gone is handed to another one."""
    if _watching.is_set():
        return
    _watching.set()
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os._exit(1)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _setting(name: str, value: str) -> Iterator[None]:
    """An environment variable for a while, before what it has already."""
    before = os.environ.get(name)
    os.environ[name] = value if before is None else f"{before},{value}"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

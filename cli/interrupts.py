"""SIGINT (Ctrl-C), SIGTERM and SIGHUP end lbal alike: one line on stderr, exit code 130, no half-written output.

This module imports next to nothing, so that it is there before whatever takes long to import.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from typing import Any, NoReturn

INTERRUPTED = 130
MESSAGE = "lbal: interrupted"
PATIENCE_S = 3.0
"""How long the orderly way out may take before the process ends without it."""
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def watch_signals() -> None:
    """From now on the first signal raises `KeyboardInterrupt` in the main thread, and a second ends the process.

    A signal that whoever started lbal ignores (`nohup`) stays ignored. Imported code that swallows the exception
    cannot keep the process alive: it ends after `PATIENCE_S` all the same.
    """
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _first)
    sys.unraisablehook = _unraisable


def end_now() -> NoReturn:
    """End the process: drafts are removed and nothing else is waited for."""
    scratch = sys.modules.get("lbal.analyzers.output.scratch")
    if scratch is not None:
        scratch.remove_all()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError, ValueError):
            stream.flush()
    os._exit(INTERRUPTED)


def _first(_number: int, _frame: Any) -> NoReturn:
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is _first:
            signal.signal(number, _again)
    fallback = threading.Timer(PATIENCE_S, _say_and_end)
    fallback.daemon = True
    fallback.start()
    raise KeyboardInterrupt


def _again(_number: int, _frame: Any) -> NoReturn:
    _say_and_end()


def _say_and_end() -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"{MESSAGE}\n".encode())
    end_now()


def _unraisable(found: Any) -> None:
    """An interrupt that came where Python cannot raise it, in a destructor or a callback, ends the process too."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        _say_and_end()
    sys.__unraisablehook__(found)

"""Compiling the few loops that must be fast: once per signature, cached on disk where that is possible."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def compiled(function: Callable[..., Any], signature: Any, **options: Any) -> Any:
    """The function compiled for one signature (numba types), without the interpreter's lock.

    Where no directory for the cache can be written, or what lies in it is damaged, it is compiled in every process
    instead: slower to start, otherwise the same. Raises `numba.core.errors.NumbaError` where it cannot be compiled.
    """
    from numba import njit
    from numba.core.errors import NumbaError

    try:
        return njit(signature, cache=True, nogil=True, **options)(function)
    except NumbaError:
        raise
    except Exception:  # noqa: BLE001  whatever a cache can go wrong with; the next line raises what is wrong otherwise
        return njit(signature, nogil=True, **options)(function)


def checked(function: Callable[..., Any], signature: Any, *, cached: bool) -> Any:
    """Like `compiled`, with bounds checks in the function and in all that is compiled into it.

    What is outside an array raises `IndexError`, through compiled callers too. On disk the cache cannot tell the two
    forms apart: `cached` is for functions that are compiled in this form only.
    """
    from numba import njit
    from numba.core import config

    settings: Any = config
    usual, settings.BOUNDSCHECK = settings.BOUNDSCHECK, 1
    try:
        return compiled(function, signature) if cached else njit(signature, nogil=True)(function)
    finally:
        settings.BOUNDSCHECK = usual


def without_references(
    function: Callable[..., Any],
    signature: Any,
    helpers: Iterable[Callable[..., Any]] = (),
    sources: Iterable[Path] = (),
) -> Any:
    """Like `compiled`, for a function that allocates nothing and returns no array.

    It is spared the counting of references to its arrays, which takes most of the time of small steps. `helpers` are
    plain functions of other files that it calls: they are compiled into it. `sources` are further files that it uses.
    """
    from numba.extending import register_jitable

    for helper in helpers:
        if helper not in _known_helpers:
            register_jitable(helper)
            _known_helpers.add(helper)
    forget_if_older(function, [*sources, *(Path(helper.__code__.co_filename) for helper in helpers)])
    return compiled(function, signature, _nrt=False)


_known_helpers: set[Callable[..., Any]] = set()


def forget_if_older(function: Callable[..., Any], sources: Iterable[Path]) -> None:
    """Drop the compiled function from the cache on disk if one of these files changed after it was made.

    numba itself looks at the function's own file alone.
    """
    from numba import njit

    with contextlib.suppress(RuntimeError):  # no place for a cache
        folder = Path(str(njit(cache=True)(function).stats.cache_path))
        name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}".replace("<", "").replace(">", "")
        changed = max((file.stat().st_mtime for file in sources), default=0.0)
        for index in folder.glob(f"{name}-*.nbi"):
            if index.stat().st_mtime <= changed:
                index.unlink(missing_ok=True)

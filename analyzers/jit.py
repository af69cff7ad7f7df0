"""Compiling the few loops that must be fast: once per signature, cached on disk where that is possible."""

from __future__ import annotations

from collections.abc import Callable
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


def without_references(function: Callable[..., Any], signature: Any) -> Any:
    """Like `compiled`, for a function that allocates nothing and returns no array.

    It is spared the counting of references to its arrays, which takes most of the time of small steps.
    """
    return compiled(function, signature, _nrt=False)

"""Marks functions that rules may call: plain Python here, compiled into a rule when the rule is compiled.

Modules of policies are imported to list them; this keeps numba out of that.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
_marked: list[tuple[Callable[..., Any], dict[str, Any]]] = []
_sources: set[str] = set()
_parts: set[Callable[..., Any]] = set()


def jitable(function: Function) -> Function:
    """The function itself, from now on callable from compiled rules. It may make arrays."""
    return _mark(function, {})


def frugal(function: Function) -> Function:
    """Like `jitable`, for a function that makes and returns no array, nor calls one that does.

    It is spared the counting of references to the arrays of a view, some 0.3 us per call.
    """
    return _mark(function, {"_nrt": False})


def mark_part(function: Callable[..., Any], home: str, *, frugally: bool) -> None:
    """Mark a part of a rule, like `frugal` or `jitable`; numba's own cache looks after what lies in the file `home`."""
    if function not in _parts:
        _parts.add(function)
        _marked.append((function, {"_nrt": False} if frugally else {}))
    if function.__code__.co_filename != home:
        _sources.add(function.__code__.co_filename)


def _mark(function: Function, options: dict[str, Any]) -> Function:
    _marked.append((function, options))
    _sources.add(function.__code__.co_filename)
    return function


def sources() -> list[Path]:
    """The files in which marked functions stand."""
    return [Path(source) for source in sorted(_sources)]


def register() -> None:
    """Tell numba of what was marked since the last time; it imports numba."""
    from numba.extending import register_jitable

    while _marked:
        function, options = _marked.pop()
        mark = register_jitable(**options) if options else register_jitable
        mark(function)

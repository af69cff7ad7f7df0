"""Compiles the barrier loop and the rules of policies, once, cached on disk where that is possible."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, typeof, types
from numba.core.errors import NumbaError

from lbal.analyzers.barrier.step_time import (
    Coefficients,
    mixed_rank_time,
    mixed_step_time,
    prefill_time,
    rank_time,
    step_time,
)
from lbal.analyzers.errors import PolicyError
from lbal.analyzers.jit import checked, compiled, forget_if_older, without_references
from lbal.analyzers.registry import is_own
from lbal.replay.engine import loop, mixed_loop
from lbal.replay.policy import compilable
from lbal.replay.policy.policy import PlainRouter, PlainSelector, Policy, Router, Selector
from lbal.replay.policy.view import View, read_only
from lbal.replay.prefill.ranks import Ranks, shown_to_rule
from lbal.replay.prefill.rule import PrefillRule

_ARRAYS: dict[str, Any] = {
    "FloatArray": np.zeros(1),
    "IntArray": np.zeros(1, np.int64),
    "NDArray[np.bool_]": np.zeros(1, np.bool_),
    "int": 0,
    "float": 0.0,
    "bool": True,
    "Coefficients": Coefficients(*[0.0] * len(Coefficients._fields)),
}
_MATRICES = {
    (View, "draws"),
    *((loop.Rows, name) for name in ("kv_tokens", "num_running", "num_waiting")),
    *((mixed_loop.MixedRows, name) for name in mixed_loop.LOADS),
    *((mixed_loop.Lanes, name) for name in ("ending", "grown")),
}


def _example_of(record: Any) -> Any:
    """A named tuple of the smallest arrays that its annotations allow, to take its numba type from."""
    values = [
        _ARRAYS[kind.__forward_arg__].reshape(1, 1) if (record, name) in _MATRICES else _ARRAYS[kind.__forward_arg__]
        for name, kind in record.__annotations__.items()
    ]
    return record(*values)


@cache
def view_type() -> Any:
    """The numba type of the view that rules get."""
    return typeof(read_only(_example_of(View)))  # type: ignore[no-untyped-call]


@cache
def ranks_type() -> Any:
    """The numba type of the ranks that prefill rules get."""
    return typeof(shown_to_rule(_example_of(Ranks)))  # type: ignore[no-untyped-call]


def waiting_type() -> Any:
    """The numba type of the pool that rules get."""
    return types.Array(types.int64, 1, "C", readonly=True)


@cache
def _signatures() -> tuple[Any, Any, Any]:
    """Signatures of `choose`, of `place` and of the loop, which takes the other two by pointer.

    Rules get the view, and the pool, as arrays that they cannot write: a rule that tries does not compile.
    """
    shown, pool = view_type(), waiting_type()
    integers = types.Array(types.int64, 1, "C")
    choose = types.int64(shown, types.int64)
    place = types.int64(shown, pool, types.int64, integers, integers)
    records = (View, loop.Requests, loop.Slots, loop.State, loop.Rows, loop.Settings)
    known = [typeof(_example_of(record)) for record in records]  # type: ignore[no-untyped-call]
    return choose, place, types.int64(types.FunctionType(choose), types.FunctionType(place), shown, *known)


@cache
def compiled_loop() -> Any:
    """`loop.run`, compiled."""
    return without_references(loop.run, _signatures()[2], helpers=(rank_time, step_time))


@cache
def compiled_mixed_loop() -> Any:
    """`mixed_loop.run`, compiled."""
    choose, place, _run = _signatures()
    records: tuple[Any, ...] = (View, Ranks, loop.Requests, mixed_loop.Prompts, loop.Slots, loop.State)
    records += (mixed_loop.Lanes, loop.Rows, mixed_loop.MixedRows, loop.Settings, mixed_loop.Prefill)
    known = [typeof(_example_of(record)) for record in records]  # type: ignore[no-untyped-call]
    rules = [types.FunctionType(rule) for rule in (choose, place, types.int64(ranks_type()))]
    return without_references(
        mixed_loop.run,
        types.int64(*rules, view_type(), ranks_type(), *known),
        helpers=(rank_time, step_time, prefill_time, mixed_rank_time, mixed_step_time),
        sources=[Path(loop.__file__)],
    )


def compiled_release(rule: type[PrefillRule]) -> Any:
    """The rule of an engine, compiled. Raises `PolicyError` where numba cannot compile it."""
    try:
        return _compiled_rule(rule.release, types.int64(ranks_type()), is_own(rule))
    except NumbaError as error:
        raise PolicyError(
            f"prefill rule {rule.name}: it cannot be compiled: {_reason(error)}, expected a rule that numba can compile"
        ) from error


def _prepare(rule: Callable[..., int]) -> None:
    """Make helpers known to numba, and drop a compiled rule from the cache if a helper changed after it was made.

    numba itself looks at the rule's own file alone.
    """
    compilable.register()
    forget_if_older(rule, [*compilable.sources(), Path(__file__)])


def compiled_helper(function: Callable[..., Any], signature: Any) -> Any:
    """A marked function (`compilable`), compiled by itself for one signature."""
    _prepare(function)
    return compiled(function, signature)


@cache
def _compiled_rule(rule: Callable[..., int], signature: Any, trusted: bool = True) -> Any:
    """The rule, compiled; with bounds checks unless it is one of lbal's own, which the tests hold to their bounds."""
    _prepare(rule)
    if trusted:
        return compiled(rule, signature)
    return checked(rule, signature, cached=not rule.__module__.startswith("lbal."))


def _reason(error: NumbaError) -> str:
    """What numba says is wrong, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("Failed in")), "no reason given")


def _no_choose(view: View, request: int) -> int:
    return -1


def _no_place(view: View, pool: Any, size: int, requests: Any, ranks: Any) -> int:
    return 0


class Rules:
    """The rule of a policy in the two forms that the loop calls; keep it alive while the loop runs.

    A policy that is not compiled is called back, with views that cannot be written; what it raises
    is kept in `error`, and the loop stops.
    """

    def __init__(self, policy: Policy, view: View, pool: Any, requests: Any, ranks: Any) -> None:
        self.error: BaseException | None = None
        self.choose = _compiled_rule(_no_choose, _signatures()[0])
        self.place = _compiled_rule(_no_place, _signatures()[1])
        self.shown = read_only(view)
        self._callback: Any = None
        if policy.compiled:
            self._compile(policy)
        elif isinstance(policy, Router | PlainRouter):
            self.choose = self._called_back_choose(policy)
        elif isinstance(policy, Selector | PlainSelector):
            self.place = self._called_back_place(policy, pool, requests, ranks)

    def _compile(self, policy: Policy) -> None:
        try:
            if isinstance(policy, Router):
                self.choose = _compiled_rule(type(policy).choose, _signatures()[0], is_own(type(policy)))
            elif isinstance(policy, Selector):
                self.place = _compiled_rule(type(policy).place, _signatures()[1], is_own(type(policy)))
        except NumbaError as error:
            raise PolicyError(
                f"policy {policy.name}: its rule cannot be compiled: {_reason(error)}, "
                "expected a rule that numba can compile (or compiled = False, to run it as plain Python)"
            ) from error

    def _guarded(self, rule: Callable[[int], int]) -> Any:
        def guarded(argument: int) -> int:
            try:
                return int(rule(argument))
            except BaseException as error:  # noqa: BLE001  it cannot pass through compiled code: kept and raised after
                self.error = error
                return loop.FAILED_RULE

        self._callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(guarded)
        return self._callback

    def _called_back_choose(self, policy: Router | PlainRouter) -> Any:
        callback = self._guarded(lambda request: policy.choose(self.shown, request))
        return njit(_signatures()[0])(lambda _view, request: callback(request))

    def _called_back_place(self, policy: Selector | PlainSelector, pool: Any, requests: Any, ranks: Any) -> Any:
        waiting = pool.view()
        waiting.flags.writeable = False
        callback = self._guarded(lambda size: policy.decide(self.shown, waiting[:size], size, requests, ranks))
        return njit(_signatures()[1])(lambda _view, _pool, size, _requests, _ranks: callback(size))

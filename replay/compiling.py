"""Compiles the barrier loop and the rules of policies, once, cached on disk where that is possible."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, typeof, types

from lbal.analyzers.jit import compiled, without_references
from lbal.replay import core
from lbal.replay.policy import Policy, Router, Selector
from lbal.replay.view import View, read_only

_ARRAYS: dict[str, Any] = {
    "FloatArray": np.zeros(1),
    "IntArray": np.zeros(1, np.int64),
    "NDArray[np.bool_]": np.zeros(1, np.bool_),
    "int": 0,
    "float": 0.0,
    "bool": True,
}
_MATRICES = {(View, "draws"), (core.Rows, "kv_tokens"), (core.Rows, "num_running"), (core.Rows, "num_waiting")}


def _type_of(record: Any) -> Any:
    """The numba type of a named tuple of arrays, from its annotations."""
    values = [
        np.zeros((1, 1)) if (record, name) in _MATRICES else _ARRAYS[kind.__forward_arg__]
        for name, kind in record.__annotations__.items()
    ]
    return typeof(record(*values))  # type: ignore[no-untyped-call]


@cache
def _signatures() -> tuple[Any, Any, Any]:
    """Signatures of `choose`, of `place` and of the loop, which takes the other two by pointer."""
    view, integers = _type_of(View), types.Array(types.int64, 1, "C")
    choose = types.int64(view, types.int64)
    place = types.int64(view, integers, types.int64, integers, integers)
    records = [_type_of(record) for record in (core.Requests, core.Slots, core.State, core.Rows, core.Settings)]
    return choose, place, types.int64(types.FunctionType(choose), types.FunctionType(place), view, *records)


@cache
def compiled_loop() -> Any:
    """`core.run`, compiled."""
    return without_references(core.run, _signatures()[2])


@cache
def _compiled_choose(rule: Callable[..., int]) -> Any:
    return compiled(rule, _signatures()[0])


@cache
def _compiled_place(rule: Callable[..., int]) -> Any:
    return compiled(rule, _signatures()[1])


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
        self.choose = _compiled_choose(_no_choose)
        self.place = _compiled_place(_no_place)
        self._callback: Any = None
        if policy.compiled:
            if isinstance(policy, Router):
                self.choose = _compiled_choose(type(policy).choose)
            elif isinstance(policy, Selector):
                self.place = _compiled_place(type(policy).place)
        elif isinstance(policy, Router):
            self.choose = self._called_back_choose(policy, read_only(view))
        elif isinstance(policy, Selector):
            self.place = self._called_back_place(policy, read_only(view), pool, requests, ranks)

    def _guarded(self, rule: Callable[[int], int]) -> Any:
        def guarded(argument: int) -> int:
            try:
                return int(rule(argument))
            except BaseException as error:  # noqa: BLE001  it cannot pass through compiled code: kept and raised after
                self.error = error
                return core.FAILED_RULE

        self._callback = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(guarded)
        return self._callback

    def _called_back_choose(self, policy: Router, view: View) -> Any:
        callback = self._guarded(lambda request: policy.choose(view, request))
        return njit(_signatures()[0])(lambda _view, request: callback(request))

    def _called_back_place(self, policy: Selector, view: View, pool: Any, requests: Any, ranks: Any) -> Any:
        waiting = pool.view()
        waiting.flags.writeable = False
        callback = self._guarded(lambda size: policy.place(view, waiting[:size], size, requests, ranks))
        return njit(_signatures()[1])(lambda _view, _pool, size, _requests, _ranks: callback(size))

"""Tries policies that are not lbal's own on small clusters, in plain Python with every access checked.

A compiled rule that reads past its parameters or writes past its memory would go on with garbage. So the rule is first
run by the loop itself, both uncompiled: few and many ranks, empty and full, with and without a KV capacity, with every
binding, and the first mistake is told with the array, the place and the remedy. Whatever the trial does not reach is
stopped later, since such rules are compiled with bounds checks (`compiling`). A trial takes about a tenth of a
second, so its verdict is kept in memory only; lbal's own policies are tried by the tests.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import polars as pl

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import PolicyError
from lbal.analyzers.registry import is_own, what_was_raised
from lbal.replay.engine import loop
from lbal.replay.engine.engine import Prepared, prepared
from lbal.replay.policy.checks import shown_file
from lbal.replay.policy.policy import PlainRouter, PlainSelector, Policy, Router, Selector
from lbal.replay.policy.view import View, read_only
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

NUM_REQUESTS = 24
MOST_RANKS = 256
"""Ranks of the largest cluster that is tried: plain Python takes a microsecond for each and each decision."""
LARGEST_LOAD, CAPACITY = 4000, 4200
"""The largest prompt, and the KV tokens of a rank that holds little more: others wait although slots are free."""
MODEL = StepTimeModel("trial", shared_s=0.01, per_token_s=1e-7, per_request_s=1e-4)


class OutOfBoundsError(IndexError):
    """An access outside an array of the view."""


class Watched(np.ndarray):
    """An array of the view that says its name when it is read or written outside its bounds."""

    label = ""

    def __array_finalize__(self, source: Any) -> None:
        self.label = getattr(source, "label", "")

    def __getitem__(self, place: Any) -> Any:
        with self._checked(place):
            return super().__getitem__(place)

    def __setitem__(self, place: Any, value: Any) -> None:
        with self._checked(place):
            super().__setitem__(place, value)

    @contextmanager
    def _checked(self, place: Any) -> Iterator[None]:
        try:
            yield
        except OutOfBoundsError:
            raise
        except IndexError as error:
            raise OutOfBoundsError(
                f"view.{self.label}[{place}] is out of bounds, it has {self.size} numbers"
            ) from error


def try_policies(policies: Sequence[Policy], dp_size: int) -> None:
    """Raise `PolicyError` for the first policy of others that fails on a small cluster; `dp_size` is tried too."""
    for policy in policies:
        if not is_own(type(policy)) and policy.compiled:
            try_policy(policy, min(dp_size, MOST_RANKS))


@cache
def try_policy(policy: Policy, dp_size: int) -> None:
    """Run the rule of a compiled policy on small clusters, one of them of that many ranks.

    Raises `PolicyError` for what it raises. Placements that break the contract are left to the engine, which checks
    them in every replay.
    """
    scenarios = [
        (1, 1, None, "trace"),
        (1, 4, CAPACITY, "backlog"),
        (3, 1, CAPACITY, "trace"),
        (3, 4, None, "backlog"),
        (3, 4, None, "trace"),
        (dp_size, 2, None, "trace"),
    ]
    for (ranks, slots, capacity, arrivals), binding in product(scenarios, policy.bindings):
        cluster = Cluster(ranks, slots, MODEL, capacity)
        conditions = Conditions(arrivals=arrivals, binding=binding, pool=2 * ranks)
        try:
            with np.errstate(all="ignore"), _uncompiled(type(policy)):
                _run(policy, prepared(_workload(ranks), cluster, policy, conditions))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PolicyError(f"policy {policy.name}: {_told(error, policy, ranks)}") from error


def _workload(ranks: int) -> Workload:
    """Few requests of many sizes: three at once, then one by one, then the rest at once."""
    index = np.arange(NUM_REQUESTS)
    return Workload(
        source="a trial",
        request_id=pl.Series("request_id", index),
        prompt_tokens=1 + index * 997 % LARGEST_LOAD,
        output_tokens=1 + index * 5 % 7,
        arrival_ms=np.where(index < 3, 0.0, np.minimum(index, 12) * 15.0),
        recorded_rank=index % ranks,
    )


def _run(policy: Policy, parts: Prepared) -> None:
    shown = View(*(_watched(name, value) for name, value in zip(View._fields, read_only(parts.view), strict=True)))
    waiting = parts.state.pool.view()
    waiting.flags.writeable = False

    def choose(_view: View, request: int) -> int:
        assert isinstance(policy, Router | PlainRouter)
        return int(policy.choose(shown, request))

    def place(_view: View, _pool: Any, size: int, requests: Any, ranks: Any) -> int:
        assert isinstance(policy, Selector | PlainSelector)
        return int(policy.place(shown, waiting, size, requests, ranks))

    status = loop.ROWS_FULL
    while status == loop.ROWS_FULL:
        status = loop.run(
            choose, place, shown, parts.view, parts.requests, parts.slots, parts.state, parts.rows, parts.settings
        )
        parts.state.counters[loop.ROWS] = 0


def _watched(name: str, value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    array = value.view(Watched)
    array.label = name
    return array


@contextmanager
def _uncompiled(cls: type[Any]) -> Iterator[None]:
    """Meanwhile functions in the file of the class that numba has compiled are what they were before."""
    names = vars(sys.modules[cls.__module__])
    compiled = {name: value for name, value in names.items() if hasattr(value, "py_func")}
    names.update({name: value.py_func for name, value in compiled.items()})
    try:
        yield
    finally:
        names.update(compiled)


def _told(error: BaseException, policy: Policy, ranks: int) -> str:
    """What went wrong, where in its file, and what to do about it."""
    file = getattr(sys.modules[type(policy).__module__], "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    place = f"{shown_file(file)}:{lines[-1]}: " if file and lines else ""
    tried = f" (tried on {ranks} rank{'s' if ranks > 1 else ''})"
    if not isinstance(error, OutOfBoundsError):
        return f"{place}its rule raised {what_was_raised(error)}{tried}"
    return f"{place}{error}{tried}{_remedy(str(error), policy)}"


def _remedy(problem: str, policy: Policy) -> str:
    name = type(policy).__name__
    remedies: dict[str, Callable[[], str]] = {
        "view.memory[": lambda: f"expected memory: ClassVar[Memory] = Memory(…) in {name} with all that the rule keeps",
        "view.parameters[": lambda: (
            f"expected a place among the parameters of {name}: " + (", ".join(policy.parameters()) or "it has none")
        ),
        "view.draws[": lambda: f"expected uses_draws: ClassVar[bool] = True in {name}",
        "view.output_tokens[": lambda: f"expected uses_true_lengths: ClassVar[bool] = True in {name}",
        "view.recorded_rank[": lambda: f"expected uses_recorded_rank: ClassVar[bool] = True in {name}",
        "view.survivors[": lambda: f"expected learns_lengths: ClassVar[bool] = True in {name}",
        "view.tokens_completed[": lambda: f"expected learns_lengths: ClassVar[bool] = True in {name}",
    }
    return next((f", {remedy()}" for start, remedy in remedies.items() if problem.startswith(start)), "")

"""What a policy is: a frozen dataclass whose fields are its parameters, with one rule.

A `Router` decides request by request (`choose`), and so works with both bindings; a `Selector`
decides step by step which of the waiting requests go where (`place`). Their rules are static functions of
a `View`, compiled and run inside the engine's loop. The rules of a `PlainRouter` and a `PlainSelector` are
methods in plain Python, which may use whatever `self` has.
"""

from __future__ import annotations

import dataclasses
import re
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.registry import Registry
from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.checks import check_policy
from lbal.replay.policy.named import Memory
from lbal.replay.policy.parametrised import Parametrised
from lbal.replay.policy.specs import made
from lbal.replay.policy.view import View

Binding = Literal["pool", "immediate"]
WAIT = -1
"""What `choose` returns to leave a request waiting (only where `work_conserving` is False)."""


@dataclasses.dataclass(frozen=True)
class Policy(Parametrised):
    """A routing policy. The first line of a subclass's docstring is its description."""

    name: ClassVar[str]
    """What `--policy` calls it."""
    bindings: ClassVar[tuple[Binding, ...]] = ("pool", "immediate")
    """Bindings that it supports, its natural one first."""
    looks_at: ClassVar[str]
    """What it looks at, for the reader: `requests`, `KV tokens`, `prompts`, `nothing`."""
    source: ClassVar[str] = ""
    """Where the rule comes from."""
    compiled: ClassVar[bool] = True
    """Whether the rule is written for the compiled loop."""
    selects: ClassVar[bool] = False
    """Whether the rule is `place`, not `choose`."""
    work_conserving: ClassVar[bool] = True
    """Whether it always fills a free slot with a waiting request that fits (the engine holds it to that)."""
    uses_draws: ClassVar[bool] = False
    """Whether it needs random numbers."""
    uses_recorded_rank: ClassVar[bool] = False
    """Whether it needs the rank that the trace names for each request."""
    stale_unit: ClassVar[Literal["ms", "steps"]] = "ms"
    """Unit of the parameter `stale`, if there is one: the age that the signals reach before they are renewed."""
    least_stale_ms: ClassVar[float] = 0.0
    """Time that passes at least between two renewals, where `stale` is not 0."""
    uses_true_lengths: ClassVar[bool] = False
    """Whether it reads output lengths that no online router could know."""
    learns_lengths: ClassVar[bool] = False
    """Whether it reads the output lengths of requests that have completed, as any router could."""

    given_label: ClassVar[str] = ""
    """What the user calls this one, if anything: set on the instance by `parse_policy`."""

    memory: ClassVar[Memory] = Memory()
    """What it keeps between decisions, by name; all starts at 0."""

    def memory_size(self, dp_size: int) -> int:
        """How many numbers `memory` has."""
        return self.memory.size(self, dp_size)

    def statistics(self, memory: FloatArray) -> dict[str, Any]:
        """What the policy has to say of a replay, from the memory that it left: the `solver` record of the run."""
        return {}

    @property
    def staleness(self) -> tuple[float, int]:
        """(ms, decode steps) that must both have passed before the signals are renewed; (0, 0) for live ones."""
        stale = getattr(self, "stale", 0.0)
        if stale == 0:
            return 0.0, 0
        return (float(stale), 0) if self.stale_unit == "ms" else (self.least_stale_ms, int(stale))

    @property
    def lag_ms(self) -> float:
        """How long before the signals are taken a request must have been sent to be in them: the parameter `lag`."""
        return float(getattr(self, "lag", 0.0))

    @property
    def label(self) -> str:
        """What the user calls it, else its name with the parameters that differ, as `--policy` takes it."""
        return self.given_label or super().label


class Router(Policy):
    """Decides where one request goes."""

    @staticmethod
    @abstractmethod
    def choose(view: View, request: int) -> int:
        """The rank for a request: one where `view.eligible` is true (there is at least one).

        Pool binding asks in pool order whenever a slot is free; immediate binding asks on arrival,
        and then every rank is eligible.
        """


class Selector(Policy):
    """Decides which waiting requests are admitted in a step, and where."""

    selects: ClassVar[bool] = True
    bindings: ClassVar[tuple[Binding, ...]] = ("pool",)

    @staticmethod
    @abstractmethod
    def place(view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """Write the chosen requests and their ranks, and return how many they are.

        `pool[:size]` are the waiting requests in order. `requests` and `ranks` have room for every
        free slot. Together the choices must respect `max_num_seqs` and `free_kv`.
        """

    def decide(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """What is called instead of `place` where the policy is not compiled: it may use the policy's parameters."""
        return self.place(view, pool, size, requests, ranks)


class PlainRouter(Policy):
    """A router whose rule is a method in plain Python: it may use `self` and any library, and is slower."""

    compiled: ClassVar[bool] = False

    @abstractmethod
    def choose(self, view: View, request: int) -> int:
        """The rank for a request, as `Router.choose`."""


class PlainSelector(Policy):
    """A selector whose rule is a method in plain Python."""

    bindings: ClassVar[tuple[Binding, ...]] = ("pool",)
    compiled: ClassVar[bool] = False
    selects: ClassVar[bool] = True

    @abstractmethod
    def place(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """The placement of a step, as `Selector.place`."""

    def decide(self, view: View, pool: IntArray, size: int, requests: IntArray, ranks: IntArray) -> int:
        """What the engine calls: `place`."""
        return self.place(view, pool, size, requests, ranks)


POLICIES: Registry[Policy] = Registry(
    "policy", "lbal.replay.policies", Policy, group="lbal.replay.policies", check=check_policy
)


def parse_policy(spec: str) -> Policy:
    """The policy that `--policy` names: `name[:key=value,…]`, or `path/to/file.py[:ClassName][:key=value,…]`.

    The class of a file may be left out where the file has one policy.

    A label may stand before it: `fair=bf-io:horizon=40` is called fair wherever its run is shown or asked for.
    Raises `UsageError`, with the nearest known name, for a policy, parameter or value that is not known.
    """
    label, spec = labelled(spec)
    policy = made(spec, POLICIES, "policy", "Router")
    object.__setattr__(policy, "given_label", label)  # policies are frozen; their parameters are the fields alone
    return policy


def labelled(spec: str) -> tuple[str, str]:
    """The label before a policy, empty where there is none, and the rest. Raises `UsageError` where a part is empty."""
    found = LABELLED.fullmatch(spec)
    if found is None:
        return "", spec
    label, rest = found[1].strip(), found[2]
    if not label or not rest:
        raise UsageError(
            "a part is missing, expected LABEL=NAME, such as fair=bf-io:horizon=40",
            parameter=Parameter("policy", repr(spec)),
        )
    return label, rest


LABELLED = re.compile(r"([^=:,/]*)=(.*)", re.DOTALL)
"""A label before a policy: the first equals sign stands before any colon, as no parameter's does."""

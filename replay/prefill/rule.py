"""What a prefill rule is: a frozen dataclass of parameters, with traits of its engine and one rule."""

from __future__ import annotations

import dataclasses
import inspect
from abc import abstractmethod
from typing import Any, ClassVar, Literal

from lbal.analyzers.errors import UsageError
from lbal.analyzers.registry import Registry, check_complete
from lbal.replay.policy.named import Memory
from lbal.replay.policy.parametrised import Parametrised
from lbal.replay.policy.specs import made
from lbal.replay.prefill.ranks import Ranks

Padding = Literal["never", "largest", "half-full"]
"""To what steps without prefill are padded: not, to the largest number of requests of a rank, or to that where the
ranks together have at least half as many as if all had it."""
PADDINGS: tuple[Padding, ...] = ("never", "largest", "half-full")
NO_RULE = "none"


@dataclasses.dataclass(frozen=True)
class PrefillRule(Parametrised):
    """How an engine computes prompts beside decoding. The first line of a subclass's docstring is its description."""

    source: ClassVar[str]
    """Where the rule comes from."""
    left_out: ClassVar[str]
    """What of the engine's own rule is not in it."""
    padding: ClassVar[Padding] = "never"
    victim: ClassVar[Literal["last", "fewest"]] = "last"
    """Whom it preempts for want of room: who was begun last, or who decodes and has given fewest tokens."""
    memory: ClassVar[Memory] = Memory()
    """What it keeps between steps, by name; all starts at 0."""

    @property
    def mixes(self) -> bool:
        """Whether a rank decodes in the steps in which it prefills; if not, its decodes stall."""
        return True

    @property
    def chunks(self) -> bool:
        """Whether a prompt may be computed in parts over several steps."""
        return True

    @property
    def grows(self) -> bool:
        """Whether KV tokens are taken as they come, and requests preempted for want of room; else admission reserves
        the largest load of a request."""
        return False

    @property
    def free_share(self) -> float:
        """Share of the KV space that admissions leave free, where KV tokens are taken as they come."""
        return 0.0

    @abstractmethod
    def rank_budget(self, dp_size: int) -> int:
        """Tokens that a rank may compute in a step, those of its decodes included where the rule mixes them."""

    @staticmethod
    @abstractmethod
    def release(ranks: Ranks) -> int:
        """Write `ranks.may_prefill`, and return 0. Asked once before every step; compiled, like the rule of a policy.

        Where no rank decodes all may prefill whatever it answers.
        """

    def as_dict(self, dp_size: int) -> dict[str, Any]:
        """For the result and for the header of a replayed trace."""
        return {
            "rule": self.name,
            "label": self.label,
            "parameters": self.parameters(),
            "budget_tokens": self.rank_budget(dp_size),
            "mixes": self.mixes,
            "chunks": self.chunks,
            "padding": self.padding,
            "kv": "growth" if self.grows else "reserve",
        }


def check_rule(cls: type[Any]) -> None:
    """Raise `UsageError` for a class that cannot work as a prefill rule."""
    check_complete(cls, "prefill rule", PrefillRule)
    if not isinstance(inspect.getattr_static(cls, "release"), staticmethod):
        raise UsageError(f"class {cls.__name__}: release: is a method, expected @staticmethod def release(ranks)")
    names = list(inspect.signature(cls.release).parameters)
    if len(names) != 1:
        raise UsageError(
            f"class {cls.__name__}: release: takes {len(names)} arguments ({', '.join(names) or 'none'}), "
            "expected release(ranks)"
        )
    if cls.padding not in PADDINGS:
        raise UsageError(
            f"class {cls.__name__}: padding: {cls.padding!r} cannot be, expected one of {', '.join(PADDINGS)}"
        )
    for field in dataclasses.fields(cls):
        if field.default is dataclasses.MISSING:
            raise UsageError(f"class {cls.__name__}: {field.name}: the parameter has no default, expected one")


PREFILLS: Registry[PrefillRule] = Registry(
    "prefill rule",
    "lbal.replay.prefills",
    PrefillRule,  # type: ignore[type-abstract]
    group="lbal.replay.prefills",
    check=check_rule,
)


def parse_prefill(spec: str | None) -> PrefillRule | None:
    """The rule that `--prefill` names, `name[:key=value,…]` or `path/to/file.py[:Class]`; None for `none`.

    Raises `UsageError`, with the nearest known name, for a rule, parameter or value that is not known.
    """
    return None if spec is None or spec == NO_RULE else made(spec, PREFILLS, "prefill", "PrefillRule")

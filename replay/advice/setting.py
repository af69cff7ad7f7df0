"""What a setting of an engine is, and how it changes what is replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from lbal.replay.policy.policy import Binding
from lbal.replay.prefill.rule import PrefillRule

DEFAULT = "default"
"""The label of the engine as it comes, or as the user says that it runs: the other settings are compared with it."""


class Replayed(NamedTuple):
    """What is replayed for a setting: the rule by which prompts are computed, the router, and the slots of a rank."""

    rule: PrefillRule
    policy: str
    max_num_seqs: int


@dataclass(frozen=True)
class Setting:
    """One thing that a user of an engine can set, beside all else as it is."""

    name: str
    """The label of its run: without `=`, `:`, `,` and `/`."""
    flags: str
    """What to give to the engine, in its own spelling; empty for the default."""
    rule: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the prefill rule that it sets."""
    policy: str | None = None
    """The router that it sets."""
    max_num_seqs: int | None = None
    """The slots of a rank that it sets."""

    def of(self, default: Replayed) -> Replayed:
        """What is replayed for it, where the engine otherwise runs as `default`."""
        return Replayed(
            rule=replace(default.rule, **self.rule),
            policy=self.policy or default.policy,
            max_num_seqs=default.max_num_seqs if self.max_num_seqs is None else self.max_num_seqs,
        )


@dataclass(frozen=True)
class Engine:
    """An engine with the settings that are tried; its prefill rule has its name."""

    name: str
    title: str
    """How it writes itself."""
    policy: str
    """The router that it has where nothing is set."""
    binding: Binding
    """Whether requests wait at their rank or in a pool."""
    slots_flag: str
    """Sets the slots, in its spelling, with `SLOTS` for those of a rank or `ALL` for those of all ranks together."""
    settings: tuple[Setting, ...]

    def tried(self, default: Replayed, dp_size: int, *, may_double: bool) -> list[tuple[Setting, Replayed]]:
        """The default and every setting that differs from it, each with what is replayed for it.

        Half the slots are tried where a rank has more than one, and twice as many if `may_double`.
        """
        slots = default.max_num_seqs
        sizes = [self._slots(each, dp_size) for each in (slots // 2, 2 * slots)[: 1 + may_double]]
        found = [(Setting(DEFAULT, ""), default)]
        for setting in (*self.settings, *sizes):
            replayed = setting.of(default)
            if replayed != default and replayed.max_num_seqs > 0:
                found.append((setting, replayed))
        return found

    def _slots(self, slots: int, dp_size: int) -> Setting:
        flags = self.slots_flag.replace("SLOTS", str(slots)).replace("ALL", str(slots * dp_size))
        return Setting(f"{slots} slots", flags, max_num_seqs=slots)

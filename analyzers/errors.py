"""Every error lbal raises on purpose; the command line turns each into one line and an exit code.

```
LbalError                    exit 2: the user can mend it
├── UsageError               a parameter, or a combination of them, that cannot work
├── InputError               a file that cannot be read as a trace (file:line: field: problem, expected)
├── OutputError              a file that cannot be written
├── PolicyError              a policy broke the contract of the engine
└── PluginError              the code of a policy, format or report raised what it must not
```
"""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Name = TypeVar("Name", bound=str)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a library call in a message: `dp_size`, or with a value `window=steady`.

    Whoever shows the message may spell it otherwise: the command line writes `--window steady`.
    """

    name: str
    value: object = None

    def __str__(self) -> str:
        return self.name if self.value is None else f"{self.name}={self.value}"


class LbalError(Exception):
    """Base of all errors that carry a message for the user: text, with the parameters that it names in their places."""

    def __init__(self, *parts: str | Parameter) -> None:
        super().__init__(*parts)
        self.parts: tuple[str | Parameter, ...] = parts

    def told(self, spell: Callable[[Parameter], str] = str) -> str:
        """The message, with each parameter as `spell` writes it."""
        return "".join(part if isinstance(part, str) else spell(part) for part in self.parts)

    def __str__(self) -> str:
        return self.told()

    def __reduce__(self) -> tuple[Any, ...]:
        # Processes hand errors over with all that they carry, whatever their constructors take.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class UsageError(LbalError):
    """A parameter, or a combination of them, that cannot work.

    With `parameter` the message begins with it: `dp_size: 0 is too small, …`.
    """

    def __init__(self, *parts: str | Parameter, parameter: Parameter | str | None = None) -> None:
        self.parameter = Parameter(parameter) if isinstance(parameter, str) else parameter
        super().__init__(*parts if self.parameter is None else (self.parameter, ": ", *parts))


class OutputError(LbalError):
    """A report or trace that cannot be written where it was asked for."""


class PolicyError(LbalError):
    """A policy returned a placement that the cluster cannot honour."""


class PluginError(LbalError):
    """The code of a policy, format or report that is not lbal's own failed, or tried to end the process."""


class InputError(LbalError):
    """Input that is not a valid trace, located as precisely as the format allows.

    The message reads `file:line: field: problem, expected expectation`; `line` and `field`
    are left out where they do not apply.
    """

    def __init__(
        self,
        file: str,
        problem: str,
        *,
        line: int | None = None,
        field: str | None = None,
        expected: str | Sequence[str | Parameter] | None = None,
    ) -> None:
        self.file = file
        self.line = line
        self.field = field
        self.problem = problem
        self.expected = expected
        place = file if line is None else f"{file}:{line}"
        parts = [place, *([field] if field else []), problem]
        wanted = [expected] if isinstance(expected, str) else list(expected or ())
        super().__init__(": ".join(parts), *([", expected ", *wanted] if wanted else []))


def shown(value: object, limit: int = 60) -> str:
    """A value as it may stand in a message: quoted, on one line, shortened to `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def one_of(value: str, known: Sequence[Name], parameter: str) -> Name:
    """The one of the known names that is the value of a parameter; `UsageError` that lists them otherwise."""
    found = next((name for name in known if name == value), None)
    if found is None:
        raise UsageError(
            f"{value!r} is not known, expected {', '.join(known[:-1])} or {known[-1]}", parameter=parameter
        )
    return found


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not known: names the nearest and lists what is there."""
    names = sorted(known)
    near = _nearest(name, names)
    hint = f"did you mean {near!r}? " if near else ""
    listing = ", ".join(names[:24]) + (f", … ({len(names)} in all)" if len(names) > 24 else "")
    return UsageError(f"unknown {kind} {name!r}: {hint}known: {listing}")


def _nearest(name: str, names: list[str]) -> str | None:
    """The name most like this one, as a whole or in a part between slashes; None where none is."""
    if near := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return near[0]
    parts = {part: known for known in reversed(names) for part in known.split("/")}
    near = difflib.get_close_matches(name, list(parts), n=1, cutoff=0.7)
    return parts[near[0]] if near else None

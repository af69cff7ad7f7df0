"""What policies and prefill rules have in common: frozen dataclasses whose fields are their parameters."""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC
from typing import Any, ClassVar, Literal

import numpy as np

from lbal.analyzers.trace.trace import FloatArray


@dataclasses.dataclass(frozen=True)
class Parametrised(ABC):
    """A class whose dataclass fields are the parameters that the command line takes and compiled rules see."""

    name: ClassVar[str]
    """What the command line calls it."""

    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def numbers(self) -> FloatArray:
        """The parameters as the numbers a compiled rule sees: a choice counts as its place in its `Literal`."""
        hints = typing.get_type_hints(type(self))
        return np.array([_as_number(value, hints[name]) for name, value in self.parameters().items()], dtype=np.float64)

    @property
    def label(self) -> str:
        """Its name with the parameters that differ from their defaults, as the command line takes it."""
        changed = [
            f"{field.name}={_shown(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}:{','.join(changed)}" if changed else self.name


def description(cls: type[Any]) -> str:
    """The first line of a class's docstring."""
    return (cls.__doc__ or "").strip().splitlines()[0]


def parameter_types(cls: type[Any]) -> dict[str, tuple[Any, Any]]:
    """(type, default) of each parameter of a class."""
    hints = typing.get_type_hints(cls)
    return {field.name: (hints[field.name], field.default) for field in dataclasses.fields(cls)}


def type_text(kind: Any) -> str:
    """How a parameter type reads in messages and lists."""
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(str, typing.get_args(kind)))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}.get(kind, str(kind))


def _as_number(value: Any, hint: Any) -> float:
    if typing.get_origin(hint) is Literal:
        return float(typing.get_args(hint).index(value))
    return float("nan") if value is None or isinstance(value, str) else float(value)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)

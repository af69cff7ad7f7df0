"""From the text of an option to a policy or a rule: `name[:key=value,…]` or `path/to/file.py[:Class][:key=value,…]`."""

from __future__ import annotations

import importlib.util
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from lbal.analyzers.errors import Parameter, UsageError, unknown_name
from lbal.analyzers.registry import Registry, classes_in, defined_in, guarded, what_was_raised
from lbal.replay.policy.parametrised import Parametrised, parameter_types, type_text

T = TypeVar("T", bound=Parametrised)
LARGEST_PARAMETER = 1e12
"""Numbers beyond it, and those that are none, are typing mistakes."""


def made(spec: str, registry: Registry[T], option: str, derives_from: str) -> T:
    """What the value of an option names, from a registry or from a file; `option` is its name, for messages.

    `derives_from` is the base that the message on a file without a class names. Raises `UsageError`, with the nearest
    known name, for a name, parameter or value that is not known.
    """
    head, _, rest = spec.partition(":")
    if head.endswith(".py"):
        class_name, _, rest = ("", "", rest) if "=" in rest.partition(":")[0] else rest.partition(":")
        cls = _from_file(head, class_name, registry, option, derives_from)
    else:
        cls = registry.get(head)
    return cls(**_arguments(cls, spec, rest, registry.kind, option))


def _arguments(cls: type[T], spec: str, text: str, kind: str, option: str) -> dict[str, Any]:
    known = parameter_types(cls)
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if key not in known:
            if not known:
                raise UsageError(f"{key!r}: {cls.name} takes no parameters", parameter=Parameter(option, repr(spec)))
            raise unknown_name(f"parameter of {cls.name}", key, known)
        wanted, _default = known[key]
        if not equals:
            raise UsageError(
                f"{key}: has no value, expected {key}={type_text(wanted)}", parameter=Parameter(option, repr(spec))
            )
        values[key] = _parsed(value, wanted, key, Parameter(option, repr(spec)))
    try:
        with guarded(kind, cls):
            cls(**values)
    except ValueError as error:
        raise UsageError(f"{error}", parameter=Parameter(option, repr(spec))) from error
    return values


def _parsed(text: str, kind: Any, key: str, given: Parameter) -> Any:
    converters: Mapping[Any, Callable[[str], Any]] = {int: int, float: float, str: str, bool: _boolean}
    try:
        if typing.get_origin(kind) is Literal:
            if text not in typing.get_args(kind):
                raise ValueError
            return text
        if isinstance(kind, types.UnionType):
            kind = next(option for option in typing.get_args(kind) if option is not type(None))
        value = converters[kind](text)
        if isinstance(value, (int, float)) and not abs(value) <= LARGEST_PARAMETER:
            raise ValueError
        return value
    except ValueError:
        raise UsageError(f"{key}: {text!r} does not fit, expected {type_text(kind)}", parameter=given) from None


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in values:
        raise ValueError(text)
    return values[text.lower()]


def _from_file(path: str, class_name: str, registry: Registry[T], option: str, derives_from: str) -> type[T]:
    """The class of that name, or the only one, in a file."""
    kind, base = registry.kind, registry.base
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    file = Path(path)
    if not file.is_file():
        raise UsageError("there is no such file", parameter=Parameter(option, f"{path}:{class_name}"))
    module = _imported(file, option)
    classes = {cls.__name__: cls for cls in defined_in(module, base)}
    complete = {cls.__name__: cls for cls in classes_in(module, base)}
    if not classes:
        raise UsageError(
            f"the file defines no {kind}, expected a class that derives from {derives_from}",
            parameter=Parameter(option, path),
        )
    if not class_name:
        candidates = complete or classes
        if len(candidates) > 1:
            names = ", ".join(candidates)
            raise UsageError(
                f"the file has several {plural}, expected {path}:NAME with one of {names}",
                parameter=Parameter(option, path),
            )
        class_name = next(iter(candidates))
    if class_name not in classes:
        raise unknown_name(f"{kind} class of {path}", class_name, classes)
    registry.check(classes[class_name])
    return classes[class_name]


def _imported(file: Path, option: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"lbal_{option}_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UsageError(
            f"the file fails on import: {what_was_raised(error)}", parameter=Parameter(option, file)
        ) from error
    return module

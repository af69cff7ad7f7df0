"""Checks of a policy class where it is found, before anything runs: each failure names class, attribute and remedy."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lbal.analyzers.errors import UsageError
from lbal.analyzers.registry import check_complete
from lbal.replay.policy.view import View

RULES = {
    "score": ("view", "request", "rank"),
    "choose": ("view", "request"),
    "place": ("view", "pool", "size", "requests", "ranks"),
}
"""The rules that a policy may have, and their arguments."""
_BINDINGS = ("pool", "immediate")


def shown_file(file: str | Path) -> str:
    """A file as it may stand in a message: seen from the working folder if it lies below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def check_policy(cls: type[Any]) -> None:
    """Raise `UsageError` for a class that cannot work as a policy."""
    from lbal.replay.policy.policy import Policy  # which has this module check its registry

    check_complete(cls, "policy", Policy)
    rules = [name for name in RULES if hasattr(cls, name)]
    if not rules:
        raise UsageError(f"class {cls.__name__} has no rule, expected one that derives from Router or Selector")
    _check_attributes(cls)
    _check_memory(cls)
    _check_fields(cls, {name for base in Policy.__mro__ for name in vars(base)})
    for rule in rules:
        _check_rule(cls, rule)
    _check_view_fields(cls)


def _check_attributes(cls: type[Any]) -> None:
    for name in ("name", "looks_at"):
        if not isinstance(getattr(cls, name), str):
            raise UsageError(f"class {cls.__name__}: {name}: {getattr(cls, name)!r} is no text, expected one")
    if not cls.bindings or set(cls.bindings) - set(_BINDINGS):
        raise UsageError(
            f'class {cls.__name__}: bindings: {cls.bindings!r} cannot be, expected a tuple of "pool" and "immediate"'
        )


def _check_memory(cls: type[Any]) -> None:
    if getattr(cls, "ties", "") == "rotating" and next(iter(cls.memory.sizes), "") != "turn":
        raise UsageError(
            f"class {cls.__name__}: memory: rotating ties keep the start of the scan first, expected TURN.with_parts(…)"
        )


def _check_fields(cls: type[Any], taken: set[str]) -> None:
    """Every annotation that is no `ClassVar` must be a parameter, with a default."""
    fields = {field.name: field for field in dataclasses.fields(cls)}
    own = vars(cls).get("__annotations__", {})
    for name, kind in own.items():
        if "ClassVar" not in str(kind) and name not in fields:
            raise UsageError(
                f"class {cls.__name__}: {name}: is no parameter yet, expected @dataclass(frozen=True) above the class"
            )
    for base in cls.__mro__[1:]:
        inherited = [field.name for field in dataclasses.fields(base)] if dataclasses.is_dataclass(base) else []
        if inherited != list(fields)[: len(inherited)]:
            raise UsageError(
                f"class {cls.__name__}: {inherited[0]}: the rules of {base.__name__} expect its parameters "
                f"({', '.join(inherited)}) before all others, expected no other base that has parameters"
            )
    for name, field in fields.items():
        if name in taken:
            raise UsageError(f"class {cls.__name__}: {name}: no parameter can have this name, expected another")
        if field.default is dataclasses.MISSING:
            raise UsageError(f"class {cls.__name__}: {name}: the parameter has no default, expected one")


def _check_rule(cls: type[Any], rule: str) -> None:
    """A compiled rule is a static function; one in plain Python may be a method. Both take what the engine gives."""
    found = inspect.getattr_static(cls, rule)
    static, compiled = isinstance(found, staticmethod), inspect.getattr_static(cls, "compiled")
    expected = ", ".join(RULES[rule])
    if compiled is True and not static:
        raise UsageError(
            f"class {cls.__name__}: {rule}: is a method, expected @staticmethod def {rule}({expected}) "
            f"(or the base Plain{'Selector' if rule == 'place' else 'Router'}, to run it as plain Python)"
        )
    function = found.__func__ if static else found
    if not inspect.isfunction(function):
        return
    names = list(inspect.signature(function).parameters)[0 if static else 1 :]
    if len(names) != len(RULES[rule]):
        raise UsageError(
            f"class {cls.__name__}: {rule}: takes {len(names)} arguments ({', '.join(names) or 'none'}), "
            f"expected {rule}({expected})"
        )


def _check_view_fields(cls: type[Any]) -> None:
    """Functions in the file of the class that are given the view may only read fields that it has."""
    try:
        file = Path(inspect.getfile(cls))
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError, SyntaxError):  # no file: made in a notebook or by a program
        return
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for line, name in _unknown_fields(function):
                near = difflib.get_close_matches(name, View._fields, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise UsageError(
                    f"{shown_file(file)}:{line}: class {cls.__name__}: the view has no field {name!r}: {hint}"
                    f"expected one of {', '.join(View._fields)}"
                )


def _unknown_fields(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """(line, name) of what a function reads of its argument `view` that no view has."""
    arguments = [*function.args.posonlyargs, *function.args.args]
    views = {
        argument.arg
        for argument in arguments
        if argument.arg == "view" or (argument.annotation is not None and ast.unparse(argument.annotation) == "View")
    }
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in views
            and node.attr not in View._fields
            and not node.attr.startswith("_")
        ):
            yield node.lineno, node.attr

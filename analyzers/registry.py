"""One way to find the policies, formats and reports: every class in a package's modules, by name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from lbal.analyzers.errors import unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Classes of one kind, found in the modules of a package and in an entry-point group.

    A class is found when it is a concrete subclass of `base` with a `name` of its own. Two
    classes with one name raise `ValueError`: which one a user meant could not be told.
    """

    def __init__(self, kind: str, package: str, base: type[T], group: str) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        """Entry-point group in which other distributions add theirs."""
        self.base = base

    @cached_property
    def _classes(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for cls in [*self._own(), *self._third_party()]:
            name: str = cls.name  # type: ignore[attr-defined]
            if found.setdefault(name, cls) is not cls:
                raise ValueError(f"two classes define the {self.kind} {name!r}: {found[name]} and {cls}")
        return dict(sorted(found.items()))

    def _own(self) -> Iterator[type[T]]:
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{self.package}.{info.name}")
            yield from classes_in(module, self.base)

    def _third_party(self) -> Iterator[type[T]]:
        for entry in entry_points(group=self.group):
            yield entry.load()

    def names(self) -> list[str]:
        """All names, sorted."""
        return list(self._classes)

    def classes(self) -> list[type[T]]:
        """All classes, in the order of their names."""
        return list(self._classes.values())

    def get(self, name: str) -> type[T]:
        """The class of that name; `UsageError` with the nearest known name otherwise."""
        if name not in self._classes:
            raise unknown_name(self.kind, name, self._classes)
        return self._classes[name]


def classes_in(module: object, base: type[T]) -> Iterator[type[T]]:
    """Concrete subclasses of `base` that are defined in `module` itself and have a `name`."""
    for cls in vars(module).values():
        if (
            inspect.isclass(cls)
            and issubclass(cls, base)
            and not inspect.isabstract(cls)
            and cls.__module__ == module.__name__  # type: ignore[attr-defined]
            and "name" in vars(cls)
        ):
            yield cls

"""One way to find the policies, formats and reports: every class in a package's modules, by name.

Classes of other distributions come in by entry points. One that cannot be used is told in one line and left out; the
others work. What such a class raises later is turned into one line that names it (`guarded`).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from lbal.analyzers.errors import LbalError, PluginError, UsageError, unknown_name
from lbal.analyzers.plain import plain

T = TypeVar("T")


class PluginWarning(UserWarning):
    """A class of another distribution that cannot be used, and that nobody has asked for."""


class Registry(Generic[T]):
    """Classes of one kind, found in the modules of a package and in an entry-point group.

    A class of the package is found when it is a concrete subclass of `base` with a `name` of its own; two of them with
    one name raise `ValueError`. A class of another distribution that cannot be imported, is incomplete, fails `check`
    or has a name that is taken costs a `PluginWarning`, and `UsageError` where its name is asked for.
    """

    def __init__(
        self, kind: str, package: str, base: type[T], group: str, check: Callable[[type[T]], None] = lambda _cls: None
    ) -> None:
        self.kind = kind
        self.package = package
        self.group = group
        """Entry-point group in which other distributions add theirs."""
        self.base = base
        self.check = check
        """Raises `LbalError` for a class that cannot work; asked for classes of others, tests ask it for our own."""
        self._unusable: dict[str, str] = {}
        """What is wrong, by every name under which somebody may ask for it."""
        self._contested: dict[str, type[T]] = {}
        """The first class of every name that several other distributions use."""

    @cached_property
    def _classes(self) -> dict[str, type[T]]:
        found: dict[str, type[T]] = {}
        for cls in self._own():
            name = _name_of(cls)
            if found.setdefault(name, cls) is not cls:
                raise ValueError(
                    f"two classes define the {self.kind} {name!r}: {place_of(found[name])} and {place_of(cls)}"
                )
        for entry in entry_points(group=self.group):
            self._add(entry, found)
        return dict(sorted(found.items()))

    def _own(self) -> Iterator[type[T]]:
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{self.package}.{info.name}")
            yield from classes_in(module, self.base)

    def _add(self, entry: EntryPoint, found: dict[str, type[T]]) -> None:
        """Add the class of an entry point, or note and tell why it cannot be used."""
        names = {entry.name}
        try:
            cls = entry.load()
            names |= {name} if isinstance(name := getattr(cls, "name", None), str) else set()
            check_complete(cls, self.kind, self.base)
            self.check(cls)
            self._add_once(cls, found)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  whatever a stranger's module raises, the others must work
            reason = str(error) if isinstance(error, LbalError) else f"it fails on import: {what_was_raised(error)}"
            origin = f" of {entry.dist.name}" if entry.dist else ""
            message = plain(f"{self.kind} plugin {entry.name!r}{origin} ({entry.value}) cannot be used: {reason}")
            self._unusable |= dict.fromkeys(names, message)
            warnings.warn(message, PluginWarning, stacklevel=2)

    def _add_once(self, cls: type[T], found: dict[str, type[T]]) -> None:
        """Add a class whose name is free. A name of our own stays ours; which of two others is meant, nobody knows."""
        name = _name_of(cls)
        known = self._contested.get(name) or found.setdefault(name, cls)
        if known is cls:
            return
        if not is_own(known):
            found.pop(name, None)
            self._contested[name] = known
        raise UsageError(f"two classes define the {self.kind} {name!r}: {place_of(known)} and {place_of(cls)}")

    def names(self) -> list[str]:
        """All names, sorted."""
        return list(self._classes)

    def classes(self) -> list[type[T]]:
        """All classes, in the order of their names."""
        return list(self._classes.values())

    def get(self, name: str) -> type[T]:
        """The class of that name.

        Raises `UsageError` that says why it cannot be used, or with the nearest known name where there is none.
        """
        known = self._classes
        if name in self._unusable and name not in known:
            raise UsageError(self._unusable[name])
        if name not in known:
            raise unknown_name(self.kind, name, known)
        return known[name]


def classes_in(module: object, base: type[T]) -> Iterator[type[T]]:
    """Concrete subclasses of `base` that are defined in `module` itself and have a `name`."""
    for cls in defined_in(module, base):
        if not inspect.isabstract(cls) and "name" in vars(cls):
            yield cls


def defined_in(module: object, base: type[T]) -> Iterator[type[T]]:
    """Subclasses of `base` that are defined in `module` itself, complete or not."""
    for cls in vars(module).values():
        if inspect.isclass(cls) and issubclass(cls, base) and cls.__module__ == module.__name__:  # type: ignore[attr-defined]
            yield cls


def check_complete(cls: Any, kind: str, base: type[Any]) -> None:
    """Raise `UsageError` for what is no subclass of `base`, leaves methods out, or lacks class attributes."""
    if not (inspect.isclass(cls) and issubclass(cls, base)):
        raise UsageError(
            f"{cls!r} is no {kind} class, expected one that derives from {base.__module__}.{base.__name__}"
        )
    missing = sorted(name for name in _declared(cls) if not hasattr(cls, name))
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise UsageError(
            f"class {cls.__name__} lacks the attribute{plural} {', '.join(missing)}, "
            f"expected `{missing[0]}: ClassVar[…] = …` in the class"
        )
    if inspect.isabstract(cls):
        names = ", ".join(sorted(vars(cls)["__abstractmethods__"]))
        raise UsageError(f"class {cls.__name__} does not define {names}, expected what {base.__name__} asks for")


def _declared(cls: type[Any]) -> set[str]:
    """Class attributes that the class or its bases announce (`name: ClassVar[str]`)."""
    return {
        name
        for owner in cls.__mro__
        for name, kind in vars(owner).get("__annotations__", {}).items()
        if "ClassVar" in str(kind)
    }


@contextmanager
def guarded(kind: str, cls: type[Any]) -> Iterator[None]:
    """Turn what the code of a policy, format or report raises into a `PluginError` that names it.

    Errors for the user (`LbalError`), interrupts and lack of memory pass; errors in classes of our own do too, as what
    they are: errors in lbal. `SystemExit`, `GeneratorExit` and the like never pass.
    """
    try:
        yield
    except (LbalError, KeyboardInterrupt, BrokenPipeError, MemoryError):
        raise
    except BaseException as error:
        if isinstance(error, Exception) and is_own(cls):
            raise
        name = getattr(cls, "name", cls.__name__)
        raise PluginError(plain(f"{kind} {name} ({place_of(cls)}): it raised {what_was_raised(error)}")) from error


def is_own(cls: type[Any]) -> bool:
    """Whether a class is part of lbal."""
    return cls.__module__.startswith("lbal.")


def place_of(cls: type[Any]) -> str:
    """Where a class is defined, for messages: `module.Class`."""
    return f"{cls.__module__}.{cls.__qualname__}"


def what_was_raised(error: BaseException) -> str:
    """An error for messages: its type, and its text if it has any."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _name_of(cls: type[Any]) -> str:
    name: str = cls.name
    return name

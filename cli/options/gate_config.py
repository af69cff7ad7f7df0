"""The settings of `lbal check` from a file: `lbal.toml`, or `[tool.lbal]` of `pyproject.toml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lbal.analyzers.documents import read_document, toml_table
from lbal.analyzers.errors import InputError, shown, unknown_name

MOST_BYTES = 1 << 24
FILES = ("lbal.toml", "pyproject.toml")


@dataclass(frozen=True)
class CheckSettings:
    """What `[check]` says; nothing where there is no file."""

    file: str | None = None
    baseline: str | None = None
    fail_on: list[str] = field(default_factory=list)
    warn_on: list[str] = field(default_factory=list)
    allow_mismatch: list[str] = field(default_factory=list)
    strict: bool = False


KINDS: dict[str, tuple[type, str]] = {
    "baseline": (str, "a file name"),
    "fail-on": (list, "a list of gates"),
    "warn-on": (list, "a list of gates"),
    "allow-mismatch": (list, "a list of names"),
    "strict": (bool, "true or false"),
}


def check_settings(name: str | None) -> CheckSettings:
    """The settings of the named file, else of the first in this directory that has any.

    Raises `InputError` for a file that is no TOML, a named one without settings, or settings that are not known.
    """
    if name is not None:
        settings = _settings_of(Path(name))
        if settings is None:
            raise InputError(name, "it has no settings for check", expected="a table [check] (or [tool.lbal.check])")
        return settings
    for candidate in FILES:
        if Path(candidate).is_file() and (settings := _settings_of(Path(candidate))) is not None:
            return settings
    return CheckSettings()


def _settings_of(path: Path) -> CheckSettings | None:
    file, record = str(path), _toml(path)
    prefix = "check"
    if path.name == "pyproject.toml":
        record, prefix = _table(file, record, "tool.lbal"), "tool.lbal.check"
    if "check" not in record:
        return None
    table = record["check"]
    _expect(file, prefix, table, dict, "a table")
    for key, value in table.items():
        if key not in KINDS:
            raise InputError(file, str(unknown_name("setting", key, KINDS)), field=prefix)
        _expect(file, f"{prefix}.{key}", value, *KINDS[key])
        for item in value if isinstance(value, list) else ():
            _expect(file, f"{prefix}.{key}", item, str, "strings in the list")
    values = {key.replace("-", "_"): value for key, value in table.items()}
    if "baseline" in values:
        if "\0" in values["baseline"]:
            raise InputError(file, "has a zero byte", field=f"{prefix}.baseline", expected="a file name")
        values["baseline"] = str(path.parent / values["baseline"])
    return CheckSettings(file=file, **values)


def _toml(path: Path) -> dict[str, Any]:
    return toml_table(read_document(str(path), "a TOML file", MOST_BYTES), str(path))


def _table(file: str, record: dict[str, Any], path: str) -> dict[str, Any]:
    for part in path.split("."):
        record = record.get(part, {})
        _expect(file, path, record, dict, "a table")
    return record


def _expect(file: str, place: str, value: Any, kind: type, what: str) -> None:
    if not isinstance(value, kind):
        raise InputError(file, f"{shown(value)} does not fit", field=place, expected=what)

"""Several inputs as one: files, directories and globs, in a stated order, each with the rank that its name tells."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lbal.analyzers.errors import InputError, UsageError

Names = str | Path | Sequence[str | Path]

TRACE_DIRECTORY_FILES = ("meta.json", "requests.parquet", "steps.parquet")
"""A directory with one of these is a trace by itself; any other stands for the files in it."""
MOST_FILES = 10_000
RANK_IN_NAMES = (
    re.compile(r"(?:^|[^a-z0-9]|enginecore_)dp(?:[_-]?rank)?[_-]?(\d{1,5})(?![0-9])", re.IGNORECASE),
    re.compile(r"(?:^|[^a-z0-9])rank[_-]?(\d{1,5})(?![0-9])", re.IGNORECASE),
)
"""What names of files usually carry: dp3, dp-rank-3, EngineCore_DP3; then rank_3, rank3."""


@dataclass(frozen=True)
class SourceName:
    """One input and what its name tells."""

    name: str
    """As the user gave it, or as it was found below what the user gave; `-` is standard input."""
    rank: int | None = None
    """The rank that the name tells; None where it tells none."""
    rank_is_given: bool = False
    """Whether the user said how to read the rank from the name, so that it counts more than what the log says."""
    is_found: bool = False
    """Whether it was found in a directory, and may turn out to be no trace at all."""


def source_names(names: Names, rank_regex: str | None = None) -> list[SourceName]:
    """The inputs that some names stand for: each file once, directories and globs in natural order (2 before 10).

    Raises `InputError` where a directory or a glob holds no file or a file stands twice, and `UsageError` for a
    `rank_regex` without exactly one group of digits.
    """
    given = [names] if isinstance(names, str | Path) else list(names)
    if not given:
        raise UsageError("no input is given, expected at least one file, directory or - for standard input")
    pattern = None if rank_regex is None else _rank_pattern(rank_regex)
    expanded = [(name, is_found) for item in given for name, is_found in _expanded(str(item))]
    _refuse_twice([name for name, _is_found in expanded])
    alone = len(expanded) == 1
    return [
        SourceName(name, _rank_in(name, pattern, alone=alone), pattern is not None, is_found)
        for name, is_found in expanded
    ]


def _expanded(name: str) -> Iterator[tuple[str, bool]]:
    if name == "-":
        yield name, False
    elif os.path.isdir(name):
        yield from _below(name)
    elif glob.has_magic(name) and not os.path.lexists(name):
        matches = sorted(glob.glob(name, recursive=True), key=_natural)
        if not matches:
            raise InputError(name, "fits no file", expected="a pattern that fits one")
        for match in matches:
            yield from _below(match) if os.path.isdir(match) else [(match, False)]
    else:
        yield name, False


def _below(directory: str) -> Iterator[tuple[str, bool]]:
    """The directory itself where it is a trace, else the files in it and below it, without hidden ones."""
    if is_trace_directory(directory):
        yield directory, False
        return
    count = 0
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=_natural)
        inner = [name for name in folders if is_trace_directory(os.path.join(folder, name))]
        folders[:] = [name for name in folders if name not in inner]
        for name in sorted([*files, *inner], key=_natural):
            if not name.startswith("."):
                count += 1
                if count > MOST_FILES:
                    problem = f"has more than {MOST_FILES:,} files"
                    raise InputError(directory, problem, expected="the directory of one run")
                yield os.path.join(folder, name), True
    if not count:
        raise InputError(directory, "the directory has no files", expected="logs in it, or a meta.json")


def is_trace_directory(directory: str | Path) -> bool:
    """Whether a directory is one trace in the Parquet form."""
    return any(os.path.isfile(os.path.join(directory, name)) for name in TRACE_DIRECTORY_FILES)


def _refuse_twice(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        path = name if name == "-" else os.path.realpath(name)
        if path in seen:
            also = "" if seen[path] == name else f", also as {seen[path]}"
            raise InputError(name, f"stands twice in the input{also}", expected="each file once")
        seen[path] = name


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their value."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _rank_pattern(text: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise UsageError(f"{text!r} is no regular expression: {error}", parameter="rank_regex") from error
    if pattern.groups != 1:
        raise UsageError(f"{text!r} has {pattern.groups} groups, expected one: the rank", parameter="rank_regex")
    return pattern


def _rank_in(name: str, pattern: re.Pattern[str] | None, *, alone: bool) -> int | None:
    """The rank in a name. The file's own name counts before those of its folders, the nearest folder first.

    The name of a lone file may give the number of ranks as `dp8`: only `rank3` counts there.
    """
    if name == "-":
        return None
    if pattern is not None:
        match = pattern.search(name)
        if match is None:
            raise UsageError(f"{pattern.pattern!r} does not fit {name}", parameter="rank_regex")
        if not (match[1] or "").isdecimal():
            raise UsageError(
                f"{pattern.pattern!r} finds {match[1]!r} in {name}, expected digits", parameter="rank_regex"
            )
        return int(match[1])
    for part in reversed(Path(name).parts):
        for known in RANK_IN_NAMES[1:] if alone else RANK_IN_NAMES:
            if match := known.search(part):
                return int(match[1])
    return None

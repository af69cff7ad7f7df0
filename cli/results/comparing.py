"""What `compare` and `check` share: reading results, refusing those that cannot be compared, building their result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbal.analyzers.compare.pairs import Pair
    from lbal.analyzers.result.reading import Stored

LONGEST_VALUE = 60


def allowed_mismatches(names: Sequence[str]) -> list[str]:
    """The names given to --allow-mismatch, also separated by commas; `UsageError` for one that is not known."""
    from lbal.analyzers.compare.differences import MISMATCHES
    from lbal.analyzers.errors import unknown_name

    found = [part.strip() for name in names for part in name.split(",") if part.strip()]
    for name in found:
        if name not in MISMATCHES:
            raise unknown_name("mismatch", name, MISMATCHES)
    return found


def refuse_mismatch(base: Stored, head: Stored, allowed: Sequence[str]) -> dict[str, Any]:
    """What differs of the things that make results comparable, all of it allowed; `UsageError` otherwise."""
    from lbal.analyzers.compare.differences import mismatches
    from lbal.analyzers.errors import UsageError

    found = mismatches(base, head)
    refused = [name for name in found if name not in allowed]
    if refused:
        told = "; ".join(f"{name}: {_side(found[name][0])} against {_side(found[name][1])}" for name in refused)
        raise UsageError(
            f"{head.name}: it cannot be compared with {base.name}: {told}; "
            f"expected results that agree in this (or --allow-mismatch {','.join(refused)})"
        )
    return {name: list(values) for name, values in found.items()}


def _side(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_side(part) for part in value)
    if isinstance(value, Mapping):
        return _side(value["name"]) if "name" in value else str(dict(value))
    text = "nothing" if value is None else str(value)
    if len(text) == 64 and text.isalnum():
        return f"sha256 {text[:12]}…"
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def config_changes_of(base: Stored, head: Stored) -> dict[str, list[Any]]:
    """Settings that differ, as JSON has them."""
    from lbal.analyzers.compare.differences import config_changes

    return {name: list(values) for name, values in config_changes(base, head).items()}


def pair_record(base: Stored, head: Stored, pair: Pair, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison of two runs, for the result."""
    from lbal.analyzers.compare.differences import differences

    before, after = pair
    changes = config_changes_of(base, head)
    if before is not None and after is not None:
        for name in ("policy", "parameters"):
            if (values := (getattr(before, name), getattr(after, name)))[0] != values[1]:
                changes[name] = list(values)
    return {
        "base": base.name,
        "base_run": None if before is None else before.label,
        "head": head.name,
        "head_run": None if after is None else after.label,
        "config_changes": changes,
        "allowed_mismatches": dict(allowed),
        "differences": []
        if before is None or after is None
        else [each.as_dict() for each in differences(before, after)],
    }


def inputs_of(results: Sequence[Stored]) -> list[dict[str, Any]]:
    """What the result says of the results that were read."""
    return [
        {
            "name": stored.name,
            "format": stored.schema,
            "lbal_version": stored.lbal_version,
            "command": stored.result.command,
            "runs": [run.label for run in stored.result.runs],
            "traces": [dict(item) for item in stored.result.inputs],
        }
        for stored in results
    ]

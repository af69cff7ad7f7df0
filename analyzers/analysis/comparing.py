"""`compare`: what differs between results and how sure that is, in one call; and what `check` shares with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.compare.differences import MISMATCHES, config_changes, differences, mismatches
from lbal.analyzers.compare.pairs import Pair, run_pairs, with_runs, within
from lbal.analyzers.errors import Parameter, UsageError, unknown_name
from lbal.analyzers.result.reading import Stored
from lbal.analyzers.result.result import Result
from lbal.analyzers.statistics.student import CONFIDENCE
from lbal.analyzers.wording.differences import compare_headline, missing_notes

LONGEST_VALUE = 60


def compare(
    base: Result | Stored,
    *heads: Result | Stored,
    run: str | None = None,
    base_run: str | None = None,
    allow_mismatch: Sequence[str] = (),
) -> Result:
    """Compare results with a first one, run by run of the same label; without others, its runs with each other.

    `run` and `base_run` are labels of single runs, `allow_mismatch` names what may differ (`trace`, `dp_size`,
    `slots`, `model`, `schema`). A difference is better, worse, changed or equal where its interval says so,
    inconclusive where that leaves it open, and not judged where there is no interval: values alone never make one
    better or worse. Raises `UsageError` for results that cannot be compared.
    """
    allowed = allowed_mismatches(allow_mismatch)
    first, *others = (with_runs(each) for each in as_stored(base, *heads))
    records = []
    for head in others:
        agreed = refuse_mismatch(first, head, allowed)
        records += [pair_record(first, head, pair, agreed) for pair in run_pairs(first, head, run, base_run)]
    if others and not any(record["differences"] for record in records):
        raise UsageError(
            f"{first.name}: no run has the label of one it is compared with, expected ",
            Parameter("run"),
            " and ",
            Parameter("base_run"),
        )
    if not others:
        records = [pair_record(first, first, pair, {}) for pair in within(first, run, base_run)]
    return Result(
        command="compare",
        inputs=inputs_of([first, *others]),
        config={"confidence": CONFIDENCE},
        runs=[],
        headline=compare_headline(records),
        notes=missing_notes(records),
        comparison={"pairs": records},
    )


def as_stored(base: Result | Stored, *heads: Result | Stored) -> list[Stored]:
    """The results as if they had been read; those that were not are called `base`, and `head` with their number."""
    names = ["base", *["head" if len(heads) == 1 else f"head {number}" for number in range(1, len(heads) + 1)]]
    return [
        each if isinstance(each, Stored) else Stored.of(each, name)
        for each, name in zip((base, *heads), names, strict=True)
    ]


def allowed_mismatches(names: Sequence[str]) -> list[str]:
    """The names that may differ, also separated by commas; `UsageError` for one that is not known."""
    found = [part.strip() for name in names for part in name.split(",") if part.strip()]
    for name in found:
        if name not in MISMATCHES:
            raise unknown_name("mismatch", name, MISMATCHES)
    return found


def refuse_mismatch(base: Stored, head: Stored, allowed: Sequence[str]) -> dict[str, Any]:
    """What differs of the things that make results comparable, all of it allowed; `UsageError` otherwise."""
    found = mismatches(base, head)
    refused = [name for name in found if name not in allowed]
    if refused:
        told = "; ".join(f"{name}: {_side(found[name][0])} against {_side(found[name][1])}" for name in refused)
        raise UsageError(
            f"{head.name}: it cannot be compared with {base.name}: {told}; expected results that agree in this (or ",
            Parameter("allow_mismatch", ",".join(refused)),
            ")",
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
    return {name: list(values) for name, values in config_changes(base, head).items()}


def pair_record(base: Stored, head: Stored, pair: Pair, allowed: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison of two runs, for the result."""
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

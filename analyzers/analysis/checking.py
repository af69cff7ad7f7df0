"""`check`: gates on a result, against limits and a baseline, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.analysis.comparing import allowed_mismatches, config_changes_of, inputs_of, refuse_mismatch
from lbal.analyzers.compare.differences import differences
from lbal.analyzers.compare.gate import Gate, direction_notes, judge, parse_gate
from lbal.analyzers.compare.pairs import Pair, run_pairs, with_runs
from lbal.analyzers.errors import Parameter, UsageError, unknown_name
from lbal.analyzers.result.reading import Stored
from lbal.analyzers.result.result import Result
from lbal.analyzers.statistics.student import CONFIDENCE
from lbal.analyzers.wording.differences import check_headline, worse_figures


def gates_of(fail_on: Sequence[str], warn_on: Sequence[str], *, has_baseline: bool) -> list[Gate]:
    """The gates that are asked for; `UsageError` where there is none, or one needs a baseline and there is none."""
    gates = [*[parse_gate(text, "fail") for text in fail_on], *[parse_gate(text, "warn") for text in warn_on]]
    if not gates:
        raise UsageError(
            "there is nothing to check, expected ", Parameter("fail_on", "METRIC:+5%"), " or gates in lbal.toml"
        )
    needing = next((gate for gate in gates if gate.needs_baseline), None)
    if needing is not None and not has_baseline:
        raise UsageError(
            f"'{needing.text}' limits a change, expected ",
            Parameter("baseline", "FILE"),
            " (or a threshold, METRIC<=60)",
        )
    return gates


def check(
    head: Result | Stored,
    baseline: Result | Stored | None = None,
    *,
    fail_on: Sequence[str] = (),
    warn_on: Sequence[str] = (),
    strict: bool = False,
    run: str | None = None,
    base_run: str | None = None,
    allow_mismatch: Sequence[str] = (),
    settings: str | None = None,
) -> Result:
    """Check a result against gates such as `barrier_idle_fraction:+5%` (a change) or `tpot_ms_p99<=60` (a threshold).

    The outcomes are `check["gates"]` of the result; one that `fails` is a failed gate. `strict` makes inconclusive
    ones fail. `settings` is the file that gates were read from, for the record.
    """
    gates = gates_of(fail_on, warn_on, has_baseline=baseline is not None)
    allowed = allowed_mismatches(allow_mismatch)
    stored = with_runs(_stored(head, "head"))
    base = None if baseline is None else with_runs(_stored(baseline, "baseline"))
    pairs, agreed = _pairs(stored, base, allowed, run, base_run)
    judged = [{**each.as_dict(), "fails": each.fails(strict=strict)} for each in judge(gates, pairs)]
    record = {
        "head": stored.name,
        "baseline": None if base is None else base.name,
        "strict": strict,
        "allowed_mismatches": agreed,
        "config_changes": {} if base is None else config_changes_of(base, stored),
        "gates": judged,
    }
    return Result(
        command="check",
        inputs=inputs_of([stored, *([] if base is None else [base])]),
        config={"confidence": CONFIDENCE, "settings": settings},
        runs=[],
        headline=check_headline(record, _worse(pairs, judged)),
        notes=direction_notes(gates),
        check=record,
    )


def _worse(pairs: Sequence[Pair], gates: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is notably worse than in the baseline, whether a gate asks for it or not, and fails none."""
    failed = {each["metric"] for each in gates if each["fails"]}
    found = []
    for base, head in pairs:
        if base is None or head is None:
            continue
        worse = worse_figures([each.as_dict() for each in differences(base, head)], failed)
        found += [f"{text} under {head.label}" if len(pairs) > 1 else text for text in worse]
    return found


def _stored(result: Result | Stored, name: str) -> Stored:
    return result if isinstance(result, Stored) else Stored.of(result, name)


def _pairs(
    stored: Stored, base: Stored | None, allowed: Sequence[str], run: str | None, base_run: str | None
) -> tuple[list[Pair], dict[str, Any]]:
    """The runs to check, with those of the baseline, and what differs between the two that is allowed to."""
    if base is not None:
        agreed = refuse_mismatch(base, stored, allowed)
        return run_pairs(base, stored, run, base_run), agreed
    if base_run is not None:
        raise UsageError(
            f"{base_run} has no meaning without a baseline, expected ",
            Parameter("baseline", "FILE"),
            parameter="base_run",
        )
    runs = [each for each in stored.result.runs if run in (None, each.label)]
    if not runs:
        raise unknown_name("run", str(run), [each.label for each in stored.result.runs])
    return [(None, each) for each in runs], {}

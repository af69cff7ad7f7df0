"""Differences and gates in plain words, and as rows of tables; all reports use these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lbal.analyzers.compare.differences import differences
from lbal.analyzers.metrics import METRICS, names_in
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import count, listed, percent, shown_unit, shown_value, with_unit
from lbal.analyzers.wording.verdict import MOST_WORSE, NOTABLY_WORSE, times_worse

COLUMNS = ["metric", "unit", "better", "base", "head", "change", "relative", "95% interval of the change", "says"]
LEFT_COLUMNS = 3
LEADING = ("barrier_idle_fraction", "tokens_per_second", "prefill_imbalance_ratio")
MARKS = ("better", "worse", "equal", "inconclusive", "changed", "not judged")
VERDICTS = {"passed": "passed", "failed": "FAILED", "inconclusive": "inconclusive"}


def signed(value: float | None, unit: str) -> str:
    """A change in the shown unit, with its sign; fractions in percentage points."""
    if value is None or value != value:
        return "n/a"
    text = shown_value(abs(value), unit)
    return text if not any(digit in text for digit in "123456789") else f"{'+' if value > 0 else '-'}{text}"


def signed_percent(share: float | None) -> str:
    """A relative change."""
    if share is None or share != share:
        return "n/a"
    text = percent(abs(share))
    return text if not any(digit in text for digit in "123456789") else f"{'+' if share > 0 else '-'}{text}"


def difference_rows(differences: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row of each difference, under `COLUMNS`."""
    return [_row(each) for each in differences]


def _row(each: Mapping[str, Any]) -> list[str]:
    unit = each["unit"]
    interval = "n/a: too short" if each.get("reason", "").startswith("too short") else "n/a"
    if "low" in each:
        interval = f"{signed(each['low'], unit)} to {signed(each['high'], unit)} ({each['interval_over']})"
    return [
        METRICS[each["metric"]].label,
        shown_unit(unit),
        each["better"],
        shown_value(each["base"], unit),
        shown_value(each["head"], unit),
        signed(each["absolute"], unit),
        signed_percent(each["relative"]),
        interval,
        each["mark"],
    ]


def difference_record(source: str, base: Run, head: Run) -> dict[str, Any]:
    """The comparison of two runs of one result."""
    return {
        "base": source,
        "base_run": base.label,
        "head": source,
        "head_run": head.label,
        "config_changes": {},
        "allowed_mismatches": {},
        "differences": [each.as_dict() for each in differences(base, head)],
    }


def pair_title(pair: Mapping[str, Any]) -> str:
    """Which runs are compared."""
    if pair["head"] == pair["base"]:
        return f"{pair['head_run']} against {pair['base_run']}"
    return f"{_side(pair, 'head')} against {_side(pair, 'base')}"


def _side(pair: Mapping[str, Any], side: str) -> str:
    return f"{pair[f'{side}_run']} of {pair[side]}"


def change_lines(pair: Mapping[str, Any]) -> list[str]:
    """What differs in configuration."""
    return [f"{name}: {_told(before)} -> {_told(after)}" for name, (before, after) in pair["config_changes"].items()]


def _told(value: Any) -> str:
    return "none" if value is None else str(value)


def compare_headline(pairs: Sequence[Mapping[str, Any]]) -> str:
    """How many metrics are better and worse, and the two that matter most, in one sentence each pair."""
    return " ".join(_pair_headline(pair, several=len(pairs) > 1) for pair in pairs if pair["differences"])


def _pair_headline(pair: Mapping[str, Any], *, several: bool) -> str:
    marks = Counter(each["mark"] for each in pair["differences"])
    counts = listed([f"{marks[mark]} {mark}" for mark in MARKS if marks[mark]])
    short = next((each["reason"] for each in pair["differences"] if each.get("reason", "").startswith("too short")), "")
    known = {each["metric"]: each for each in pair["differences"]}
    leading = [
        f"{METRICS[name].label} {signed_percent(known[name]['relative'])} ({known[name]['mark']})"
        for name in LEADING
        if name in known
    ]
    worse = worse_figures(pair["differences"])
    but = f", but {listed(worse)}" if worse else ""
    who = f"{pair['head_run']} against {pair['base_run']}: " if several or pair["head_run"] != pair["base_run"] else ""
    text = f"{who}{listed(leading)}{but}; of {count(len(pair['differences']), 'metric')} {counts}"
    return f"{text} (no interval: {short})." if short else f"{text}."


def worse_figures(differences: Sequence[Mapping[str, Any]], besides: Collection[str] = LEADING) -> list[str]:
    """What is more than a tenth worse, or looks so where nothing can judge it, the worst first.

    Of the figures that stand side by side for several runs, without those `besides` which it is told.
    """
    known = {each["metric"]: each for each in differences if each["mark"] in ("worse", "not judged")}
    names = [name for name in names_in("comparison") if name in known and METRICS[name].unit != "steps"]
    times = {name: times_worse(name, known[name]["head"], known[name]["base"]) for name in names if name not in besides}
    worst = sorted((name for name in times if times[name] > NOTABLY_WORSE), key=lambda name: -times[name])
    return [_worse(known[name]) for name in worst[:MOST_WORSE]]


def _worse(each: Mapping[str, Any]) -> str:
    head, base = (with_unit(each[side], each["unit"]) for side in ("head", "base"))
    return f"{METRICS[each['metric']].label} of {head} against {base} ({each['mark']})"


def missing_notes(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs that only one of the results has."""
    found = []
    for pair in pairs:
        for side, other in (("base", "head"), ("head", "base")):
            if pair[f"{other}_run"] is None:
                found.append(f"the run {pair[f'{side}_run']} is in {pair[side]} only: nothing to compare")
    return found


def check_headline(check: Mapping[str, Any], worse: Sequence[str] = ()) -> str:
    """How the check ended, in one sentence; and, in another, what is notably worse and fails no gate."""
    gates = check["gates"]
    failed = [each for each in gates if each["fails"]]
    unsure = [each for each in gates if each["verdict"] == "inconclusive" and not each["fails"]]
    warned = [each for each in gates if each["severity"] == "warn" and each["verdict"] == "failed"]
    text = f"{len(failed)} of {len(gates)} gates failed" if failed else f"No gate failed of {len(gates)}"
    extras = [f"{len(unsure)} inconclusive"] if unsure else []
    extras += [count(len(warned), "warning")] if warned else []
    told = f" Worse by more than a tenth: {listed(list(worse))}." if worse else ""
    return ", ".join([text, *extras]) + "." + told


def gate_status(gate: Mapping[str, Any]) -> str:
    """One word for the outcome of a gate."""
    if gate["verdict"] == "failed" and gate["severity"] == "warn":
        return "warning"
    return VERDICTS[gate["verdict"]]


def gate_sentence(gate: Mapping[str, Any]) -> str:
    """What a gate found: the values, the change with its interval, the limit."""
    if gate["reason"]:
        return f"{gate['reason']}."
    unit = gate["unit"]
    values = [gate[name] for name in ("base", "head", "limit")]
    base, head, limit = _told_apart(values, unit)
    if "difference" not in gate:
        text = f"{head}, limit {limit}"
    else:
        text = f"{base} -> {head}, {_change(gate['difference'])}; limit {limit}"
    if gate["verdict"] == "inconclusive":
        text += "; the interval reaches to both sides of the limit"
        text += ", which fails with --strict" if gate["fails"] else ", which passes without --strict"
    return text + "."


def _change(difference: Mapping[str, Any]) -> str:
    unit, base = difference["unit"], difference["base"]
    text = signed_percent(difference["relative"]) if base else f"{signed(difference['absolute'], unit)}"
    if "low" not in difference:
        return f"{text} (no interval is known, so the values decide)"
    ends = [difference["low"], difference["high"]]
    told = [signed_percent(end / abs(base)) if base else signed(end, unit) for end in ends]
    return f"{text} (95%: {told[0]} to {told[1]}, over {difference['interval_over']})"


def _told_apart(values: Sequence[float | None], unit: str) -> list[str]:
    """Values with their unit; in full where rounding would make different ones look the same."""
    texts = [with_unit(value, unit) for value in values]
    if len(set(texts)) == len(set(values)):
        return texts
    return [f"{value:.9g} {unit}" if value is not None else "n/a" for value in values]

"""The figures of the page: tiles and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lbal.analyzers.metrics import METRICS, Group, Measure, Metric, names_in
from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.wording.numbers import mean_load, percent, shown_unit, shown_value
from lbal.analyzers.wording.vocabulary import CAUSES_IN_WORDS
from lbal.cli.reports.page import selection
from lbal.cli.reports.page.markup import escaped, folded, paragraphs, table
from lbal.cli.reports.parts.spread import TITLE, spread_table, spread_title

GROUPS: dict[str, Group] = {
    "Balance and throughput": "balance",
    "Latency and waiting": "latency",
    "Energy": "energy",
}
"""Titles of the tables of metrics, and what is in them."""
SAME = 5e-4
"""A relative difference that is told as none."""


def tiles(result: Result) -> str:
    """The headline figures of the run that idles least, against the reference where there is one."""
    first = selection.reference(result)
    best = selection.by_idle(result.runs)[0]
    known = [name for name in names_in("page_tiles") if name in best.metrics]
    body = "".join(_tile(METRICS[name], best, first) for name in known)
    whose = "" if first is None else paragraphs([_whose(best, first)], "rule")
    return f'<div class="tiles">\n{body}</div>\n{whose}'


def _whose(best: Run, first: Run) -> str:
    if best is first:
        return f"Of {best.label}, which idles least and is the reference."
    return f"Of {best.label}, which idles least, against {first.label}."


def _tile(metric: Metric, run: Run, first: Run | None) -> str:
    value = run.metrics[metric.name]
    unit = shown_unit(metric.unit)
    shown = escaped(shown_value(value.value, metric.unit)) + (" %" if unit == "%" else "")
    told = [metric.label if unit == "%" else f"{metric.label}, {unit}", value.basis]
    if value.low is not None and value.high is not None:
        ends = [shown_value(end, metric.unit) for end in (value.low, value.high)]
        told[1] += f", {' to '.join(ends)}"
    lines = "".join(f"<span>{escaped(line)}</span>" for line in told)
    return f'<div class="tile"><b>{shown}</b>{lines}{_change(metric, value, run, first)}</div>\n'


def _change(metric: Metric, value: Measure, run: Run, first: Run | None) -> str:
    before = None if first is None or run is first else first.metrics.get(metric.name)
    if before is None or not before.value:
        return ""
    change = value.value / before.value - 1
    if abs(change) < SAME:
        return "<span>as the reference</span>"
    better = (change < 0) == (metric.better == "lower")
    sign = "+" if change > 0 else "−"
    word = "better" if better else "worse"
    return f'<span class="{word}">{sign}{percent(abs(change))}, {word}</span>'


def metric_tables(result: Result) -> str:
    """All figures: a column per run while they are few, else a row per run."""
    runs = result.runs
    if len(runs) > selection.MOST_COLUMNS:
        return _run_rows(result)
    parts = [
        _metric_rows(title, runs, [name for name, metric in METRICS.items() if metric.group == group])
        for title, group in GROUPS.items()
    ]
    told = "" if len(runs) == 1 else paragraphs(["◂ marks the best of a row, where one direction is better."], "rule")
    if result.command == "analyze":
        parts += map(_spread_rows, runs)
    elif apart := _metric_rows("", runs, [name for name, metric in METRICS.items() if metric.group == "spread"]):
        parts.append(folded(TITLE, apart))
    return "".join(parts) + told


def _spread_rows(run: Run) -> str:
    """How far apart the ranks of a trace are."""
    columns, rows, text = spread_table(run)
    cells = [[escaped(cell) for cell in row] for row in rows]
    return table(columns, cells, numbers=slice(text, None), caption=spread_title(run)) if rows else ""


def headroom_table(runs: Sequence[Run]) -> str:
    """What was avoidable, and the bounds."""
    if len(runs) > selection.MOST_COLUMNS:
        return ""
    measures = [run.headroom for run in runs]
    bounds = (*names_in("headroom"), *names_in("page_bounds"))
    names = [name for name in bounds if any(name in known for known in measures)]
    return _rows("", [run.label for run in runs], names, measures)


def _metric_rows(title: str, runs: Sequence[Run], names: Sequence[str]) -> str:
    measures = [run.metrics for run in runs]
    known = [name for name in names if any(name in each for each in measures)]
    return _rows(title, [run.label for run in runs], known, measures)


def _rows(title: str, labels: Sequence[str], names: Sequence[str], measures: Sequence[Mapping[str, Measure]]) -> str:
    if not names:
        return ""
    rows = []
    for name in names:
        metric = METRICS[name]
        values = [known.get(name) for known in measures]
        basis = ", ".join(dict.fromkeys(value.basis for value in values if value is not None))
        label = f'<abbr title="{escaped(metric.formula)}">{escaped(_heading(metric))}</abbr>'
        rows.append([label, *_cells(metric, values), escaped(basis)])
    return table(["metric", *labels, "basis"], rows, numbers=slice(1, -1), caption=title)


def _cells(metric: Metric, values: Sequence[Measure | None]) -> list[str]:
    shown = [shown_value(None if value is None else value.value, metric.unit) for value in values]
    best = _best(metric, values)
    cells = []
    for text, value in zip(shown, values, strict=True):
        strong = len(set(shown)) > 1 and text == best
        cell = f"<b>{escaped(text)}</b>" if strong else escaped(text)
        cells.append(cell + _range(metric, value))
    return cells


def _best(metric: Metric, values: Sequence[Measure | None]) -> str | None:
    known = [value.value for value in values if value is not None and value.value == value.value]
    if metric.better == "neither" or len(known) < 2:
        return None
    best = min(known) if metric.better == "lower" else max(known)
    if metric.of_reference is not None and (best < metric.of_reference) == (metric.better == "higher"):
        return None  # the reference, which has no value of its own, is better than all
    return shown_value(best, metric.unit)


def _range(metric: Metric, value: Measure | None) -> str:
    if value is None or value.low is None or value.high is None:
        return ""
    return f"<small>{escaped(' to '.join(shown_value(end, metric.unit) for end in (value.low, value.high)))}</small>"


def _run_rows(result: Result) -> str:
    first = selection.reference(result)
    ordered = selection.by_idle(result.runs)
    names = [name for name in names_in("page_rows") if any(name in run.metrics for run in ordered)]
    columns = ["run", *[_heading(METRICS[name]) for name in names]]
    opened = ordered[: selection.MOST_ROWS]
    if first is not None and first not in opened:
        opened = [*opened[:-1], first]
    told = [f"Ordered by barrier idle; the reference is {first.label}." if first is not None else "Ordered by idle."]
    parts = [paragraphs(told, "rule"), table(columns, _run_cells(opened, names), numbers=slice(1, None))]
    others = [run for run in ordered if not any(run is each for each in opened)]
    if others:
        folded_in = others[: selection.MOST_FOLDED_ROWS]
        summary = f"{len(folded_in):,} more runs"
        if len(folded_in) < len(others):
            summary += f" (of {len(others):,}; the JSON of the result has them all)"
        parts.append(folded(summary, table(columns, _run_cells(folded_in, names), numbers=slice(1, None))))
    return "".join(parts)


def _heading(metric: Metric) -> str:
    unit = shown_unit(metric.unit)
    return metric.label if unit in ("ratio", *metric.label.split()) else f"{metric.label}, {unit}"


def _run_cells(runs: Sequence[Run], names: Sequence[str]) -> Iterator[list[str]]:
    for run in runs:
        values = [(METRICS[name], run.metrics.get(name)) for name in names]
        cells = [
            escaped(shown_value(None if value is None else value.value, metric.unit)) + _range(metric, value)
            for metric, value in values
        ]
        yield [escaped(run.label), *cells]


def rank_table(run: Run, most: int) -> str:
    """The ranks of a run; the first of them where there are many."""
    factors = any("work_factor" in rank for rank in run.ranks)
    columns = ["rank", "idle", "straggler", "no work", "KV tokens, mean", "requests, mean"]
    rows = []
    for rank in run.ranks[:most]:
        cells = [
            str(rank["rank"]),
            *[percent(rank[f"{name}_fraction"]) for name in ("idle", "straggler", "empty")],
            mean_load(rank["kv_tokens_mean"], 0),
            mean_load(rank["num_running_mean"], 1),
        ]
        if factors:
            cells.append(f"{rank['work_factor']:.2f}x" if rank["work_factor"] == rank["work_factor"] else "n/a")
        rows.append(cells)
    return table([*columns, "time for its load"] if factors else columns, rows, numbers=slice(1, None))


def worst_steps(run: Run) -> str:
    """The steps that idle most."""
    columns = ["step", "step ms", "idle", "straggler", "its KV tokens", "mean KV tokens", "requests"]
    rows = [
        [
            f"{step['step']:,}",
            shown_value(step["step_ms"], "ms"),
            percent(step["idle_fraction"]),
            f"rank {step['straggler']}",
            mean_load(step.get("kv_tokens_straggler"), 0),
            mean_load(step.get("kv_tokens_mean"), 0),
            mean_load(step.get("num_running"), 0),
        ]
        for step in run.worst_steps
    ]
    return table(columns, rows, numbers=slice(1, None), caption=f"Worst steps under {run.label}") if rows else ""


def cause_table(runs: Sequence[Run]) -> str:
    """Idle by cause, as shares of rank-time."""
    causes = [cause for cause in CAUSES_IN_WORDS if any(run.attribution.get(cause) for run in runs)]
    rows = [
        [escaped(CAUSES_IN_WORDS[cause]), *[percent(run.attribution.get(cause, 0.0)) for run in runs]]
        for cause in causes
    ]
    return table(["cause", *[run.label for run in runs]], rows, numbers=slice(1, None)) if rows else ""

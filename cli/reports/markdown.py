"""The result as Markdown that GitHub renders: for pull requests, wikis and the summary of a CI step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from lbal.analyzers.metrics import METRICS, names_in
from lbal.analyzers.plain import plain, seen
from lbal.analyzers.result.json_text import json_text
from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.wording.numbers import count, percent, shown_unit, shown_value
from lbal.analyzers.wording.vocabulary import CAUSES_IN_WORDS
from lbal.cli.reports.parts.advice import TITLE, advice_table
from lbal.cli.reports.parts.comparisons import Part, check_parts, comparison_parts
from lbal.cli.reports.parts.spread import spread_table, spread_title
from lbal.cli.reports.table import (
    context_lines,
    demand_table,
    interval_table,
    length_table,
    metric_table,
    rank_table,
    shown_names,
)

MOST_COLUMNS = 8
"""More runs than these are rows instead of columns."""
MOST_ROWS = 100
"""Of more runs than these only the ones that idle least are shown."""
MOST_RANKS = 512
MOST_DETAILED_RUNS = 12
SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$@])")


class MarkdownReport(Report):
    """Headline, tables and findings, with the configuration folded away."""

    name: ClassVar[str] = "markdown"
    suffixes: ClassVar[tuple[str, ...]] = (".md",)
    content: ClassVar[str] = "Markdown for GitHub"

    def render(self, result: Result) -> str:
        """GitHub-flavoured Markdown; text that is not lbal's own is escaped."""
        return "\n".join(line for part in _parts(result) for line in [*part, ""]).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Text that shows as it is written, in a paragraph or in a cell."""
    return SPECIAL.sub(r"\\\1", " ".join(plain(str(text)).split()))


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """A table whose first `left` columns are text."""
    rule = ["---" if index < left else "---:" for index in range(len(columns))]
    cells = [[escaped(cell) for cell in line] for line in (columns, *rows)]
    return [f"| {' | '.join(line)} |" for line in (cells[0], rule, *cells[1:])]


def _parts(result: Result) -> Iterator[list[str]]:
    yield [f"## lbal {result.command}"]
    yield [f"**{escaped(result.headline)}**"]
    yield [f"- {escaped(line)}" for line in context_lines(result)]
    if result.notes:
        yield [f"> **Note:** {escaped(note)}  " for note in result.notes]
    if not result.runs:
        yield from _comparisons(result)
    if result.workload:
        for table in (demand_table(result.workload), length_table(result.workload)):
            yield markdown_table(*table)
        yield from _next("To model its barrier idle:", result.workload["replay_command"])
    if result.calibration:
        yield from _calibration(result.calibration)
    if result.advice:
        yield [f"### {TITLE}"]
        yield markdown_table(*advice_table(result.advice))
        yield [f"- {escaped(line)}" for line in result.advice.get("findings", ())]
    if result.runs:
        yield from _runs(result)
        yield from _comparisons(result)
    command, advice = (result.next.get(name, "") for name in ("command", "advice"))
    yield from _next("To see what other policies would have done:", command, advice)
    if result.config:
        yield [*_folded("Configuration", ["```json", json_text(dict(result.config)).rstrip(), "```"])]


def _next(title: str, command: str = "", advice: str = "") -> Iterator[list[str]]:
    if command:
        command = seen(command)
        fence = "`" * (3 + command.count("`"))
        yield [title, "", f"{fence}sh", command, fence]
    if advice:
        yield [escaped(advice)]


def _comparisons(result: Result) -> Iterator[list[str]]:
    for part in (*check_parts(result), *comparison_parts(result, names_in("comparison"))):
        yield from _part(part)


def _part(part: Part) -> Iterator[list[str]]:
    if part.title:
        yield [f"### {escaped(part.title)}"]
    if part.lines:
        yield [f"- {escaped(line)}" for line in part.lines]
    if part.rows:
        yield markdown_table(part.columns, part.rows, part.left)


def _folded(title: str, lines: Sequence[str]) -> list[str]:
    return ["<details>", f"<summary>{escaped(title)}</summary>", "", *lines, "", "</details>"]


def _runs(result: Result) -> Iterator[list[str]]:
    runs = result.runs
    if len(runs) > MOST_COLUMNS:
        yield from _runs_as_rows(runs)
    else:
        yield markdown_table(*metric_table(runs, shown_names(runs), [run.metrics for run in runs]))
        yield from _intervals(runs)
    if result.headroom.get("findings"):
        yield ["### Headroom", "", *[f"- {escaped(line)}" for line in result.headroom["findings"]]]
        if result.command == "replay" and len(runs) <= MOST_COLUMNS:
            yield markdown_table(*metric_table(runs, names_in("headroom"), [run.headroom for run in runs]))
    for title, section in (("Energy", result.energy), ("Bands", result.bands), ("Fidelity", result.fidelity)):
        if section.get("findings"):
            yield [f"### {title}", "", *[f"- {escaped(line)}" for line in section["findings"]]]
    if result.command == "analyze":
        for run in runs[:MOST_DETAILED_RUNS]:
            yield from _spread(run)
    for run in runs[:MOST_DETAILED_RUNS]:
        yield from _details(run)


def _runs_as_rows(runs: Sequence[Run]) -> Iterator[list[str]]:
    idle = "barrier_idle_fraction"
    order = sorted(runs, key=lambda run: run.metrics[idle].value if idle in run.metrics else float("inf"))
    names = [name for name in names_in("markdown_rows") if any(name in run.metrics for run in runs)]
    columns = ["run", *[f"{METRICS[name].label}, {shown_unit(METRICS[name].unit)}" for name in names]]
    rows = [
        [run.label]
        + [shown_value(run.metrics[name].value if name in run.metrics else None, METRICS[name].unit) for name in names]
        for run in order[:MOST_ROWS]
    ]
    if len(runs) > MOST_ROWS:
        yield [f"The {MOST_ROWS} of {count(len(runs), 'run')} that idle least; JSON and CSV have all of them."]
    yield markdown_table(columns, rows, 1)


def _intervals(runs: Sequence[Run]) -> Iterator[list[str]]:
    """The 95% intervals of the means over seeds; nothing for runs that were not repeated."""
    columns, rows = interval_table(runs, shown_names(runs))
    if rows:
        yield ["### 95% intervals of the means over seeds"]
        yield markdown_table(columns, rows, 2)


def _spread(run: Run) -> Iterator[list[str]]:
    columns, rows, left = spread_table(run)
    if rows:
        yield [f"### {escaped(spread_title(run))}"]
        yield markdown_table(columns, rows, left)


def _details(run: Run) -> Iterator[list[str]]:
    lines: list[str] = []
    if run.attribution:
        total = sum(run.attribution.values()) or 1.0
        rows = [
            [cause, CAUSES_IN_WORDS[cause], percent(share), percent(share / total)]
            for cause, share in run.attribution.items()
        ]
        lines += [*markdown_table(["cause", "meaning", "rank-time", "of the idle"], rows, 2), ""]
    if run.ranks:
        columns, rows, left = rank_table(run)
        lines += [*markdown_table(columns, rows[:MOST_RANKS], left)]
        if len(rows) > MOST_RANKS:
            lines += ["", f"The first {MOST_RANKS} of {count(len(rows), 'rank')}; JSON and CSV have all of them."]
    if lines:
        yield _folded(f"{run.label}: why ranks idle, and which", lines)


def _calibration(found: Mapping[str, Any]) -> Iterator[list[str]]:
    rows = [
        [name, "s", *[f"{interval[end]:.4g}" for end in ("value", "low", "high")]]
        for name, interval in found["coefficients"].items()
    ]
    yield markdown_table(["coefficient", "unit", "value", "95% from", "to"], rows, 2)

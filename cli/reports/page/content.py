"""The sections of the page, in the order in which they are read, and the charts that they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.barrier.thinned import MOST_BUCKETS, MOST_MAP_CELLS
from lbal.analyzers.metrics import METRICS, names_in
from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.wording.numbers import count, power_text
from lbal.cli.reports.page import apart_charts, charts, figures, selection
from lbal.cli.reports.page.charts import Chart
from lbal.cli.reports.page.markup import escaped, facts, folded, paragraphs, section, table
from lbal.cli.reports.parts.advice import TITLE, advice_table

MOST_OPEN_RANKS, MOST_TABLED_RANKS = 16, 128
PANEL, SINGLE = 130, 240
"""Heights of a chart among several, and of one alone."""


class Content:
    """Sections and charts of a result that has runs."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.first = selection.reference(result)
        self.charts: list[Chart] = []
        able = [run for run in result.runs if run.drawn is not None]
        self.drawn = selection.leading(able, self.first, selection.MOST_DRAWN)

    def sections(self) -> list[tuple[str, str, str]]:
        """(anchor, title, section) of each that has content."""
        made = [
            ("advice", TITLE, self._advice()),
            ("counterfactual", "What other placement or policy could change", self._counterfactual()),
            ("policies", "Policies side by side", self._side_by_side()),
            ("figures", "All figures", figures.metric_tables(self.result)),
            ("idle", "Idle over time", self._idle()),
            ("apart", "How far ranks are apart", self._apart()),
            ("loads", "Load of each rank, step by step", self._loads()),
            ("distribution", "How much single steps idle", self._distribution()),
            ("causes", "Why ranks wait", self._causes()),
            ("stragglers", "Whom the others wait for", self._stragglers()),
            ("energy", "Energy, and what it assumes", self._energy()),
            ("models", "How far to trust this", self._trust()),
            ("configuration", "Configuration", self._configuration()),
        ]
        return [(anchor, title, section(anchor, title, body)) for anchor, title, body in made if body]

    def _place(self, chart: Chart, heading: str = "") -> str:
        self.charts.append(chart)
        title = f"<h3>{escaped(heading)}</h3>" if heading else ""
        place = f'<div class="chart" id="{chart.anchor}" role="img" aria-label="{escaped(chart.title)}"></div>'
        return f"<div>{title}{place}</div>\n"

    def _advice(self) -> str:
        advice = self.result.advice
        if not advice:
            return ""
        columns, rows, left = advice_table(advice)
        cells = [[escaped(cell) for cell in row] for row in rows]
        return table(columns, cells, numbers=slice(left, None)) + paragraphs(advice.get("findings", ()), "rule")

    def _counterfactual(self) -> str:
        headroom = self.result.headroom
        return paragraphs(headroom.get("findings", ())) + figures.headroom_table(self.result.runs) if headroom else ""

    def _side_by_side(self) -> str:
        runs = selection.leading(self.result.runs, self.first, selection.MOST_COMPARED)
        banded = any(value.low is not None for run in runs for value in run.metrics.values())
        if len(runs) < 2:
            return ""
        known = [name for name in names_in("page_tiles") if any(name in run.metrics for run in runs)]
        placed = "".join(
            self._place(charts.side_by_side(f"side-{name}", name, runs), METRICS[name].label) for name in known
        )
        bars = "Bars behind the points are the range over what is known of coefficients and power. " if banded else ""
        told = bars + selection.left_out(runs, self.result.runs, "Points")
        return paragraphs(filter(None, [told.strip()]), "rule") + f'<div class="pair">{placed}</div>'

    def _idle(self) -> str:
        if not self.drawn:
            return ""
        top = _rounded_up(max(float(run.drawn.idle_fraction_max.max()) for run in self.drawn if run.drawn))
        height = SINGLE if len(self.drawn) == 1 else PANEL
        placed = "".join(
            self._place(
                charts.idle_over_time(f"idle-{index}", run, self._span(), top, height),
                run.label if len(self.drawn) > 1 else "",
            )
            for index, run in enumerate(self.drawn)
        )
        rule = _series_rule(self.drawn)
        how = "Drag to move, Shift + wheel to zoom, double-click to see all; charts over steps move together."
        told = [rule, selection.left_out(self.drawn, self.result.runs, "Charts")]
        return paragraphs(filter(None, told), "rule") + paragraphs([how], "rule screen") + placed

    def _apart(self) -> str:
        runs = [run for run in self.result.runs if run.apart is not None and run.apart.loads]
        placed = []
        for index, run in enumerate(runs):
            assert run.apart is not None
            of_run = run.label if len(runs) > 1 else ""
            placed.append(self._place(apart_charts.over_mean(f"apart-{index}", run), of_run))
            spans = [
                self._place(apart_charts.span(f"span-{load}-{index}", run, load), apart_charts.WORDS[load])
                for load in run.apart.loads
            ]
            placed.append(f'<div class="pair">{"".join(spans)}</div>')
        if not placed:
            return ""
        widths = [run.apart.steps_per_bucket for run in runs if run.apart is not None]
        told = [
            "Above, the largest load of a rank over the mean one: 1 is even, G is one of G ranks with all load.",
            "Below, the span from the rank that holds least to the one that holds most, with the mean.",
            "Every step is drawn."
            if max(widths) == 1
            else f"At most {MOST_BUCKETS:,} points: each the mean of {_spread(widths)}.",
        ]
        return paragraphs([" ".join(told)], "rule") + "".join(placed)

    def _loads(self) -> str:
        mapped = [run for run in self.drawn if run.drawn is not None and run.drawn.loads is not None]
        maps = [run.drawn.loads for run in mapped if run.drawn is not None and run.drawn.loads is not None]
        if not maps:
            return ""
        top = max(max(float(each.kv_tokens.max()) for each in maps), 1.0)
        placed = "".join(
            self._place(charts.load_map(f"loads-{index}", run, self._span(), top), run.label if len(mapped) > 1 else "")
            for index, run in enumerate(mapped)
        )
        told = [
            "Even colour from top to bottom is balance; a bright row is a rank that the others wait for.",
            f"At most {MOST_MAP_CELLS:,} cells: each is the mean of "
            f"{_spread([each.steps_per_bucket for each in maps])}"
            + (
                f", and of {maps[0].ranks_per_row} neighbouring ranks the largest in each step."
                if maps[0].ranks_per_row > 1
                else "."
            ),
        ]
        return paragraphs(told, "rule") + placed

    def _span(self) -> tuple[int, int]:
        spans = [(int(run.drawn.first_step[0]), int(run.drawn.last_step[-1])) for run in self.drawn if run.drawn]
        return min(first for first, _last in spans), max(last for _first, last in spans)

    def _distribution(self) -> str:
        if not self.drawn:
            return ""
        told = "Over all steps; nothing is thinned here."
        if len(self.drawn) > 1:
            told += " A click on a name in the legend shows it alone."
        return paragraphs([told], "rule") + self._place(charts.idle_distribution("distribution-chart", self.drawn))

    def _causes(self) -> str:
        runs = selection.leading(self.result.runs, self.first, selection.MOST_COMPARED)
        if not any(any(run.attribution.values()) for run in runs):
            return ""
        told = ["Shares of rank-time, which add up to the barrier idle. A negative part makes up for others."]
        told.append(selection.left_out(runs, self.result.runs, "Bars"))
        tabled = figures.cause_table(runs) if len(runs) <= selection.MOST_COLUMNS else ""
        return paragraphs(filter(None, told), "rule") + self._place(charts.idle_by_cause("cause-chart", runs)) + tabled

    def _stragglers(self) -> str:
        runs = [run for run in (self.drawn or self.result.runs[: selection.MOST_DRAWN]) if run.ranks]
        if not runs:
            return ""
        top = _rounded_up(max(rank["straggler_fraction"] for run in runs for rank in run.ranks))
        height = SINGLE if len(runs) == 1 else PANEL
        placed = "".join(
            self._place(
                charts.straggler_frequency(f"straggler-{index}", run, top, height), run.label if len(runs) > 1 else ""
            )
            for index, run in enumerate(runs)
        )
        told = ["Share of steps in which a rank takes longest; the dashed line is where all would be equal."]
        if len(runs[0].ranks) > charts.MOST_RANK_BARS:
            told.append(f"Of {len(runs[0].ranks):,} ranks, the {charts.MOST_RANK_BARS} that are it most often.")
        return paragraphs(told, "rule") + f'<div class="pair">{placed}</div>' + "".join(map(self._rank_details, runs))

    def _rank_details(self, run: Run) -> str:
        tables = figures.rank_table(run, MOST_TABLED_RANKS) + figures.worst_steps(run)
        cut = len(run.ranks) > MOST_TABLED_RANKS
        told = f"the first {MOST_TABLED_RANKS} of {count(len(run.ranks), 'rank')}" if cut else "ranks"
        if len(self.result.runs) == 1 and len(run.ranks) <= MOST_OPEN_RANKS:
            return tables
        name = f" under {run.label}" if len(self.result.runs) > 1 else ""
        return folded(f"Table of {told}{name}, and the worst steps", tables)

    def _energy(self) -> str:
        power = self.result.config.get("power_model")
        if not power:
            return ""
        told = [*self.result.energy.get("findings", ())]
        told.append(f"Power model: {power_text(power)}.")
        told.append("Hardly anybody has measured what a waiting accelerator draws: look at the figures at both ends.")
        return paragraphs(told) + folded("The power model in full", facts(power))

    def _trust(self) -> str:
        return paragraphs(self.result.bands.get("findings", ())) + paragraphs(self.result.fidelity.get("findings", ()))

    def _configuration(self) -> str:
        runs = {run.label: dict(run.parameters) | dict(run.details) for run in self.result.runs[: selection.MOST_ROWS]}
        per_run = facts(runs)
        parts = [facts(self.result.config)]
        if per_run:
            told = "of each run" if len(runs) == len(self.result.runs) else f"of the first {len(runs)} runs"
            parts.append(folded(f"Parameters and signals {told}", per_run))
        for record in self.result.inputs:
            parts.append(facts(_input(record)))
        return "".join(parts)


def _input(record: Mapping[str, Any]) -> dict[str, Any]:
    return {f"input {name}": value for name, value in record.items() if value not in (None, [], {})}


def _series_rule(runs: Sequence[Run]) -> str:
    widths = [run.drawn.steps_per_bucket for run in runs if run.drawn is not None]
    if max(widths) == 1:
        return "Every step is drawn."
    return (
        f"At most {MOST_BUCKETS:,} points: each is {_spread(widths)}, dark their time-weighted mean, "
        "light behind it the worst single step."
    )


def _spread(widths: Sequence[int]) -> str:
    low, high = min(widths), max(widths)
    return count(low, "step") if low == high else f"{low:,} to {high:,} steps"


def _rounded_up(value: float) -> float:
    """The next of 0.1%, 0.2%, 0.5%, 1% … that holds the value."""
    steps = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    return next((step for step in steps if value <= step), 1.0)

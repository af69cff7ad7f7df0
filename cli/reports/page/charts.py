"""The charts of the page, as Vega-Lite by Altair, and the data that they draw.

Data travels in columns and is made into rows in the browser. Colours of vector charts are the style sheet's
variables, so that light, dark and paper need no second drawing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lbal.analyzers.barrier.account_pass import CAUSES
from lbal.analyzers.barrier.thinned import IDLE_BINS
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import shown_unit
from lbal.analyzers.wording.vocabulary import CAUSES_IN_WORDS

ROWS = "rows"
MOST_RANK_BARS = 128
MOST_BINS = 40
STEP_TICKS = 8
SERIES_COLOURS = [f"var(--series-{number})" for number in range(1, 7)]
MAP_TEXT = "#7b8088"
"""Readable on light and dark: a map is drawn once, on a canvas, which no style sheet reaches."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Chart:
    """A chart and its data."""

    anchor: str
    title: str
    """What is drawn, for people who cannot see it."""
    spec: Mapping[str, Any]
    columns: Mapping[str, Sequence[Any]]
    """Equally long lists; or, of a map, what `page.js` makes cells of."""
    renderer: str = "svg"

    def as_dict(self) -> dict[str, Any]:
        """For the page."""
        return {"id": self.anchor, "spec": self.spec, "columns": self.columns, "renderer": self.renderer}


def config() -> dict[str, Any]:
    """What all charts share."""
    text = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": 500}
    colours = {"labelColor": "var(--muted)", "titleColor": "var(--muted)"}
    lines = {"gridColor": "var(--grid)", "domainColor": "var(--line)", "tickColor": "var(--line)"}
    return {
        "background": "transparent",
        "view": {"stroke": None},
        "axis": {**text, **colours, **lines},
        "legend": {**text, **colours, "orient": "top", "symbolType": "square", "labelLimit": 220},
        "range": {"category": SERIES_COLOURS},
    }


def idle_over_time(anchor: str, run: Run, steps: tuple[int, int], top: float, height: int) -> Chart:
    """Barrier idle of a run by step: the mean of each bucket, and its largest step behind."""
    import altair as alt

    series = run.drawn
    assert series is not None
    columns = {
        "first": series.first_step.tolist(),
        "last": series.last_step.tolist(),
        "end": (series.last_step + 1).tolist(),
        "mean": rounded(series.idle_fraction),
        "max": rounded(series.idle_fraction_max),
        "ratio": rounded(series.imbalance_ratio, 3),
    }

    def y(name: str) -> alt.Y:
        axis = alt.Axis(format=".2~%", tickCount=4)
        return alt.Y(f"{name}:Q", title="idle", scale=alt.Scale(domain=[0, top]), axis=axis)

    base = alt.Chart(alt.NamedData(ROWS)).encode(x=step_axis(alt, steps))
    hover = alt.selection_point(name="hover", on="pointerover", clear="pointerout", fields=["first"], empty=False)
    told = [
        alt.Tooltip("first:Q", title="step", format=","),
        alt.Tooltip("last:Q", title="to", format=","),
        alt.Tooltip("mean:Q", title="idle", format=".2%"),
        alt.Tooltip("max:Q", title="worst step", format=".2%"),
        alt.Tooltip("ratio:Q", title="largest / mean load", format=".3f"),
    ]
    layers = [
        base.mark_area(interpolate="step-after", color="var(--idle-max)").encode(y=y("max")),
        base.mark_area(interpolate="step-after", color="var(--idle)").encode(y=y("mean")),
        base.mark_rect(color="var(--ink)")
        .encode(
            x2="end:Q",
            tooltip=told,
            fillOpacity=alt.condition(hover, alt.value(0.25), alt.value(0.0)),
        )
        .add_params(hover, zoom(alt)),
    ]
    if series.steps_per_bucket == 1:
        layers = layers[1:]
    return Chart(anchor, f"Barrier idle by step under {run.label}", sized(alt.layer(*layers), height), columns)


def load_map(anchor: str, run: Run, steps: tuple[int, int], top: float) -> Chart:
    """KV tokens by step and rank."""
    import altair as alt

    assert run.drawn is not None
    loads = run.drawn.loads
    assert loads is not None
    unit = 10.0 ** max(math.ceil(math.log10(max(top, 1.0))) - 4, 0)
    names = [_row_name(row, loads.ranks_per_row, loads.dp_size) for row in range(loads.kv_tokens.shape[1])]
    columns = {
        "first": loads.first_step.tolist(),
        "last": loads.last_step.tolist(),
        "ranks": names,
        "unit": unit,
        "cells": np.round(loads.kv_tokens / unit).astype(np.int64).ravel().tolist(),
    }
    grey = dict.fromkeys(("labelColor", "titleColor", "tickColor"), MAP_TEXT)
    own: dict[str, Any] = {**grey, "domain": False, "grid": False}
    every = max(len(names) // 16, 1)
    shown = [name for row, name in enumerate(names) if row % every == 0]
    scale = alt.Scale(scheme="viridis", domain=[0, top])
    legend = alt.Legend(
        labelExpr="format(datum.value, '.2~s')", gradientLength=180, labelColor=MAP_TEXT, titleColor=MAP_TEXT
    )
    chart = (
        alt.Chart(alt.NamedData(ROWS))
        .mark_rect(clip=True)
        .encode(
            x=step_axis(alt, steps, **own),
            x2="end:Q",
            y=alt.Y("rank:N", title="rank", sort=None, axis=alt.Axis(values=shown, **own)),
            color=alt.Color("load:Q", title="KV tokens", scale=scale, legend=legend),
            tooltip=[
                alt.Tooltip("rank:N"),
                alt.Tooltip("first:Q", title="step", format=","),
                alt.Tooltip("last:Q", title="to", format=","),
                alt.Tooltip("load:Q", title="KV tokens", format=",.0f"),
                alt.Tooltip("ratio:Q", title="of the mean rank", format=".2f"),
            ],
        )
        .add_params(zoom(alt))
    )
    height = min(max(320 // len(names), 5), 12) * len(names)  # whole pixels each: no seams between rows
    return Chart(anchor, f"KV tokens by step and rank under {run.label}", sized(chart, height), columns, "canvas")


def idle_distribution(anchor: str, runs: Sequence[Run]) -> Chart:
    """Share of steps by their barrier idle, in bins that fit all runs."""
    import altair as alt

    counts = [run.drawn.idle_bins for run in runs if run.drawn is not None]
    used = max(int(np.flatnonzero(bins)[-1]) + 1 for bins in counts)
    width = next(width for width in (1, 2, 5, 10, 20, 50) if used <= width * MOST_BINS)
    bins = -(-used // width)
    columns: dict[str, list[Any]] = {"run": [], "low": [], "high": [], "share": []}
    for run, every in zip(runs, counts, strict=True):
        padded = np.append(every, np.zeros(width, np.int64))[: bins * width]
        shares = padded.reshape(bins, width).sum(axis=1) / every.sum()
        for index, share in enumerate([*shares, 0.0]):  # one more, so that the last step of the line is drawn
            low = index * width / IDLE_BINS
            row = {"run": run.label, "low": low, "high": low + width / IDLE_BINS, "share": rounded([share])[0]}
            for name, value in row.items():
                columns[name].append(value)
    y = alt.Y("share:Q", title="share of steps", axis=alt.Axis(format="%", tickCount=5))
    told = [
        alt.Tooltip("run:N", title="run"),
        alt.Tooltip("low:Q", title="idle from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
        alt.Tooltip("share:Q", title="of the steps", format=".2%"),
    ]
    x = alt.X(
        "low:Q",
        title="barrier idle of the step",
        axis=alt.Axis(format=".2~%", tickCount=8),
        scale=alt.Scale(nice=False),
    )
    base = alt.Chart(alt.NamedData(ROWS)).encode(x=x)
    title = "Distribution of idle over steps"
    if len(runs) == 1:
        bars = base.mark_rect(color="var(--idle)", stroke="var(--paper)", strokeWidth=1)
        return Chart(anchor, title, sized(bars.encode(x2="high:Q", y=y, y2=alt.datum(0), tooltip=told), 240), columns)
    pick = alt.selection_point(name="pick", fields=["run"], bind="legend")
    colour = alt.Color("run:N", title=None, sort=None)
    opacity = alt.condition(pick, alt.value(1.0), alt.value(0.12))
    line = base.mark_line(interpolate="step-after", strokeWidth=2).encode(y=y, color=colour, opacity=opacity)
    points = base.mark_point(filled=True, size=160, opacity=0).encode(y=y, color=colour, tooltip=told)
    return Chart(anchor, title, sized(alt.layer(line.add_params(pick), points), 260), columns)


def _mean_load(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits or None)


def straggler_frequency(anchor: str, run: Run, top: float, height: int) -> Chart:
    """How often each rank is the one that the others wait for; a line where all would be equal."""
    import altair as alt

    ranks = shown_ranks(run)
    columns: dict[str, list[Any]] = {
        "rank": [str(rank["rank"]) for rank in ranks],
        "straggler": [_share(rank["straggler_fraction"]) for rank in ranks],
        "idle": [_share(rank["idle_fraction"]) for rank in ranks],
        "tokens": [_mean_load(rank["kv_tokens_mean"], 0) for rank in ranks],
        "running": [_mean_load(rank["num_running_mean"], 2) for rank in ranks],
    }
    every = max(len(ranks) // 16, 1)
    axis, shares = alt.Axis(labelAngle=0, values=columns["rank"][::every]), alt.Axis(format=".2~%", tickCount=4)
    bars = (
        alt.Chart(alt.NamedData(ROWS))
        .mark_bar(color="var(--work)")
        .encode(
            x=alt.X("rank:N", sort=None, title="rank", axis=axis),
            y=alt.Y("straggler:Q", title="of steps", scale=alt.Scale(domain=[0, top]), axis=shares),
            tooltip=[
                alt.Tooltip("rank:N"),
                alt.Tooltip("straggler:Q", title="straggler in", format=".2%"),
                alt.Tooltip("idle:Q", title="idle", format=".2%"),
                alt.Tooltip("tokens:Q", title="KV tokens, mean", format=","),
                alt.Tooltip("running:Q", title="requests, mean", format=",.1f"),
            ],
        )
    )
    even = (
        alt.Chart(alt.InlineData([{}]))
        .mark_rule(strokeDash=[4, 3], color="var(--ink)")
        .encode(y=alt.datum(1 / len(run.ranks)))
    )
    return Chart(
        anchor, f"Straggler frequency by rank under {run.label}", sized(alt.layer(bars, even), height), columns
    )


def shown_ranks(run: Run) -> list[Mapping[str, Any]]:
    """All ranks, or those that are the straggler most often, in the order of their numbers."""
    often = sorted(run.ranks, key=lambda rank: -rank["straggler_fraction"])[:MOST_RANK_BARS]
    return sorted(often, key=lambda rank: rank["rank"])


def idle_by_cause(anchor: str, runs: Sequence[Run]) -> Chart:
    """Where the idle comes from, one bar per run. Parts can be negative: they are drawn to the left."""
    import altair as alt

    columns: dict[str, list[Any]] = {"run": [], "cause": [], "place": [], "share": []}
    causes = [cause for cause in CAUSES if any(run.attribution.get(cause) for run in runs)]
    for run in runs:
        for cause in causes:
            columns["run"].append(run.label)
            columns["cause"].append(CAUSES_IN_WORDS[cause])
            columns["place"].append(causes.index(cause))
            columns["share"].append(_share(run.attribution.get(cause, 0.0)))
    chart = (
        alt.Chart(alt.NamedData(ROWS))
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="share of rank-time", axis=alt.Axis(format=".2~%", tickCount=6)),
            y=_run_axis(alt),
            color=alt.Color("cause:N", title=None, sort=None),
            order=alt.Order("place:Q"),
            tooltip=[
                alt.Tooltip("run:N", title="run"),
                alt.Tooltip("cause:N"),
                alt.Tooltip("share:Q", title="of rank-time", format=".3%"),
            ],
        )
    )
    return Chart(anchor, "Idle by cause", sized(chart, _height_of(runs)), columns)


def side_by_side(anchor: str, name: str, runs: Sequence[Run]) -> Chart:
    """A metric of every run as a point, with its range where that is known."""
    import altair as alt

    metric = METRICS[name]
    known = [(run, run.metrics[name]) for run in runs if name in run.metrics and math.isfinite(run.metrics[name].value)]
    columns: dict[str, list[Any]] = {
        "run": [run.label for run, _value in known],
        "value": [value.value for _run, value in known],
        "low": [value.value if value.low is None else value.low for _run, value in known],
        "high": [value.value if value.high is None else value.high for _run, value in known],
    }
    number = ".3~%" if metric.unit == "fraction" else ".4~s"
    unit = shown_unit(metric.unit)
    arrow = {"lower": "lower is better", "higher": "higher is better", "neither": ""}[metric.better]
    title = " · ".join(filter(None, ["" if unit == "%" else unit, arrow]))
    axis = alt.Axis(format=".2~%" if metric.unit == "fraction" else "~s", tickCount=4)
    base = alt.Chart(alt.NamedData(ROWS)).encode(
        y=_run_axis(alt),
        tooltip=[
            alt.Tooltip("run:N", title="run"),
            alt.Tooltip("value:Q", title=metric.label, format=number),
            alt.Tooltip("low:Q", format=number),
            alt.Tooltip("high:Q", format=number),
        ],
    )

    def x(name: str) -> alt.X:
        return alt.X(f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True, padding=8), axis=axis)

    band = base.mark_rule(strokeWidth=5, strokeCap="round", color="var(--band)").encode(x=x("low"), x2="high:Q")
    point = base.mark_point(filled=True, size=90, opacity=1, color="var(--work)").encode(x=x("value"))
    return Chart(anchor, metric.label, sized(alt.layer(band, point), _height_of(runs)), columns)


def _height_of(runs: Sequence[Run]) -> int:
    return 24 * len(runs) + 4


def _run_axis(alt: Any) -> Any:
    return alt.Y("run:N", title=None, sort=None, axis=alt.Axis(labelLimit=150, domain=False, ticks=False))


def step_axis(alt: Any, steps: tuple[int, int], **look: Any) -> Any:
    """The axis of steps, from the first to the end of the last."""
    first, last = steps
    if last - first < STEP_TICKS:
        look["values"] = list(range(first, last + 2))  # no ticks between steps
    labels = {"labelFlush": True, "labelOverlap": "greedy", "labelSeparation": 10}
    axis = alt.Axis(format=",d", tickCount=STEP_TICKS, **labels, **look)
    return alt.X("first:Q", title="step", scale=alt.Scale(domain=[first, last + 1], nice=False), axis=axis)


def zoom(alt: Any) -> Any:
    """Drag moves and Shift + wheel zooms; the wheel alone scrolls the page."""
    return alt.selection_interval(name="zoom", bind="scales", encodings=["x"], zoom="wheel![event.shiftKey]")


def sized(chart: Any, height: int) -> dict[str, Any]:
    """The specification of a chart as wide as its place, without what the page holds once for all."""
    record: dict[str, Any] = chart.properties(width="container", height=height).to_dict()
    for name in ("config", "$schema"):
        record.pop(name, None)
    record["autosize"] = {"type": "fit-x", "contains": "padding"}
    return record


def _row_name(row: int, ranks_per_row: int, dp_size: int) -> str:
    first = row * ranks_per_row
    last = min(first + ranks_per_row, dp_size) - 1
    return str(first) if first == last else f"{first}-{last}"


def rounded(values: Any, digits: int = 5) -> list[float | None]:
    """Values as the page holds them; null for those that are none."""
    return [round(value, digits) if math.isfinite(value) else None for value in np.asarray(values, float).tolist()]


def _share(value: float) -> float:
    return round(value, 6)

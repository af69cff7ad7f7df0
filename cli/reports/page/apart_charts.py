"""Charts of how far ranks are apart over the steps: the busiest against the mean, and the span from most to least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.barrier.apart import Apart, LoadApart
from lbal.analyzers.barrier.known_part import Load
from lbal.analyzers.result.result import Run
from lbal.cli.reports.page.charts import ROWS, Chart, rounded, sized, step_axis, zoom

WORDS: Mapping[Load, str] = {"num_running": "running requests", "kv_tokens": "KV tokens"}
RATIO_HEIGHT, SPAN_HEIGHT = 200, 160


def over_mean(anchor: str, run: Run) -> Chart:
    """max/mean of each known load by step: 1 is even."""
    import altair as alt

    apart = run.apart
    assert apart is not None
    columns: dict[str, list[Any]] = {"load": [], "first": [], "last": [], "ratio": []}
    for load, found in apart.loads.items():
        steps = _steps(apart)
        columns["load"] += [WORDS[load]] * len(steps["first"])
        columns["first"] += steps["first"]
        columns["last"] += steps["last"]
        columns["ratio"] += _closed(rounded(found.over_mean, 3))
    y = alt.Y("ratio:Q", title="max / mean", scale=alt.Scale(domainMin=1, nice=True), axis=alt.Axis(tickCount=5))
    colour = alt.Color("load:N", title=None, sort=None)
    base = alt.Chart(alt.NamedData(ROWS)).encode(x=step_axis(alt, _span(apart)), y=y, color=colour)
    told = [
        alt.Tooltip("load:N"),
        alt.Tooltip("first:Q", title="step", format=","),
        alt.Tooltip("last:Q", title="to", format=","),
        alt.Tooltip("ratio:Q", title="max / mean", format=".3f"),
    ]
    line = base.mark_line(interpolate="step-after", strokeWidth=1.5).add_params(zoom(alt))
    points = base.mark_point(filled=True, size=120, opacity=0).encode(tooltip=told)
    return Chart(
        anchor, "Largest over mean load of a rank, by step", sized(alt.layer(line, points), RATIO_HEIGHT), columns
    )


def span(anchor: str, run: Run, load: Load) -> Chart:
    """The largest, the mean and the smallest load of a rank by step."""
    import altair as alt

    apart = run.apart
    assert apart is not None
    found = apart.loads[load]
    axis = alt.Axis(format="~s", tickCount=4)

    def y(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", title=WORDS[load], scale=alt.Scale(zero=True), axis=axis)

    base = alt.Chart(alt.NamedData(ROWS)).encode(x=step_axis(alt, _span(apart)))
    told = [
        alt.Tooltip("first:Q", title="step", format=","),
        alt.Tooltip("last:Q", title="to", format=","),
        *[alt.Tooltip(f"{name}:Q", title=f"{name} rank", format=",.1f") for name in ("largest", "smallest")],
        alt.Tooltip("mean:Q", format=",.1f"),
    ]
    band = base.mark_area(interpolate="step-after", color="var(--band)").encode(y=y("largest"), y2="smallest:Q")
    mean = base.mark_line(interpolate="step-after", color="var(--work)", strokeWidth=1.5).encode(y=y("mean"))
    points = base.mark_point(filled=True, size=120, opacity=0).encode(y=y("mean"), tooltip=told)
    chart = alt.layer(band, mean.add_params(zoom(alt)), points)
    title = f"Largest, mean and smallest number of {WORDS[load]} of a rank, by step"
    return Chart(anchor, title, sized(chart, SPAN_HEIGHT), _columns(apart, found))


def _columns(apart: Apart, found: LoadApart) -> dict[str, Sequence[Any]]:
    loads = {name: _closed(rounded(getattr(found, name), 2)) for name in ("largest", "mean", "smallest")}
    return {**_steps(apart), **loads}


def _steps(apart: Apart) -> dict[str, list[int]]:
    """First and last steps of the buckets, and one more bucket, so that the last is drawn to its end."""
    first, last = apart.first_step.tolist(), apart.last_step.tolist()
    return {"first": [*first, last[-1] + 1], "last": [*last, last[-1] + 1]}


def _closed(values: list[float | None]) -> list[float | None]:
    return [*values, values[-1]]


def _span(apart: Apart) -> tuple[int, int]:
    return int(apart.first_step[0]), int(apart.last_step[-1])

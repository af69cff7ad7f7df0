"""The result as tables on a terminal or in a pipe. Numbers are never cut: what does not fit goes below."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lbal.analyzers.metrics import METRICS, Measure, names_in
from lbal.analyzers.plain import plain_values
from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result, Run
from lbal.analyzers.wording.numbers import (
    UNITS_OF_COEFFICIENTS,
    bands_text,
    coefficient,
    coefficient_text,
    count,
    mean_load,
    percent,
    power_text,
    shown_unit,
    shown_value,
)
from lbal.analyzers.wording.vocabulary import CAUSES_IN_WORDS
from lbal.cli.reports.parts.advice import TITLE, advice_table
from lbal.cli.reports.parts.bars import drawings
from lbal.cli.reports.parts.comparisons import GATE_COLUMNS, check_parts, comparison_parts
from lbal.cli.reports.parts.fitting import fitted
from lbal.cli.reports.parts.spread import spread_table, spread_title

PIPE_WIDTH = 10_000


class Command(Text):
    """A line to copy: it is never broken."""


class TableReport(Report):
    """What a person reads first: the headline, then tables."""

    name: ClassVar[str] = "table"
    suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    content: ClassVar[str] = "the tables as printed"

    def render(self, result: Result) -> str:
        """Plain text without a limit of width."""
        return self.render_for(result, PIPE_WIDTH, terminal=False)

    def render_for_stdout(self, result: Result) -> str:
        """For the terminal, as wide as it is and with emphasis; plain in a pipe, as wide as needed."""
        terminal = sys.stdout is not None and sys.stdout.isatty()
        asked = os.environ.get("COLUMNS", "")
        width = shutil.get_terminal_size().columns if terminal else int(asked) if asked.isdigit() else PIPE_WIDTH
        return self.render_for(result, max(width, 40), terminal=terminal)

    def render_for(self, result: Result, width: int, *, terminal: bool) -> str:
        """Text that fits into `width` columns, as far as single columns of numbers do."""
        buffer = io.StringIO()
        console = Console(file=buffer, width=width, force_terminal=terminal, highlight=False)
        # A console makes no table wider than itself, and cuts what then does not fit: tables have one of their own.
        wide = Console(file=buffer, width=PIPE_WIDTH, force_terminal=terminal, highlight=False)
        for part in _parts(plain_values(result), width, terminal=terminal):
            if isinstance(part, Table):
                wide.print(part, crop=False, no_wrap=True, overflow="ignore")
            else:
                console.print(part, soft_wrap=isinstance(part, Command))
        return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _proof(solver: Mapping[str, Any]) -> str:
    gap = solver["gap_sum"] / solver["objective_sum"] if solver["objective_sum"] else 0.0
    share = percent(solver["proven_optimal_fraction"])
    return f"{share} of {count(solver['decisions'], 'decision')} proven optimal, sum of gaps {percent(gap)} of J"


def _parts(result: Result, width: int, *, terminal: bool) -> Iterator[RenderableType]:
    yield Text(result.headline, style="bold")
    yield ""
    for line in context_lines(result):
        yield Text(line)
    yield ""
    if result.workload:
        yield from fitted(*demand_table(result.workload), width)
        yield ""
        yield from fitted(*length_table(result.workload), width)
        yield from _next("To model its barrier idle:", result.workload["replay_command"])
        return
    if not result.runs and (result.comparison or result.check):
        yield from _comparison(result, width)
        return
    if result.calibration:
        yield from _calibration(result.calibration, width)
        return
    yield from _advice(result, width)
    measures = [run.metrics for run in result.runs]
    yield from fitted(*metric_table(result.runs, shown_names(result.runs), measures), width)
    yield from _ranges(result, width)
    yield from _repeats(result, width)
    yield from _headroom(result, width)
    yield from _findings("Energy", result.energy)
    yield from _findings("Bands: the same loads under the ends of all bands", result.bands)
    yield from _findings("Fidelity: modelled against measured", result.fidelity)
    if result.command == "analyze":
        for run in result.runs:
            if terminal:
                yield from drawings(run, width)
            yield from _details(run, width)
        command, advice = (result.next.get(name, "") for name in ("command", "advice"))
        yield from _next("To see what other policies would have done:", command, advice)


def _next(title: str, command: str = "", advice: str = "") -> Iterator[RenderableType]:
    """What to type next, or what that would need."""
    if command:
        yield Text(f"\n{title}", style="bold")
        yield Command(command)
    if advice:
        yield Text(f"\n{advice}")


def _comparison(result: Result, width: int) -> Iterator[RenderableType]:
    for index, part in enumerate([*comparison_parts(result, names_in("comparison")), *check_parts(result)]):
        if index:
            yield ""
        if part.title:
            yield Text(part.title, style="bold")
        yield from map(Text, part.lines)
        if not part.rows:
            continue
        if part.columns == GATE_COLUMNS:
            yield from (Text(f"{row[0]:<13}{row[1]} ({row[2]}): {row[3]}") for row in part.rows)
        else:
            yield ""
            yield from fitted(part.columns, part.rows, 1, width, part.left)


def context_lines(result: Result) -> Iterator[str]:
    """What was read and under which conditions, a line each."""
    for item in result.inputs:
        if "traces" in item:
            name = " ".join(item["name"].split())  # a line of its own could be taken for a workflow command in CI
            yield f"result      {name} · {item['command']} · {count(len(item['runs']), 'run')}"
            continue
        sizes = [count(item[key], key.removesuffix("s")) for key in ("requests", "steps") if item.get(key)]
        yield "trace       " + " · ".join([item["name"], item["format"], *sizes])
    config = result.config
    if result.command in ("replay", "advise"):
        slots = f"{count(config['dp_size'], 'rank')} x {count(config['max_num_seqs'], 'slot')}"
        arrivals = _arrivals(config)
        bindings = dict.fromkeys(str(run.details["binding"]) for run in result.runs)
        parts = [slots, f"arrivals: {arrivals}", f"binding: {', '.join(bindings)}", f"seed {config['seed']}"]
        if config["kv_capacity"]:
            parts.append(f"{config['kv_capacity']:,} KV tokens per rank")
        if config["drift"] != "1":
            parts.append(f"drift {config['drift']}")
        yield "cluster     " + " · ".join(parts)
        if "prefill" in config:
            yield f"prefill     {_prefill(config['prefill'])}"
        yield f"signals     {_signal_ages(result.runs)}"
        knowing = [run.label for run in result.runs if run.details["uses_true_lengths"]]
        if knowing:
            yield f"lengths     {' · '.join(knowing)}: uses true lengths, which no router knows"
        yield from (f"solver      {run.label}: {_proof(run.solver)}" for run in result.runs if run.solver)
    elif config.get("dp_size"):
        slots = f" x {count(config['max_num_seqs'], 'slot')}" if config.get("max_num_seqs") else ""
        parts = [f"{count(config['dp_size'], 'rank')}{slots}"]
        parts += [f"{name} {config[name]}" for name in ("policy", "arrivals", "binding", "drift") if config.get(name)]
        yield "cluster     " + " · ".join(parts)
    if config.get("window"):
        yield (
            f"window      {config['window']} steps" if config["window"] == "all" else f"window      {config['window']}"
        )
    if config.get("step_model"):
        model = config["step_model"]
        yield f"step model  {model['name']} ({coefficient_text(model)})"
        if model.get("rank_speed"):
            speeds = [f"rank {rank} at {speed:.4g}" for rank, speed in model["rank_speed"].items()]
            yield f"speeds      {', '.join(speeds)} of the others' 1"
    if config.get("power_model"):
        yield f"power       {power_text(config['power_model'])}"
        if config["power_model"].get("costs"):
            yield f"costs       assumed: {', '.join(config['power_model']['costs'].values())}"
    if result.bands:
        variants = result.bands["variants"]
        told = f"{bands_text(config['step_model'])}; {count(variants, 'variant')}"
        yield f"bands       {told if variants > 1 else 'of the power model alone'}"


def _arrivals(config: Mapping[str, Any]) -> str:
    """How the requests of a replay arrive, in words."""
    kind, _colon, values = str(config["arrivals"]).partition(":")
    rate, _comma, cv = values.partition(",")
    scale = "" if config["rate_scale"] is None else f"{config['rate_scale']:g}"
    return {
        "backlog": f"backlog, pool of {config['pool']}",
        "closed": f"closed loop, {values} in flight",
        "poisson": f"Poisson, {rate} requests per s",
        "gamma": f"gamma, {rate} requests per s, CV {cv}",
    }.get(kind, f"times of the trace x {scale}")


def _signal_ages(runs: Sequence[Run]) -> str:
    ages: dict[str, list[str]] = {}
    for run in runs:
        age = run.details["staleness"]
        every = [f"{age['steps']} steps"] * bool(age["steps"]) + [f"{age['ms']:g} ms"] * bool(age["ms"])
        lag = f", without requests sent in the last {age['lag_ms']:g} ms" if age.get("lag_ms") else ""
        ages.setdefault(f"renewed every {' and '.join(every)}{lag}" if every else "live", []).append(run.label)
    return " · ".join(f"{text} ({', '.join(labels)})" for text, labels in ages.items())


def metric_table(
    runs: Sequence[Run], names: Sequence[str], measures: Sequence[Mapping[str, Measure]]
) -> tuple[list[str], list[list[str]], int]:
    """Columns, rows, and how many columns are text: a row of each metric that a run has."""
    columns = ["metric", "unit", "basis", *[run.label for run in runs]]
    rows = []
    for name in names:
        metric = METRICS[name]
        values = [known.get(name) for known in measures]
        if not any(values):
            reasons = {run.details.get("unavailable", {}).get(name) for run in runs}
            if (reason := reasons.pop()) and not reasons:
                rows.append([metric.label, shown_unit(metric.unit), reason, *["n/a"] * len(runs)])
            continue
        basis = ", ".join(dict.fromkeys(_basis(value) for value in values if value is not None))
        shown = [shown_value(None if value is None else value.value, metric.unit) for value in values]
        rows.append([metric.label, shown_unit(metric.unit), basis, *shown])
    return columns, rows, 3


def _basis(value: Measure) -> str:
    return value.basis if value.fidelity is None else f"{value.basis} {round(value.fidelity, 3) + 0.0:+.1%}"


def _ranges(result: Result, width: int) -> Iterator[RenderableType]:
    """Ranges of figures: of every run with bands, else what the power model alone gives for a single trace."""
    if not result.bands and result.command != "analyze":
        return
    names = [name for name in METRICS if any(_has_range(run.metrics.get(name)) for run in result.runs)]
    if not names:
        return
    yield Text("\nRanges over the bands" if result.bands else "\nRanges over the power model", style="bold")
    columns, rows = ["metric", "unit", *[run.label for run in result.runs]], []
    if len(result.runs) == 1:
        columns = ["metric", "unit", "low", "value", "high"]
    for name in names:
        unit = METRICS[name].unit
        cells = []
        for run in result.runs:
            value = run.metrics.get(name)
            ends = [shown_value(end, unit) for end in (value.low, value.high)] if value and _has_range(value) else []
            shown = shown_value(value.value, unit) if value else "n/a"
            cells += [ends[0], shown, ends[1]] if len(result.runs) == 1 else [" to ".join(ends) or shown]
        rows.append([METRICS[name].label, shown_unit(unit), *cells])
    yield from fitted(columns, rows, 2, width)


def _repeats(result: Result, width: int) -> Iterator[RenderableType]:
    """With repeats, the 95% intervals of the means, and the paired differences."""
    columns, rows = interval_table(result.runs, shown_names(result.runs))
    if not rows:
        return
    yield Text("\n95% intervals of the means over seeds", style="bold")
    yield from fitted(columns, rows, 2, width)
    if result.comparison:
        yield Text("\nDifferences, paired over seeds", style="bold")
        yield from _comparison(result, width)


def interval_table(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the 95% intervals of the means over seeds; no rows without repeats."""
    rows = []
    for name in names:
        unit = METRICS[name].unit
        found = [run.repeats.get("intervals", {}).get(name) for run in runs]
        if any(found):
            ends = [[shown_value(each[end], unit) for end in ("low", "high")] if each else ["n/a"] for each in found]
            rows.append([METRICS[name].label, shown_unit(unit), *[" to ".join(cell) for cell in ends]])
    return ["metric", "unit", *[run.label for run in runs]], rows


def _has_range(value: Measure | None) -> bool:
    return value is not None and value.low is not None and value.high is not None


def _prefill(rule: Mapping[str, Any]) -> str:
    """The rule by which prompts are computed, and its traits."""
    chunks = "prompts in chunks" if rule["chunks"] else "whole prompts"
    decodes = "beside decodes" if rule["mixes"] else "while decodes stall"
    padding = "no padding" if rule["padding"] == "never" else f"padding: {rule['padding']}"
    return f"{rule['label']} · {chunks} of up to {rule['budget_tokens']:,} tokens a step, {decodes} · {padding}"


def _advice(result: Result, width: int) -> Iterator[RenderableType]:
    """What each setting of an engine changes."""
    if not result.advice:
        return
    yield Text(TITLE, style="bold")
    columns, rows, left = advice_table(result.advice)
    yield from fitted(columns, rows, 1, width, left)
    for line in result.advice.get("findings", ()):
        yield Text(line)
    yield ""


def _findings(title: str, found: Mapping[str, Any]) -> Iterator[RenderableType]:
    if found.get("findings"):
        yield Text(f"\n{title}", style="bold")
        for line in found["findings"]:
            yield Text(line)


def _headroom(result: Result, width: int) -> Iterator[RenderableType]:
    if not result.headroom:
        return
    yield Text("\nHeadroom: what other placement or policy could change", style="bold")
    for line in result.headroom["findings"]:
        yield Text(line)
    if result.command == "replay":
        yield ""
        yield from fitted(
            *metric_table(result.runs, names_in("headroom"), [run.headroom for run in result.runs]), width
        )


def shown_names(runs: Sequence[Run]) -> Sequence[str]:
    """The metrics that a table of these runs shows."""
    if len(runs) > 1 or runs[0].policy is not None:
        return names_in("comparison")
    return [name for name, metric in METRICS.items() if metric.group != "spread" and metric.in_tables_of_all]


def _details(run: Run, width: int) -> Iterator[RenderableType]:
    if run.attribution:
        yield Text("\nWhy: idle by cause, share of rank-time", style="bold")
        total = sum(run.attribution.values()) or 1.0
        rows = [
            [cause, CAUSES_IN_WORDS[cause], percent(share), percent(share / total)]
            for cause, share in run.attribution.items()
            if share or cause not in ("speed", "unexplained")
        ]
        yield from fitted(["cause", "meaning", "rank-time", "of the idle"], rows, 2, width)
    columns, rows, text = spread_table(run)
    if rows:
        yield Text(f"\n{spread_title(run)}", style="bold")
        yield from fitted(columns, rows, text, width)
    if run.ranks:
        yield Text("\nRanks: shares of time and of steps, mean loads", style="bold")
        yield from fitted(*rank_table(run), width)
    if run.worst_steps:
        yield Text("\nWorst steps, by idle time over all ranks; KV tokens of the straggler, and the mean", style="bold")
        columns = ["step", "step ms", "idle", "straggler", "its tokens", "mean tokens", "requests"]
        rows = [
            [
                str(step["step"]),
                shown_value(step["step_ms"], "ms"),
                percent(step["idle_fraction"]),
                f"rank {step['straggler']}",
                mean_load(step.get("kv_tokens_straggler"), 0),
                mean_load(step.get("kv_tokens_mean"), 0),
                mean_load(step.get("num_running"), 0),
            ]
            for step in run.worst_steps
        ]
        yield from fitted(columns, rows, 1, width)


def _calibration(found: Mapping[str, Any], width: int) -> Iterator[RenderableType]:
    rows = [
        [name, UNITS_OF_COEFFICIENTS[name][0], *[coefficient(name, interval[end]) for end in ("value", "low", "high")]]
        for name, interval in found["coefficients"].items()
    ]
    yield from fitted(["coefficient", "unit", "value", "95% from", "to"], rows, 2, width)
    yield Text("\nErrors of modelled times", style="bold")
    rows = [
        [what, f"{part['steps']:,}", f"{part['r2']:.3f}", f"{part['bias']:+.2%}"]
        + [percent(part[key]) for key in ("p50", "p95")]
        for what, part in (("fitted on these", found["errors"]), ("held out", found["held_out"]))
        if part is not None
    ]
    yield from fitted(["steps", "number", "R2", "sum", "half below", "95% below"], rows, 1, width)
    measured = found["idle_measured"]
    against = "idle was not measured" if measured is None else f"{percent(measured)} measured"
    yield Text(f"\nBarrier idle of these steps: {percent(found['idle_modelled'])} modelled, {against}.")
    yield Text(f"{found['outliers']:,} of {found['observations']:,} {found['fitted_to']} count for nothing: outliers.")
    yield Text("\nRanks: time over that of the median rank for the same load, and what is left", style="bold")
    rows = [_rank_fit(rank) for rank in found["ranks"]]
    yield from fitted(["rank", "number", "factor", "95% from", "to", "residual p50", "size p95"], rows, 1, width)


def _rank_fit(rank: Mapping[str, Any]) -> list[str]:
    factor = rank["factor"]
    factors = ["n/a"] * 3 if factor is None else [f"{factor[key]:.3f}" for key in ("value", "low", "high")]
    known = rank["observations"] > 0 and rank["residual_p50"] is not None and rank["residual_p95"] is not None
    residuals = [f"{rank['residual_p50']:+.2%}", percent(rank["residual_p95"])] if known else ["n/a"] * 2
    return [str(rank["rank"]), f"{rank['observations']:,}", *factors, *residuals]


def _factor(factor: float) -> str:
    return "n/a" if factor != factor else f"{factor:.2f}x"


def rank_table(run: Run) -> tuple[list[str], list[list[str]], int]:
    """Columns, rows, and how many columns are text: a row of each rank."""
    columns = ["rank", "idle", "straggler", "no work", "KV tokens", "requests"]
    factors = "work_factor" in run.ranks[0]
    rows = []
    for rank in run.ranks:
        row = [
            str(rank["rank"]),
            percent(rank["idle_fraction"]),
            percent(rank["straggler_fraction"]),
            percent(rank["empty_fraction"]),
            mean_load(rank["kv_tokens_mean"], 0),
            mean_load(rank["num_running_mean"], 1),
        ]
        rows.append([*row, _factor(rank["work_factor"])] if factors else row)
    return ([*columns, "time for its load"] if factors else columns), rows, 1


def demand_table(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]], int]:
    """What a workload asks for."""
    rows = [["requests", "", f"{figures['requests']:,}"]]
    if "arrivals_per_second" in figures:
        rows += [
            ["duration", "s", shown_value(figures["duration_s"], "s")],
            ["arrivals", "per s", shown_value(figures["arrivals_per_second"], "s")],
            ["burstiness: std/mean of gaps", "1 = Poisson", f"{figures['interarrival_cv']:.2f}"],
            ["busiest 10 s over the mean", "ratio", f"{figures['peak_to_mean_10s']:.2f}"],
            ["output asked for", "tokens/s", shown_value(figures["output_tokens_per_second"], "tokens/s")],
        ]
    return ["workload (measured)", "unit", "value"], rows, 2


def length_table(figures: Mapping[str, Any]) -> tuple[list[str], list[list[str]], int]:
    """The lengths of a workload."""
    parts = ("mean", "p50", "p90", "p99", "max", "total")
    rows = [[name, *[f"{figures[f'{name}_tokens_{part}']:,.0f}" for part in parts]] for name in ("prompt", "output")]
    return ["tokens (measured)", *parts], rows, 1

"""`lbal list`: what is there."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lbal.cli.options.options import AsJson

list_app = typer.Typer(help="Describe the policies, formats, metrics, models and reports.", no_args_is_help=True)
Filter = Annotated[str, typer.Argument(metavar="[TEXT]", help="Only names that contain this.")]


@list_app.command()
def policies(text: Filter = "", as_json: AsJson = False) -> None:
    """Routing policies: what each does, what it looks at, its bindings and parameters."""
    from lbal.replay.policy.parametrised import description, parameter_types, type_text
    from lbal.replay.policy.policy import POLICIES

    rows = [
        {
            "policy": cls.name,
            "looks at": cls.looks_at,
            "binding": " or ".join(cls.bindings),
            "parameters": ", ".join(
                f"{name}={default} ({type_text(kind)})" for name, (kind, default) in parameter_types(cls).items()
            )
            or "none",
            "rule": description(cls),
        }
        for cls in POLICIES.classes()
    ]
    _show("policies", rows, text, as_json)


@list_app.command()
def prefill_rules(text: Filter = "", as_json: AsJson = False) -> None:
    """Prefill rules: how engines compute prompts beside decoding, and their parameters."""
    from lbal.replay.policy.parametrised import description, parameter_types, type_text
    from lbal.replay.prefill.rule import PREFILLS

    rows = [
        {
            "prefill rule": cls.name,
            "parameters": ", ".join(
                f"{name}={default} ({type_text(kind)})" for name, (kind, default) in parameter_types(cls).items()
            ),
            "padding": cls.padding,
            "rule": description(cls),
        }
        for cls in PREFILLS.classes()
    ]
    told = [{"left out": cls.left_out, "source": cls.source} for cls in PREFILLS.classes()]
    items = [{**row, **more} for row, more in zip(rows, told, strict=True)]
    _show("prefill-rules", rows, text, as_json, items=items)


@list_app.command()
def formats(text: Filter = "", as_json: AsJson = False) -> None:
    """Trace formats that can be read."""
    from lbal.analyzers.trace.formats import FORMATS

    rows = [
        {
            "format": cls.name,
            "content": cls.content,
            "time unit": cls.time_unit,
            "what it is": (cls.__doc__ or "").strip().splitlines()[0],
        }
        for cls in FORMATS.classes()
    ]
    _show("formats", rows, text, as_json)


@list_app.command()
def metrics(text: Filter = "", as_json: AsJson = False) -> None:
    """Metrics: unit, which direction is better, and the formula."""
    from lbal.analyzers.metrics import METRICS

    rows = [
        {"metric": item.name, "unit": item.unit, "better": item.better, "formula": item.formula}
        for item in METRICS.values()
    ]
    _show("metrics", rows, text, as_json)


@list_app.command()
def step_models(text: Filter = "", as_json: AsJson = False) -> None:
    """Step-time presets: coefficients, error of the fit, confidence and source."""
    from lbal.analyzers.models.step_models import preset_records

    records = preset_records()
    kinds = list(dict.fromkeys(record["kind"] for record in records))
    rows = [
        {
            "step model": record["name"],
            "C ms": f"{record['C'] * 1e3:.4g}",
            "a ns": f"{record['a'] * 1e9:.4g}",
            "b us": f"{record['b'] * 1e6:.4g}",
            "b_mean": f"{record['b_mean'] * 1e6:.4g}",
            "p us": f"{record['p'] * 1e6:.4g}" if "p" in record else "n/a",
            "e ns": f"{record['e'] * 1e9:.4g}" if "e" in record else "n/a",
            "error": record["error"],
            "source": record["kind"],
        }
        for record in records
    ]
    legend = {kind: next(record for record in records if record["kind"] == kind) for kind in kinds}
    told = {kind: f"{record['confidence']}. {record['source']}" for kind, record in legend.items()}
    told["units"] = (
        "C in ms, a in ns per KV token, b and b_mean in us per request, p in us per prompt token, e in ns per pair of "
        "their attention (both from published throughput, sources in --json; n/a without any); error of the fit to its "
        "tables"
    )
    _show("step-models", rows, text, as_json, items=records, legend=("source", told))


@list_app.command()
def power_models(text: Filter = "", as_json: AsJson = False) -> None:
    """Power models: watts per accelerator, low/nominal/high, with confidence and source."""
    from lbal.analyzers.models.power_models import power_presets

    records = [power.as_dict() for power in power_presets().values()]
    rows = []
    for record in records:
        levels = {
            state: "/".join(f"{watts:g}" for watts in record[f"{state}_watts"].values())
            if f"{state}_watts" in record
            else "by load"
            for state in ("busy", "wait")
        }
        rows.append(
            {
                "power model": record["name"],
                "busy W": levels["busy"] if levels["busy"] != "by load" else f"to {record['max_watts']:g}, by load",
                "wait W": levels["wait"],
                "idle W": f"{record['idle_watts']:g}",
                "n half": f"{record['n_half']:g}" if record.get("n_half") else "none",
                "confidence": record["confidence"],
            }
        )
    told = {record["name"]: record["source"] for record in records}
    told["units"] = "watts per accelerator, low/nominal/high; busy power goes from low to high by n/(n + n half)"
    _show("power-models", rows, text, as_json, items=records, legend=("power model", told))


@list_app.command()
def reports(text: Filter = "", as_json: AsJson = False) -> None:
    """Reports that `-o` writes, by suffix."""
    from lbal.analyzers.result.report import REPORTS

    rows = [
        {"report": cls.name, "suffixes": " ".join(cls.suffixes), "content": cls.content} for cls in REPORTS.classes()
    ]
    _show("reports", rows, text, as_json)


def _show(
    what: str,
    rows: list[dict[str, Any]],
    text: str,
    as_json: bool,
    items: list[dict[str, Any]] | None = None,
    legend: tuple[str, dict[str, str]] | None = None,
) -> None:
    """Rows whose first value has the text in it; `items` are their records for JSON.

    `legend` is a column, and what its values (and `units`) mean, told below the table.
    """
    from lbal.analyzers.errors import UsageError, unknown_name
    from lbal.analyzers.result.result import Result
    from lbal.analyzers.wording.numbers import legend_text, listing_text
    from lbal.cli.output.console import emit
    from lbal.cli.reports.json import JsonReport

    names = [next(iter(row.values())) for row in rows]
    chosen = [index for index, name in enumerate(names) if text.lower() in name.lower()]
    if not chosen:
        if legend is not None:
            raise unknown_name(what.removesuffix("s").replace("-", " "), text, names)
        raise UsageError(f"nothing here is named like {text!r}")
    if as_json:
        found = [(items or rows)[index] for index in chosen]
        emit(JsonReport().render(Result(f"list {what}", [], {"filter": text}, [], items=found)))
        return
    terminal = sys.stdout is not None and sys.stdout.isatty()
    told = listing_text([rows[index] for index in chosen], terminal=terminal)
    if legend is not None:
        used = dict.fromkeys(rows[index][legend[0]] for index in chosen)
        told += legend_text({value: legend[1][value] for value in (*used, "units")}, terminal=terminal)
    emit(told)

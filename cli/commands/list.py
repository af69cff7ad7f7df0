"""`lbal list`: what is there."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from lbal.cli.options import AsJson

list_app = typer.Typer(help="Describe the policies, formats, metrics, step models and reports.", no_args_is_help=True)
Filter = Annotated[str, typer.Argument(metavar="[TEXT]", help="Only names that contain this.")]


@list_app.command()
def policies(text: Filter = "", as_json: AsJson = False) -> None:
    """Routing policies: what each does, what it looks at, its bindings and parameters."""
    from lbal.replay.policy import POLICIES, description, parameter_types, type_text

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
def formats(text: Filter = "", as_json: AsJson = False) -> None:
    """Trace formats that can be read."""
    from lbal.analyzers.formats import FORMATS

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
    """Step-time presets: coefficients and confidence."""
    from lbal.replay.step_models import presets, step_model

    rows = []
    for name in presets():
        model = step_model(name, 72)
        rows.append(
            {
                "step model": name,
                "C ms": f"{model.shared_s * 1e3:.4g}",
                "a ns/token": f"{model.per_token_s * 1e9:.4g}",
                "b us/request": f"{model.per_request_s * 1e6:.4g}",
                "b_mean us/request": f"{model.per_mean_request_s * 1e6:.4g}",
                "confidence": model.confidence,
            }
        )
    _show("step-models", rows, text, as_json)


@list_app.command()
def reports(text: Filter = "", as_json: AsJson = False) -> None:
    """Reports that `-o` writes, by suffix."""
    from lbal.cli.reports import REPORTS

    rows = [
        {"report": cls.name, "suffixes": " ".join(cls.suffixes), "content": cls.content} for cls in REPORTS.classes()
    ]
    _show("reports", rows, text, as_json)


def _show(what: str, rows: list[dict[str, Any]], text: str, as_json: bool) -> None:
    from lbal.analyzers.errors import UsageError
    from lbal.analyzers.result import Result
    from lbal.cli.console import emit
    from lbal.cli.numbers import listing_text
    from lbal.cli.reports.json import JsonReport

    chosen = [row for row in rows if text.lower() in next(iter(row.values())).lower()]
    if not chosen:
        raise UsageError(f"nothing here is named like {text!r}")
    if as_json:
        emit(JsonReport().render(Result(f"list {what}", [], {"filter": text}, [], items=chosen)))
    else:
        emit(listing_text(chosen, terminal=sys.stdout is not None and sys.stdout.isatty()))

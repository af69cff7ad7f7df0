"""The commands as one Typer application."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from lbal.cli.commands.advise import advise
from lbal.cli.commands.analyze import analyze
from lbal.cli.commands.calibrate import calibrate
from lbal.cli.commands.check import check
from lbal.cli.commands.compare import compare
from lbal.cli.commands.convert import convert
from lbal.cli.commands.list import list_app
from lbal.cli.commands.render import render
from lbal.cli.commands.replay import replay
from lbal.cli.commands.validate import validate

app = typer.Typer(
    name="lbal",
    help="How much rank-time the decode barrier wastes, why, and what another routing policy would win back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (analyze, replay, advise, compare, check, render, calibrate, validate, convert):
    app.command()(command)
app.add_typer(list_app, name="list")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"lbal {version('lbal')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass

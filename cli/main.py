"""The `lbal` command: the commands, and the one place that turns errors into messages and exit codes.

0 fine · 1 a gate failed, and only that · 2 usage or bad input · 3 internal error · 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated

import typer

from lbal.cli.commands.analyze import analyze
from lbal.cli.commands.calibrate import calibrate
from lbal.cli.commands.check import check
from lbal.cli.commands.compare import compare
from lbal.cli.commands.convert import convert
from lbal.cli.commands.list import list_app
from lbal.cli.commands.replay import replay
from lbal.cli.commands.validate import validate

FINE, GATE_FAILED, BAD_INPUT, INTERNAL_ERROR, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="lbal",
    help="How much rank-time the decode barrier wastes, why, and what another routing policy would win back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (analyze, replay, compare, check, calibrate, validate, convert):
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


def main() -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:])
    sys.exit(_flushed(code))


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Errors become one line on stderr."""
    from lbal.analyzers.errors import LbalError

    try:
        code = app(arguments, prog_name="lbal", standalone_mode=False)
    except LbalError as error:
        return _refuse(str(error))
    except BrokenPipeError:
        return FINE
    except OSError as error:
        return _refuse(f"{error.filename or 'standard output'}: cannot be written: {error.strerror or error}")
    except MemoryError as error:
        return _refuse(f"there is not enough memory for this ({error}), expected a smaller trace or cluster")
    except (KeyboardInterrupt, typer.Abort):
        return _say("lbal: interrupted", INTERRUPTED)
    except SystemExit as error:
        # Typer exits by itself, with 1, when whoever reads its output has gone; that is no failed gate.
        return FINE if error.code == GATE_FAILED else int(error.code or FINE)
    except Exception as error:  # noqa: BLE001  the last resort: an uncaught one would exit 1, like a failed gate
        message = getattr(error, "format_message", None)
        if type(error).__name__ == "NoArgsIsHelpError" and message is not None:
            return _say(message(), BAD_INPUT)
        if message is not None:
            return _refuse(_usage_message(error, message(), arguments))
        return _internal(error)
    return code if isinstance(code, int) else FINE


def _refuse(message: str) -> int:
    return _say("lbal: " + " ".join(message.split("\n")), BAD_INPUT)


def _say(text: str, code: int) -> int:
    """Text to stderr, wherever it is; the exit code is told all the same."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        print(text, file=sys.stderr, flush=True)
    return code


def _usage_message(error: Exception, text: str, arguments: list[str]) -> str:
    context = getattr(error, "ctx", None)
    hint = f"(see `{getattr(context, 'command_path', 'lbal')} --help`)"
    flags = getattr(getattr(error, "param", None), "opts", [])
    for flag, value in pairwise(arguments):
        if flag in flags:
            return f"{flag}: {value!r} does not fit: {text.rstrip('.')} {hint}"
    return f"{text.rstrip('.')} {hint}"


def _internal(error: Exception) -> int:
    if os.environ.get("LBAL_DEBUG"):
        import traceback

        traceback.print_exception(error)
    name = type(error).__name__
    text = f"lbal: internal error: {name}: {error} (LBAL_DEBUG=1 shows where)".replace("\n", " ")
    return _say(text, INTERNAL_ERROR)


def _flushed(code: int) -> int:
    """Flush the streams, and send nowhere what cannot be written, so that Python has nothing to complain of at exit."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):
                code = code or _refuse(f"standard output: cannot be written: {error.strerror or error}")
    return code

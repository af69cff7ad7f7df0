"""The `lbal` command: the commands, and the one place that turns errors into messages and exit codes.

0 fine · 1 a gate failed, and only that · 2 usage or bad input · 3 internal error · 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, TextIO

from lbal.cli.interrupts import INTERRUPTED, MESSAGE, end_now, watch_signals

if TYPE_CHECKING:
    from lbal.analyzers.errors import Parameter

FLAGS = {"format_name": "format", "policies": "policy"}
"""Flags that are not called as the parameters of the library are."""
HELP = frozenset({"--help", "-h", "--version"})
FINE, GATE_FAILED, BAD_INPUT, INTERNAL_ERROR = 0, 1, 2, 3


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        watch_signals()
        _open_standard_streams()
        code = _flushed(run(sys.argv[1:]))
    except KeyboardInterrupt:
        code = _say(MESSAGE, INTERRUPTED)
    if code == INTERRUPTED:
        end_now()
    sys.exit(code)


def _open_standard_streams() -> None:
    """A closed standard stream leads nowhere, so that no file that is opened later takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def run(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Errors become one line on stderr."""
    from lbal.analyzers.errors import LbalError

    if sys.stdout is None and HELP & {*arguments}:
        return _refuse("standard output: is closed, expected one that can be written")
    for argument in arguments:
        if not argument.isprintable() and any("\ud800" <= character <= "\udfff" for character in argument):
            return _refuse(f"{argument!r}: is not UTF-8, expected arguments and file names in UTF-8")
    warnings.showwarning = _show_warning
    try:
        from lbal.cli.app import app

        code = app(arguments, prog_name="lbal", standalone_mode=False)
    except LbalError as error:
        return _refuse(error.told(_as_flag))
    except BrokenPipeError:
        return FINE
    except OSError as error:
        # Files are read and written where their names are known; what has no name here is a standard stream.
        place = error.filename or "standard output: cannot be written"
        return _refuse(f"{place}: {error.strerror or error}")
    except MemoryError as error:
        return _refuse(f"there is not enough memory for this ({error}), expected a smaller trace or cluster")
    except KeyboardInterrupt:
        return _say(MESSAGE, INTERRUPTED)
    except SystemExit as error:
        # Typer exits by itself, with 1, when whoever reads its output has gone; that is no failed gate.
        return FINE if error.code == GATE_FAILED else int(error.code or FINE)
    except Exception as error:  # noqa: BLE001  the last resort: an uncaught one would exit 1, like a failed gate
        if type(error).__name__ == "Abort":
            return _say(MESSAGE, INTERRUPTED)
        message = getattr(error, "format_message", None)
        if type(error).__name__ == "NoArgsIsHelpError" and message is not None:
            _print(message())
            return BAD_INPUT
        if message is not None:
            return _refuse(_usage_message(error, message(), arguments))
        return _internal(error)
    if code == INTERRUPTED:  # what Typer makes of a KeyboardInterrupt
        return _say(MESSAGE, INTERRUPTED)
    return code if isinstance(code, int) else FINE


def _as_flag(parameter: Parameter) -> str:
    """A parameter of a library call as the command line spells it: `--dp-size`, `--window steady`."""
    name = FLAGS.get(parameter.name, parameter.name.replace("_", "-"))
    return f"--{name}" if parameter.value is None else f"--{name} {parameter.value}"


def _refuse(message: str) -> int:
    return _say(f"lbal: {message}", BAD_INPUT)


def _say(text: str, code: int) -> int:
    """A line to stderr, wherever that is; the exit code is told all the same."""
    from lbal.analyzers.plain import message

    _print(message(text))
    return code


def _print(text: str) -> None:
    with contextlib.suppress(OSError, AttributeError, ValueError):
        if sys.stderr is not None:
            print(text, file=sys.stderr, flush=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A plugin that is left out is one line; other warnings look as Python shows them."""
    from lbal.analyzers.plain import message as as_message
    from lbal.analyzers.registry import PluginWarning

    if issubclass(category, PluginWarning):
        _print(as_message(f"lbal: warning: {message}"))
    else:
        _print(warnings.formatwarning(message, category, filename, lineno, line))


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
    text = f"lbal: internal error: {name}: {error} (LBAL_DEBUG=1 shows where)"
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

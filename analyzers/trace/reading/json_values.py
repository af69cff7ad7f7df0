"""JSON values in a row, as programs append them to a file: one a line, over several lines, in a list, or end to end."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from typing import Any

from lbal.analyzers.trace.source import Source

_BETWEEN = re.compile(r"[\s,\[\]\x1e]*")
_BEGINS = re.compile(r"^(?:[\s,\[]*\{|\w)", re.MULTILINE)
_END_TO_END = re.compile(r"\}\s*(?=\{)")
"""Within a value a comma stands between two objects: without one, another value begins."""
_LONGEST = 1 << 25
_CUT_OFF = 16
"""An error as near to the end of what was read may be one of a value that goes on."""


def json_values(source: Source) -> Iterator[dict[str, Any] | str]:
    """The objects of a file, and as text each line between them and each piece of a damaged object."""
    decoder, rest = json.JSONDecoder(), ""
    for block in source.blocks(text=False):
        text = rest + block.data.decode("utf-8", errors="replace")
        rest = yield from _values(text, decoder, is_last=False)
    yield from _values(rest, decoder, is_last=True)


def _values(text: str, decoder: json.JSONDecoder, *, is_last: bool) -> Generator[dict[str, Any] | str, None, str]:
    """The values of a text; returns what is left of it, which may be the begin of a value."""
    at = 0
    while True:
        at = _next(text, at)
        if at >= len(text):
            return ""
        if text[at] == "{":
            try:
                value, at = decoder.raw_decode(text, at)
                yield value
                continue
            except RecursionError:
                pass
            except ValueError as error:
                goes_on = isinstance(error, json.JSONDecodeError) and _reaches_end(error, text)
                if goes_on and not is_last and len(text) - at < _LONGEST:
                    return text[at:]
        end = _end_of_piece(text, at)
        yield text[at:end]
        at = end


def _next(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _reaches_end(error: json.JSONDecodeError, text: str) -> bool:
    return error.pos >= len(text) - _CUT_OFF or error.msg.startswith("Unterminated")


def _end_of_piece(text: str, at: int) -> int:
    """Where a line ends, or a damaged object: before a line that begins one or a word, or the next one on its line."""
    line = text.find("\n", at)
    line = len(text) if line < 0 else line + 1
    if text[at] != "{":
        return line
    found = _BEGINS.search(text, line)
    begins = found.start() if found else len(text)
    touching = _END_TO_END.search(text, at + 1, begins)
    return touching.end() if touching else begins

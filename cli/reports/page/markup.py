"""HTML from text. Everything that comes from an input passes through `escaped`."""

from __future__ import annotations

import html
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from lbal.analyzers.plain import seen


def escaped(value: Any) -> str:
    """A value as text of a page; safe between tags and in quoted attributes."""
    return html.escape(seen(str(value)), quote=True)


def paragraphs(texts: Iterable[str], kind: str = "") -> str:
    """A paragraph each."""
    attribute = f' class="{kind}"' if kind else ""
    return "".join(f"<p{attribute}>{escaped(text)}</p>\n" for text in texts)


def section(anchor: str, title: str, *parts: str) -> str:
    """A section of the page; empty without content."""
    body = "".join(parts)
    return f'<section id="{anchor}">\n<h2>{escaped(title)}</h2>\n{body}</section>\n' if body else ""


def folded(summary: str, body: str) -> str:
    """Content that opens on a click."""
    return f"<details>\n<summary>{escaped(summary)}</summary>\n{body}</details>\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: slice, caption: str = "") -> str:
    """A table of cells that are HTML already; the columns of `numbers` hold numbers, the others words."""

    numeric = set(range(len(columns))[numbers])
    head = "".join(_cell("th", escaped(name), index in numeric, "col") for index, name in enumerate(columns))
    body = "".join(f"<tr>{_row(row, numeric)}</tr>\n" for row in rows)
    told = f"<caption>{escaped(caption)}</caption>" if caption else ""
    # A box that scrolls must be reachable by keyboard.
    return (
        f'<div class="wide" tabindex="0"><table>{told}<thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>\n"
    )


def _row(cells: Sequence[str], numeric: Container[int]) -> str:
    others = "".join(_cell("td", cell, index in numeric) for index, cell in enumerate(cells) if index)
    return _cell("th", cells[0], False, "row") + others


def _cell(tag: str, content: str, number: bool, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="number"' if number else "")
    return f"<{tag}{attributes}>{content}</{tag}>"


def facts(record: Mapping[str, Any]) -> str:
    """Names and values, whatever they are; records within records by dotted names."""
    rows = [[escaped(name), escaped(value)] for name, value in _flat(record)]
    return table(["name", "value"], rows, numbers=slice(2, None)) if rows else ""


def _flat(record: Mapping[str, Any], lead: str = "") -> Iterable[tuple[str, str]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{lead}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{lead}{name}", ", ".join(map(str, value)) or "none"
        else:
            yield f"{lead}{name}", _shown(value)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def script_data(record: Any) -> str:
    """A record as JSON that cannot end the script element that it stands in."""
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text

"""The result as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, ClassVar

from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result
from lbal.cli.reports.page.markup import escaped, script_data, section

if TYPE_CHECKING:
    from lbal.cli.reports.page.charts import Chart

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'"
)
"""What the browser lets the page do: run its own scripts (Vega compiles expressions) and fetch nothing."""


class HtmlReport(Report):
    """A page for people: headline, figures, charts, models and configuration."""

    name: ClassVar[str] = "html"
    suffixes: ClassVar[tuple[str, ...]] = (".html", ".htm")
    content: ClassVar[str] = "a self-contained page with charts"
    needs: ClassVar[frozenset[str]] = frozenset({"series"})

    def render(self, result: Result) -> str:
        """The page. A result without runs is shown by the tables of the terminal."""
        if not result.runs:
            return _page(result, _tables(result), "", "")
        from lbal.cli.reports.page.content import Content
        from lbal.cli.reports.page.figures import tiles

        content = Content(result)
        sections = content.sections()
        links = "".join(f'<a href="#{anchor}">{escaped(title)}</a>' for anchor, title, _body in sections)
        body = tiles(result) + _notes(result) + f"<nav>{links}</nav>\n" + "".join(part for *_names, part in sections)
        return _page(result, body, _scripts(content.charts), "<noscript><p>The charts need JavaScript.</p></noscript>")


def _page(result: Result, body: str, scripts: str, aside: str) -> str:
    names = ", ".join(str(item["name"]) for item in result.inputs)
    told = " · ".join(filter(None, [f"lbal {result.command}", names]))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escaped(told)}</title>\n<style>\n{_asset('page.css')}</style>\n</head>\n<body>\n"
        f'<header><p class="eyebrow">{escaped(told)}</p>\n{_headline(result.headline)}</header>\n'
        f"<main>\n{aside}{body}</main>\n"
        f"<footer>Made by lbal {escaped(version('lbal'))}. This page is complete and loads nothing.</footer>\n"
        f"{scripts}</body>\n</html>\n"
    )


def _headline(text: str) -> str:
    """The first sentence as the title of the page, and what follows it below."""
    first, stop, others = text.partition(". ")
    return f"<h1>{escaped(first + stop.rstrip())}</h1>" + (f'<p class="lead">{escaped(others)}</p>' if others else "")


def _notes(result: Result) -> str:
    if not result.notes:
        return ""
    items = "".join(f"<li>{escaped(note)}</li>" for note in result.notes)
    return f'<div class="notes" role="note"><ul>{items}</ul></div>\n'


def _tables(result: Result) -> str:
    from lbal.cli.reports.page.markup import facts
    from lbal.cli.reports.table import TableReport

    text = TableReport().render(result).partition("\n")[2].strip("\n")
    configuration = facts(result.config)
    return _notes(result) + f"<pre>{escaped(text)}</pre>\n" + section("configuration", "Configuration", configuration)


@cache
def _chart_libraries() -> str:
    """The scripts that draw the charts, in one piece; making it takes a second, and it is the same for every page."""
    import vl_convert

    # Nothing in it may end the script element that holds it.
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def _scripts(charts: Sequence[Chart]) -> str:
    from lbal.cli.reports.page.charts import config

    data = script_data({"config": config(), "charts": [chart.as_dict() for chart in charts]})
    # Inside a function the names of the libraries stay their own.
    return (
        f"<script>(() => {{\n{_chart_libraries()}\n}})();</script>\n"
        f'<script type="application/json" id="page-data">{data}</script>\n'
        f"<script>\n{_asset('page.js')}</script>\n"
    )


def _asset(name: str) -> str:
    return files("lbal.cli.reports.page").joinpath(name).read_text(encoding="utf-8")

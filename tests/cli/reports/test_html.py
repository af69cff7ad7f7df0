"""The HTML page: what it says, that it needs nothing else, that nothing in it comes alive, and how big it gets."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from result_examples import result_of, run_of

import lbal
from lbal.analyzers.metrics import METRICS
from lbal.cli.main import run
from lbal.cli.reports.html import HtmlReport
from lbal.cli.reports.page import selection

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \" ' \u2028 {{x}} ☃"
MOST_BYTES = 5_000_000
LOADING = ("src", "srcset", "href", "action", "data", "poster", "background")


class Page(HTMLParser):
    """Elements, attributes that load or run something, and the text of a page without its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.handlers, self.words, self.ids, self.data = [], [], [], [], [], ""
        self._inside = ""
        self.feed(text)
        self.text = "".join(self.words)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = dict(attrs).get("type", tag) if tag in ("script", "style") else ""
        self.ids += [value for name, value in attrs if name == "id"]
        self.loads += [value for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _value in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if not self._inside:
            self.words.append(data)
        if self._inside == "application/json":
            self.data += data

    @property
    def charts(self):
        return json.loads(self.data)["charts"]


@pytest.fixture(scope="module")
def compared():
    return Page(HtmlReport().render(result_of([run_of(name, seed=seed) for seed, name in enumerate(("jsq", "lpt"))])))


def drawn(page):
    return {chart["id"].rpartition("-")[0] or chart["id"] for chart in page.charts}


def test_the_page_has_every_section_and_every_chart(compared):
    expected = {"counterfactual", "policies", "figures", "idle", "loads", "distribution", "causes", "stragglers"}
    assert expected | {"energy", "models", "configuration"} <= set(compared.ids)
    assert drawn(compared) == {"side", "idle", "loads", "distribution", "cause", "straggler"}
    assert all(chart["id"] in compared.ids for chart in compared.charts)


def test_the_page_shows_every_figure_of_every_run(compared):
    for name in run_of("any").metrics:
        assert METRICS[name].label in compared.text
    assert "jsq" in compared.text
    assert "lpt" in compared.text


def test_one_run_is_not_compared_with_itself():
    page = Page(HtmlReport().render(result_of([run_of("jsq")])))
    assert drawn(page) == {"idle", "loads", "distribution", "cause", "straggler"}
    assert "reference" not in page.text


def test_a_run_without_series_has_the_charts_that_its_figures_allow():
    page = Page(HtmlReport().render(result_of([replace(run_of(name), drawn=None) for name in ("jsq", "lpt")])))
    assert drawn(page) == {"side", "cause", "straggler"}


def test_nothing_on_the_page_is_loaded_from_anywhere(compared):
    assert [target for target in compared.loads if not target.startswith(("#", "data:,"))] == []
    assert not {"iframe", "object", "embed", "img", "video", "audio", "base"} & set(compared.tags)
    assert compared.tags.count("link") == 1
    text = HtmlReport().render(result_of([run_of("jsq")]))
    assert "default-src 'none'" in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"@import|url\(|//", style)
    assert "http" not in compared.data


def test_text_of_an_input_is_shown_and_never_becomes_part_of_the_page():
    plain = Page(HtmlReport().render(result_of([run_of("jsq"), run_of("lpt")])))
    page = Page(HtmlReport().render(result_of([run_of(HOSTILE), run_of("lpt")], HOSTILE)))
    assert sorted(page.tags) == sorted(plain.tags)
    assert page.handlers == []
    assert page.text.count(HOSTILE) >= 8
    assert any(HOSTILE in chart["columns"].get("run", ()) for chart in page.charts)


def test_a_long_run_of_many_ranks_is_a_small_page_that_says_how_it_was_thinned():
    text = HtmlReport().render(result_of([run_of("jsq", count=1_000_000, ranks=64)]))
    assert len(text.encode()) < MOST_BYTES / 2
    page = Page(text)
    assert "At most 500 points: each is 2,000 steps" in page.text
    assert "At most 6,400 cells: each is the mean of 16,384 steps" in page.text
    assert max(len(chart["columns"].get("first", ())) for chart in page.charts) == 500


def test_a_thousand_policies_make_a_page_that_can_be_read():
    one = run_of("policy 0")
    runs = [one, *[replace(one, label=f"policy {number}") for number in range(1, 1_000)]]
    text = HtmlReport().render(result_of(runs))
    page = Page(text)
    assert len(text.encode()) < MOST_BYTES
    assert len(page.charts) < 40
    assert "Charts of 6 of 1,000 runs: the reference, and those with the least barrier idle." in page.text
    assert "950 more runs" in page.text
    assert all(f"policy {number}" in page.text for number in range(1_000))


def test_the_reference_is_drawn_even_where_it_idles_most():
    runs = [run_of(f"policy {number}", seed=number) for number in range(20)]
    worst = selection.by_idle(runs)[-1]
    chosen = selection.leading(runs, worst, 6)
    assert len(chosen) == 6
    assert worst in chosen
    assert selection.by_idle(runs)[0] in chosen


def test_the_page_of_a_workload_has_its_tables(tmp_path, capsys):
    trace, page = tmp_path / "t.jsonl", tmp_path / "page.html"
    trace.write_text('{"lbal_trace": 1}\n{"request_id": 1, "prompt_tokens": 5, "output_tokens": 5}\n')
    assert run(["analyze", str(trace), "-o", str(page)]) == 0
    capsys.readouterr()
    text = page.read_text(encoding="utf-8")
    assert "lbal replay" in Page(text).text
    assert "<script" not in text


def test_every_command_that_has_runs_writes_the_page_with_its_series(tmp_path, capsys):
    trace = tmp_path / "t.jsonl"
    lines = [
        f'{{"request_id": {i}, "arrival_ms": {i}, "prompt_tokens": 9, "output_tokens": {i + 3}}}' for i in range(20)
    ]
    trace.write_text("\n".join(['{"lbal_trace": 1}', *lines]))
    replayed, page = tmp_path / "r.jsonl", tmp_path / "page.html"
    sizes = ["--dp-size", "2", "--max-num-seqs", "2", "--policy", "jsq"]
    assert run(["replay", str(trace), *sizes, "-o", str(page), "-o", str(replayed), "--window", "admissions"]) == 0
    assert {"idle", "loads"} <= drawn(Page(page.read_text(encoding="utf-8")))
    assert run(["analyze", str(replayed), "-o", str(page), "--force"]) == 0
    assert {"idle", "loads"} <= drawn(Page(page.read_text(encoding="utf-8")))
    capsys.readouterr()


def test_the_title_is_the_first_sentence_of_the_headline_and_the_rest_stands_below(tmp_path):
    trace = tmp_path / "t.jsonl"
    trace.write_text('{"lbal_trace": 1}\n{"step": 0, "num_running": [30, 10], "kv_tokens": [300, 100]}\n')
    result = lbal.analyze(lbal.read_trace(trace))
    result.write(tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    title, lead = (
        page.partition("<h1>")[2].partition("</h1>")[0],
        page.partition('class="lead">')[2].partition("</p>")[0],
    )
    assert title.endswith("is the straggler in 100.0% of steps.")
    assert lead.startswith("Numbers of requests differ")
    assert f"{title} {lead}" == result.headline

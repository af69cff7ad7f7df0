"""No number is ever cut: what does not fit is laid out otherwise, at every width and with every number of policies."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from lbal.cli.main import run
from lbal.cli.reports.parts.fitting import fitted
from lbal.cli.reports.table import TableReport

NUMBER = re.compile(r"-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?")
SMALL = ["--dp-size", "4", "--max-num-seqs", "8"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results whose tables have many columns: a replay, repeats, an analysis, a comparison, a calibration."""
    from lbal.analyzers.result.reading import read_result

    folder = tmp_path_factory.mktemp("wide")
    requests = "".join(
        f'{{"request_id": {i}, "arrival_ms": {i * 2}, "prompt_tokens": {50 + i * 3700 % 40000}, "output_tokens": {5 + i % 17}}}\n'
        for i in range(60)
    )
    (folder / "r.jsonl").write_text('{"lbal_trace": 1}\n' + requests)
    policies = [part for name in ("round-robin", "jsq", "fcfs") for part in ("--policy", name)]
    replay = ["replay", str(folder / "r.jsonl"), *SMALL, *policies]
    files = {name: str(folder / f"{name}.json") for name in ("replay", "repeats", "analyze")}
    assert run([*replay, "-o", files["replay"], "-o", str(folder / "{policy}.jsonl")]) == 0
    assert run([*replay, "--repeat", "3", "--jobs", "1", "-o", files["repeats"]]) == 0
    assert run(["analyze", str(folder / "jsq.jsonl"), "-o", files["analyze"]]) == 0
    found = {name: read_result(file).result for name, file in files.items()}
    # The names of files, which are longer than any line here, are broken like other long words.
    return {
        name: replace(one, inputs=[{**item, "name": "r.jsonl"} for item in one.inputs]) for name, one in found.items()
    }


def numbers_of(text):
    return set(NUMBER.findall(text))


def many(result, count, label="policy with a long label {}"):
    runs = [replace(result.runs[index % len(result.runs)], label=label.format(index)) for index in range(count)]
    return replace(result, runs=runs)


@pytest.mark.parametrize("name", ["replay", "repeats", "analyze"])
@pytest.mark.parametrize("terminal", [False, True])
@given(width=st.integers(40, 200), count=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_every_number_of_the_wide_tables_stands_whole_in_the_narrow_ones(results, name, terminal, width, count):
    result = results[name] if name != "replay" else many(results[name], count)
    wide = TableReport().render(result)
    narrow = TableReport().render_for(result, width, terminal=terminal)
    shown = re.sub(r"\x1b\[[\d;]*m", "", narrow)
    assert numbers_of(wide) <= numbers_of(shown)
    # Lines to copy are never broken; all else fits.
    assert not [line for line in shown.splitlines() if cell_len(line) > width and not line.startswith("lbal ")]


CELLS = st.sampled_from(["313,969", "1,234,567.8", "12 to 9,859,949 (seeds)", "n/a", "漢字", ""])


@given(data=st.data(), width=st.integers(40, 200))
@settings(max_examples=200, deadline=None)
def test_any_table_fits_and_loses_nothing(data, width):
    count = data.draw(st.integers(2, 14))
    names = st.text("abcdefghij ", min_size=1, max_size=60).map(str.strip).filter(bool)
    columns = data.draw(st.lists(names, min_size=count, max_size=count))
    rows = data.draw(st.lists(st.lists(CELLS, min_size=count, max_size=count), min_size=1, max_size=4))
    fixed = data.draw(st.integers(1, min(3, count)))
    buffer = io.StringIO()
    narrow, wide = (Console(file=buffer, width=size, highlight=False) for size in (width, 10_000))
    for part in fitted(columns, rows, fixed, width):
        if isinstance(part, Table):
            wide.print(part, crop=False, no_wrap=True, overflow="ignore")
        else:
            narrow.print(part)
    text = buffer.getvalue()
    assert not [line for line in text.splitlines() if cell_len(line.rstrip()) > width]
    for row in rows:
        for cell in row:
            assert cell in text


def test_the_numbers_of_the_readme_at_sixty_columns(results):
    text = TableReport().render_for(results["replay"], 60, terminal=False)
    assert numbers_of(TableReport().render(results["replay"])) <= numbers_of(text)


def test_a_pipe_with_columns_set_is_no_exception(results, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    text = TableReport().render_for_stdout(results["replay"])
    assert numbers_of(TableReport().render(results["replay"])) <= numbers_of(text)
    assert max(map(cell_len, text.splitlines())) <= 60


def test_fewer_policies_a_block_where_that_is_enough(results):
    text = TableReport().render_for(many(results["replay"], 8, "policy {}"), 80, terminal=False)
    assert len(re.findall(r"^metric ", text, flags=re.MULTILINE)) >= 4  # blocks, headroom among them


def test_first_cells_that_do_not_fit_side_by_side_stand_below_one_another():
    cell = "12 to 9,859,949 (seeds)"
    buffer = io.StringIO()
    console = Console(file=buffer, width=40, highlight=False)
    for part in fitted(["a", "b", "a longer name of a column"], [[cell, cell, cell]], 2, 40):
        console.print(part)
    assert buffer.getvalue().count(cell) == 3

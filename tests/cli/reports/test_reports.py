"""Every report over the same results: what they hold, and that nothing in a name can break them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

import lbal
from lbal.analyzers.errors import UsageError
from lbal.analyzers.metrics import METRICS
from lbal.analyzers.plain import plain
from lbal.analyzers.result.json_text import json_text
from lbal.analyzers.result.reading import read_result
from lbal.analyzers.result.report import REPORTS
from lbal.cli.main import run
from lbal.cli.reports.csv import CsvReport
from lbal.cli.reports.json import JsonReport
from lbal.cli.reports.junit import JUnitReport
from lbal.cli.reports.markdown import MarkdownReport, escaped
from lbal.cli.reports.table import TableReport

SAMPLES = Path(__file__).resolve().parents[3] / "sample_traces"
STEPS, REQUESTS = str(SAMPLES / "skewed_8_ranks.jsonl"), str(SAMPLES / "requests_2000.jsonl")
RESULTS = ("analyze", "demand", "replay", "advise", "repeats", "calibrate", "compare", "check")


@pytest.fixture(scope="module")
def results():
    """A result of each command, from the library call behind it; "demand" is a trace of requests alone."""
    steps, requests = lbal.read_trace(STEPS), lbal.read_trace(REQUESTS)
    replayed = lbal.replay(steps, policies=["jsq", "jsq-kv"])
    made = {
        "analyze": lbal.analyze(steps),
        "demand": lbal.analyze(requests),
        "replay": replayed,
        "advise": lbal.advise(requests, engine="vllm", dp_size=8, max_num_seqs=32),
        "repeats": lbal.replay(steps, policies=["jsq", "random"], repeat=2, jobs=1),
        "calibrate": lbal.calibrate(steps),
        "compare": lbal.compare(replayed),
        "check": lbal.check(replayed, fail_on=["steps<=1", "barrier_idle_fraction<=90%"]),
    }
    assert tuple(made) == RESULTS
    return made


@pytest.mark.parametrize("report", [cls.name for cls in REPORTS.classes()])
@pytest.mark.parametrize("name", RESULTS)
def test_every_report_renders_every_result_the_same_each_time(results, report, name):
    if "timeline" in REPORTS.get(report).needs:
        # Single steps are there only where they were collected for it: test_perfetto.
        with pytest.raises(UsageError, match="shows steps, and this result has none"):
            REPORTS.get(report)().render(results[name])
        return
    text = REPORTS.get(report)().render(results[name])
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
    assert text == REPORTS.get(report)().render(results[name])


def rows_of(result):
    return list(csv.DictReader(io.StringIO(CsvReport().render(result))))


def test_csv_has_every_number_of_the_runs_in_full(results):
    result = results["replay"]
    rows = rows_of(result)
    assert all(None not in row and None not in row.values() for row in rows)
    for each in result.runs:
        known = {row["name"]: row for row in rows if row["table"] == "metric" and row["run"] == each.label}
        assert known.keys() == each.metrics.keys()
        for name, measure in each.metrics.items():
            assert float(known[name]["value"]) == measure.value
            assert known[name]["unit"] == METRICS[name].unit
        ranks = [row for row in rows if row["table"] == "rank" and row["run"] == each.label]
        assert {row["rank"] for row in ranks} == {str(rank["rank"]) for rank in each.ranks}
        idle = [float(row["value"]) for row in ranks if row["name"] == "idle_fraction"]
        assert idle == [rank["idle_fraction"] for rank in each.ranks]
    assert {row["table"] for row in rows} == {"metric", "headroom", "attribution", "rank"}


def test_csv_is_tidy_one_row_has_one_value(results):
    for name in results:
        rows = rows_of(results[name])
        keys = [(row["table"], row["run"], row["against"], row["rank"], row["name"]) for row in rows]
        assert len(keys) == len(set(keys))


def test_csv_leaves_an_unknown_number_empty(results):
    result = results["replay"]
    first = result.runs[0]
    unknown = replace(first.metrics["steps"], value=math.nan)
    text = CsvReport().render(replace(result, runs=[replace(first, metrics={"steps": unknown})]))
    assert "metric,jsq,,,steps,steps,,,,modelled,,,,\n" in text


def table_rows(text):
    """Markdown tables, as lists of lines."""
    return [block.splitlines() for block in re.split(r"\n\n+", text) if block.startswith("| ")]


@pytest.mark.parametrize("name", RESULTS)
def test_markdown_tables_have_as_many_cells_in_every_row(results, name):
    text = MarkdownReport().render(results[name])
    for rows in table_rows(text):
        counts = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
        assert len(counts) == 1, rows[:3]
        assert re.fullmatch(r"(\| -+:? )+\|", rows[1])
    assert text.startswith(f"## lbal {results[name].command}\n")
    assert text.count("<details>") == text.count("</details>")


def test_markdown_shows_what_the_table_shows(results):
    table = TableReport().render(results["replay"])
    text = MarkdownReport().render(results["replay"]).replace("\\", "")
    numbers = set(re.findall(r"\d[\d,.]*\d", table.split("\n\n", 2)[2]))
    assert numbers - set(re.findall(r"\d[\d,.]*\d", text)) == set()


HOSTILE = "a|b `c` <img src=x onerror=alert(1)> **d** [e](f) \r\n| g | \x00\x1b[31m ü 漢 &amp; ]]> $x$ @team #1 ~~no~~"


def hostile(result):
    return replace(
        result,
        headline=HOSTILE,
        notes=[HOSTILE],
        inputs=[{**item, "name": HOSTILE} for item in result.inputs],
        runs=[replace(each, label=f"{HOSTILE}{index}") for index, each in enumerate(result.runs)],
    )


def test_markdown_cannot_be_broken_by_names(results):
    text = MarkdownReport().render(hostile(results["replay"]))
    body = re.sub(r"```json\n.*?```", "", text, flags=re.DOTALL)
    assert "<img" not in body.replace(r"\<img", "")
    for rows in table_rows(text):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "@team" not in body.replace(r"\@team", "")
    assert escaped("a\nb") == "a b"


def test_xml_and_csv_and_json_hold_any_name(results):
    result = hostile(results["replay"])
    root = ElementTree.fromstring(JUnitReport().render(result))
    assert [suite.get("name").count("\x00") for suite in root] == [0, 0]
    assert {row["run"] for row in rows_of(result)} == {plain(f"{HOSTILE}0"), plain(f"{HOSTILE}1")}
    assert json.loads(JsonReport().render(result))["headline"] == HOSTILE


def test_json_puts_lists_of_numbers_on_one_line_and_changes_none():
    record = {"a": [1, -2.5e-07, None, 3.0], "b": ["1,\n 2", "[\n1\n]"], "c": [], "d": [[1, 2], [3]], "e": [True]}
    text = json_text(record)
    assert json.loads(text) == record
    assert '"a": [1, -2.5e-07, null, 3.0]' in text


def test_junit_has_a_case_of_every_metric_and_skips_unknown_ones(results):
    result = results["replay"]
    first = result.runs[0]
    metrics = {**first.metrics, "steps": replace(first.metrics["steps"], value=math.nan)}
    root = ElementTree.fromstring(JUnitReport().render(replace(result, runs=[replace(first, metrics=metrics)])))
    (suite,) = root
    assert suite.get("tests") == str(len(first.metrics) + len(first.headroom))
    assert [case.get("name") for case in suite if case.find("skipped") is not None] == ["steps"]


def many(result, count):
    first = result.runs[0]
    metric = first.metrics["barrier_idle_fraction"]
    runs = [
        replace(first, label=f"jsq:x={index}", metrics={**first.metrics, "barrier_idle_fraction": replace(metric, value=1 - index / count)})
        for index in range(count)
    ]  # fmt: skip
    return replace(result, runs=runs)


def test_a_thousand_policies_make_a_page_that_github_shows(results):
    text = MarkdownReport().render(many(results["replay"], 1000))
    assert len(text.encode()) < 1024 * 1024
    assert "The 100 of 1,000 runs that idle least; JSON and CSV have all of them." in text
    rows = next(rows for rows in table_rows(text) if len(rows) > 100)
    assert len(rows) == 102
    assert rows[2].startswith("| jsq:x=999 |")
    assert len(rows[0].split(" | ")) < 12


def test_a_result_read_back_renders_as_it_did(results, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(JsonReport().render(results["replay"]))
    stored = read_result(str(path)).result
    for cls in (TableReport, MarkdownReport, CsvReport, JUnitReport):
        assert cls().render(stored) == cls().render(results["replay"]), cls.name


# --- the terminal ---


def test_analyze_draws_on_a_terminal_and_not_in_a_pipe(results):
    report = TableReport()
    drawn = report.render_for(results["analyze"], 60, terminal=True)
    assert "Idle over the steps" in drawn
    assert "█" in drawn
    assert "Idle over the steps" not in report.render(results["analyze"])
    start = drawn.index("Idle over the steps")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", drawn[start : drawn.index("Why: ")]).splitlines()
    assert max(map(len, lines)) <= 60
    bars = [line for line in lines if re.match(r" {7}\d ", line)]
    assert len(bars) == 8
    assert bars[7].count("█") == max(bar.count("█") for bar in bars)
    assert bars[2].count("█") == min(bar.count("█") for bar in bars)
    heights = [sum(line[9:][index : index + 1] not in ("", " ") for line in lines[1:7]) for index in range(30)]
    assert max(heights) == 6


def test_drawings_use_what_the_terminal_can_print(results, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    drawn = TableReport().render_for(results["analyze"], 80, terminal=True)
    part = drawn[drawn.index("Idle over the steps") : drawn.index("Why: ")]
    assert part.isascii()
    assert "####" in part


def test_a_thousand_ranks_are_drawn_as_those_that_matter(results):
    result = results["analyze"]
    first = result.runs[0]
    ranks = [{**first.ranks[0], "rank": rank, "idle_fraction": rank / 1000} for rank in range(1000)]
    drawn = TableReport().render_for(replace(result, runs=[replace(first, ranks=ranks)]), 80, terminal=True)
    part = drawn[drawn.index("Idle by rank") : drawn.index("Why: ")]
    assert "the 32 that idle most, and the 32 that idle least, of 1,000 ranks" in part
    assert part.count("%") == 64


def in_terminal(arguments, **environment):
    """What a command prints to a terminal of its own."""
    import pty

    pid, file = pty.fork()
    if pid == 0:
        os.environ.update(environment)
        os.execv(sys.executable, [sys.executable, "-m", "lbal.cli", *arguments])
    parts = []
    while True:
        try:
            part = os.read(file, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), b"".join(parts).decode()


def test_on_a_real_terminal_of_60_columns_without_colour():
    code, text = in_terminal(["analyze", STEPS], COLUMNS="60", NO_COLOR="1", PYTHONUTF8="1")
    assert code == 0
    assert "Idle over the steps" in text
    assert "Traceback" not in text
    assert re.findall(r"\x1b\[(?:[0-9;]*;)?[34][0-7]m", text) == []
    drawn = text[text.index("Idle over the steps") : text.index("Why: ")]
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in drawn.splitlines()) <= 60


# --- files and streams ---


def lbal_started(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "lbal.cli", *arguments], capture_output=True, check=False, **options)


def test_several_reports_at_once_with_spaces_and_unicode_in_their_path(tmp_path):
    folder = tmp_path / "a b ü 漢"
    folder.mkdir()
    outputs = [str(folder / f"r 1{suffix}") for cls in REPORTS.classes() for suffix in cls.suffixes[:1]]
    done = lbal_started("replay", STEPS, "--policy", "jsq", *[part for name in outputs for part in ("-o", name)])
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(Path(name).name for name in outputs)
    again = lbal_started("compare", str(folder / "r 1.json"), str(folder / "r 1.json"), "-o", str(folder / "c ü.md"))
    assert again.returncode == 0, again.stderr


def lbal_with_a_full_disk(*arguments):
    """Nothing it writes can be longer than 1 KiB: a disk that is full after that."""
    command = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", sys.executable, "-m", "lbal.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("suffix", [".csv", ".md", ".xml", ".json", ".txt"])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, suffix):
    out = tmp_path / f"r{suffix}"
    out.write_text("old")
    done = lbal_with_a_full_disk("replay", STEPS, "--policy", "jsq", "-o", str(out), "--force")
    assert done.returncode == 2, done.stderr
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith(f"lbal: {out}: cannot be written: File too large"), message
    assert "Traceback" not in done.stderr
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_baseline_survives_a_full_disk(tmp_path):
    head, base = tmp_path / "head.json", tmp_path / "base.json"
    assert run(["replay", STEPS, "--policy", "jsq", "-o", str(head)]) == 0
    base.write_text("old")
    done = lbal_with_a_full_disk("check", str(head), "--baseline", str(base), "--record-baseline")
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert base.read_text() == "old"


def test_new_commands_survive_a_terminal_without_utf8(tmp_path):
    out = str(tmp_path / "r ü.json")
    assert run(["replay", STEPS, "--policy", "jsq", "--policy", "jsq-kv", "-o", out]) == 0
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    for command in (["compare", out], ["check", out, "--fail-on", "steps>=1"]):
        done = lbal_started(*command, "-o", str(tmp_path / f"{command[0]}.md"), env=environment)
        assert done.returncode == 0, done.stderr
        done.stdout.decode("ascii")
    assert "ü" in (tmp_path / "compare.md").read_text(encoding="utf-8")


def test_a_reader_of_a_comparison_that_goes_away_is_no_error(tmp_path):
    out = str(tmp_path / "r.json")
    assert run(["replay", STEPS, "--policy", "jsq", "--policy", "jsq-kv", "-o", out]) == 0
    script = f"{sys.executable} -m lbal.cli compare '{out}' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""

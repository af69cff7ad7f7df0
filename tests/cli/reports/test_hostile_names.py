"""Every report shows names from files without letting them do anything: one claim for each report and each trick."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from dataclasses import replace

import pytest

from lbal.analyzers.result.report import REPORTS
from lbal.cli.main import run

TRICKS = {
    "escape sequence": "\x1b[2J\x1b]0;title\x07",
    "one-byte escape": "\x9b31m",
    "command at the start": "::error::forged",
    "command on a line of its own": "x\n::error::forged\n##[error]forged",
    "turned direction": "abc\u202etxt",
    "formula": '=HYPERLINK("http://x","y")',
    "formula with plus": "+1+cmd|' /C calc'!A0",
    "markup": "</summary><script>alert(1)</script><img src=x onerror=alert(1)>",
    "table": "a | b `c` ```\n| d |",
    "nothing to see": "a\u200bb\xad",
}
TEXT_REPORTS = sorted(set(REPORTS.names()) - {"perfetto"})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of replay, analyze, compare and check, as the reports get them; label, trace and policy to be replaced."""
    from lbal.analyzers.result.reading import read_result

    folder = tmp_path_factory.mktemp("results")
    lines = "".join(
        f'{{"request_id": {i}, "arrival_ms": {i * 20}, "prompt_tokens": {50 + i}, "output_tokens": {5 + i % 7}}}\n'
        for i in range(30)
    )
    (folder / "r.jsonl").write_text('{"lbal_trace": 1}\n' + lines)
    flags = ["--dp-size", "2", "--max-num-seqs", "4", "--policy", "jsq", "--policy", "fcfs"]
    out = str(folder / "replay.json")
    assert run(["replay", str(folder / "r.jsonl"), *flags, "-o", out]) == 0
    assert run(["compare", out, "--run", "jsq", "--base-run", "fcfs", "-o", str(folder / "compare.json")]) == 0
    assert run(["check", out, "--fail-on", "steps<=1", "--exit-zero", "-o", str(folder / "check.json")]) == 0
    return {
        "replay": read_result(out).result,
        **{name: json.loads((folder / f"{name}.json").read_text()) for name in ("compare", "check")},
    }


def with_name(results, name):
    """The replay's result with a trick wherever a name can stand."""
    result = results["replay"]
    return replace(
        result,
        headline=f"{name} loses least",
        notes=[f"note on {name}", name],
        inputs=[{**item, "name": name} for item in result.inputs],
        runs=[replace(one, label=f"{name}{index}", policy=name) for index, one in enumerate(result.runs)],
        headroom={**result.headroom, "findings": [name, f"of {name}"]},
        config={**result.config, "step_model": {**result.config["step_model"], "name": name}},
    )


@pytest.mark.parametrize("trick", TRICKS)
@pytest.mark.parametrize("report", TEXT_REPORTS)
def test_no_report_lets_a_name_act(results, report, trick):
    text = REPORTS.get(report)().render(with_name(results, TRICKS[trick]))
    if report == "html":
        text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    acting = [sign for sign in text if unicodedata.category(sign) in ("Cc", "Cf", "Cs") and sign != "\n"]
    assert not acting
    if report in ("table", "csv", "json", "junit"):
        assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]
        assert "##[" not in text
    if report == "table":
        assert text.count("\n") < 400


@pytest.mark.parametrize("trick", ["formula", "formula with plus"])
def test_no_cell_is_a_formula(results, trick):
    text = REPORTS.get("csv")().render(with_name(results, TRICKS[trick]))
    names = [cell for row in csv.reader(io.StringIO(text)) for cell in row if cell and not cell[0].isdigit()]
    formulas = [
        cell for cell in names if cell[0] in "=+@" or (cell[0] == "-" and not re.fullmatch(r"-[\d.e+-]+|-inf", cell))
    ]
    assert not formulas


def test_json_reads_back_what_the_name_was(results):
    for name in TRICKS.values():
        text = REPORTS.get("json")().render(with_name(results, name))
        assert json.loads(text)["runs"][0]["label"] == f"{name}0"


def test_markup_is_text(results):
    text = REPORTS.get("markdown")().render(with_name(results, TRICKS["markup"]))
    outside = re.sub(r"```json\n.*?\n```", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<(?!details>|/details>|summary>|/summary>)", outside)


@pytest.mark.parametrize("trick", TRICKS)
def test_messages_and_notes_are_plain(tmp_path, capsys, monkeypatch, trick):
    """A name in a file comes back in an error, a note and a table."""
    monkeypatch.chdir(tmp_path)
    name = TRICKS[trick]
    header = {"lbal_trace": 1, "engine": name, "warnings": [name]}
    lines = [{"step": i, "step_ms": 15, "kv_tokens": [100, 200], "num_running": [1, 2]} for i in range(3)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(record) + "\n" for record in (header, *lines)))
    (tmp_path / "bad.jsonl").write_text(json.dumps({"lbal_trace": 1, name: 3}) + "\n")
    assert run(["analyze", "t.jsonl"]) == 0
    assert run(["validate", "bad.jsonl"]) == 2
    captured = capsys.readouterr()
    for stream in captured:
        assert not [sign for sign in stream if unicodedata.category(sign) in ("Cc", "Cf", "Cs") and sign != "\n"]
        assert not [line for line in stream.splitlines() if line.lstrip().startswith(("::", "##["))]
    assert all(line.startswith("lbal: ") for line in captured.err.splitlines())
